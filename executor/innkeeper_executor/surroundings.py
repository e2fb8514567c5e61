"""What decisions and calls of this process may look at: clock, ids, chance, the registry, the sealer, apps' keys."""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from innkeeper_apps.fetch import prepare
from innkeeper_apps.sealing import Sealer
from innkeeper_apps.wire.canonical import canonical
from innkeeper_engine.decide.context import Context
from innkeeper_engine.model.calls import Op, Target
from innkeeper_engine.model.clock import Clock, Ids
from innkeeper_engine.model.functions import App
from innkeeper_engine.model.reach import Reach
from innkeeper_engine.model.state import Applied
from innkeeper_engine.registry import Registries
from innkeeper_engine.store.store import Store
from innkeeper_engine.switching import hold_again
from innkeeper_executor.settings import ExecutorSettings

_KNOWN_TARGETS = 10_000


class Surroundings:
    """Makes the context of each decision, and knows with which keys an app is called."""

    def __init__(
        self,
        store: Store,
        settings: ExecutorSettings,
        sealer: Sealer,
        clock: Clock,
        ids: Ids,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.ids = ids
        self._sealer = sealer
        self._chance = chance
        self._store = store
        self._registries = self._read_anew()
        self._version = 0
        self._targets: dict[tuple[tuple[bytes, ...], Reach], Target] = {}

    def reconnected(self) -> None:
        """The server may be another one, or one that came back without its data: its versions begin anew."""
        self._registries = self._read_anew()
        self._version = 0

    def _read_anew(self) -> Registries:
        return Registries(self._store, partial(hold_again, self._store))

    def saw_version(self, version: int) -> None:
        """A script said that the registry is at this version: older ones are not good enough any more."""
        self._version = max(self._version, version)

    def outdated(self, version: int, applied: Applied) -> bool:
        """Whether a decision on this version of the registry was refused because there is another one by now.

        The next context has that one.
        """
        if applied.status != "moved" or applied.registry == version:
            return False
        if applied.registry < version:
            # Versions only rise: this server has lost its data.
            self.reconnected()
        self.saw_version(applied.registry)
        return True

    async def context(self, env: str) -> Context:
        """The context of a decision for this environment, now."""
        now_ms = self.clock.now_ms()
        return Context(
            now_ms=now_ms,
            chance=self._chance(),
            new_id=self.new_id,
            canonical=canonical,
            seal=self.seal,
            registry=await self._registries.at_least(env, self._version),
            policy=self.settings.policy,
            limits=self.settings.limits,
        )

    def target(self, app: App, own: Target, reach: Reach) -> Target:
        """How to talk to an app, at an address of this reach: with its own keys, or this executor's where it has none.

        Raises:
            ValueError: the app's keys were sealed with another encryption key.
        """
        known = (app.signing_keys, reach)
        target = self._targets.get(known)
        if target is None:
            keys = [self._sealer.unseal(sealed).decode() for sealed in app.signing_keys[:2]]
            target = msgspec.structs.replace(own, reach=reach)
            if keys:
                fallback = keys[1] if len(keys) > 1 else None
                target = Target(signing_key=keys[0], signing_key_fallback=fallback, reach=reach)
            if len(self._targets) >= _KNOWN_TARGETS:
                self._targets.clear()
            self._targets[known] = target
        return target

    def new_id(self) -> str:
        """A ULID of now."""
        return self.ids.ulid(self.clock.now_ms())

    def seal(self, op: Op) -> bytes:
        """The request that a fetch operation asks for, prepared and encrypted."""
        return self._sealer.seal(msgspec.json.encode(prepare(op)))

    def unseal(self, sealed: bytes, kind: type[Any]) -> Any:
        """A request that `seal` made. Raises ValueError when it does not open, or is of another shape."""
        plain = self._sealer.unseal(sealed)
        try:
            return msgspec.json.decode(plain, type=kind)
        except msgspec.MsgspecError:
            raise ValueError(
                "the sealed request has an unknown shape; was it written by a newer version?"
            ) from None
