"""The registry in Redis as the operator uses it: read when it has changed, written app by app."""

import hashlib
from collections.abc import Callable, Iterable

import msgspec

from innkeeper_engine.model.clock import Clock, Ids
from innkeeper_engine.model.functions import App
from innkeeper_engine.model.state import FunctionCounts
from innkeeper_engine.model.switches import Switch
from innkeeper_engine.registering import cancel_app_runs, register_app, remove_app
from innkeeper_engine.registry import read_switches
from innkeeper_engine.store.store import Store

_CANCEL_ROUNDS = 50
"""Of a thousand runs each; what is left then is cancelled when the app is looked at again."""


class RunsLeftError(Exception):
    """More runs than one look at an app cancels; the next look goes on."""


class RegistryIO:
    """Reads and writes registrations. Every method may raise StoreError and StoreUnavailableError."""

    def __init__(
        self, store: Store, clock: Clock, ids: Ids, on_new: Callable[[], None] = lambda: None
    ) -> None:
        """`on_new` is called when the registry turns out to be another one than before."""
        self._store = store
        self._clock = clock
        self._ids = ids
        self._on_new = on_new
        self._id = ""
        self._version = -1
        self._apps: dict[str, dict[str, App]] = {}
        self._switches: dict[str, dict[str, Switch]] = {}

    async def id(self) -> str:
        """Which registry this is: another one has nothing of what was written before."""
        found = await self._store.registry_id()
        if found != self._id:
            before, self._id = self._id, found
            if before:
                self._forget()
                self._on_new()
        return found

    async def apps(self, env: str) -> dict[str, App]:
        """What is registered in an environment, by app id. Not to be changed."""
        version = await self._look()
        known = self._apps.get(env)
        if known is None:
            blobs = await self._store.registrations(env)
            known = {app_id: msgspec.json.decode(blob, type=App) for app_id, blob in blobs.items()}
            if version == self._version:
                self._apps[env] = known
        return known

    async def switches(self, env: str) -> dict[str, Switch]:
        """Pauses over the API in an environment, by name. Not to be changed."""
        version = await self._look()
        known = self._switches.get(env)
        if known is None:
            known = await read_switches(self._store, env)
            if version == self._version:
                self._switches[env] = known
        return known

    async def _look(self) -> int:
        """The registry's version; what is known of another one is forgotten."""
        version = await self._store.registry_version()
        if version != self._version:
            self._version = version
            self._forget()
        return version

    def _forget(self) -> None:
        self._apps.clear()
        self._switches.clear()

    async def environments(self) -> list[str]:
        """Environments that have had an app."""
        return await self._store.environments()

    async def register(self, env: str, app: App) -> None:
        """Make this the app's registration.

        Raises:
            FunctionTakenError: a function's slug is that of another app's. Nothing is written.
        """
        await register_app(self._store, env, app, now_ms=self._clock.now_ms())

    async def remove(self, env: str, app_id: str) -> None:
        """Take an app out of the registry."""
        await remove_app(self._store, env, app_id, now_ms=self._clock.now_ms())

    async def cancel_runs(self, env: str, app_id: str) -> None:
        """Cancel all runs of an app.

        Raises:
            RunsLeftError: there are too many to do so in one go.
        """
        left = 0
        for _ in range(_CANCEL_ROUNDS):
            left = await cancel_app_runs(self._store, env, app_id, self._ids, now_ms=self._clock.now_ms())
            if not left:
                return
        raise RunsLeftError(f"{left} runs of the app {app_id!r} are still to be cancelled")

    async def live_runs(self, env: str, slugs: Iterable[str]) -> dict[str, int]:
        """How many runs of each of these functions have not ended."""
        wanted = list(slugs)
        return await self._store.live_runs(env, wanted) if wanted else {}

    async def counts(self, env: str, slugs: Iterable[str]) -> dict[str, FunctionCounts]:
        """What each of these functions has to do and has done."""
        return await self._store.function_counts(env, slugs)


def registry_mark(registry_id: str, env: str) -> str:
    """Names one environment of one registry: what `status.sync.registry` remembers.

    An app that comes into another environment is registered nowhere there, and has to be asked just as well.
    """
    return f"{registry_id}.{hashlib.sha256(env.encode()).hexdigest()[:8]}"
