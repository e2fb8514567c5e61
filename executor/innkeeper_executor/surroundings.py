"""What decisions of this process may look at: clock, ids, chance, the registry, the sealer."""

import random
from collections.abc import Callable
from typing import Any

import msgspec

from innkeeper_apps.fetch import prepare
from innkeeper_apps.sealing import Sealer
from innkeeper_apps.wire.canonical import canonical
from innkeeper_engine.decide.context import Context
from innkeeper_engine.model.calls import Op
from innkeeper_engine.model.clock import Clock, Ids
from innkeeper_engine.registry import Registries
from innkeeper_engine.store.store import Store
from innkeeper_executor.settings import ExecutorSettings


class Surroundings:
    """Makes the context of each decision."""

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
        self._registries = Registries(store)
        self._version = 0

    def reconnected(self) -> None:
        """The server may be another one, or one that came back without its data: its versions begin anew."""
        self._registries = Registries(self._store)
        self._version = 0

    def saw_version(self, version: int) -> None:
        """A script said that the registry is at this version: older ones are not good enough any more."""
        self._version = max(self._version, version)

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
