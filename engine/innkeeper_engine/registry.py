"""The registry as the store has it: read when it changes, compiled once."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import structlog

from innkeeper_engine.compiled import FunctionEntry, Registry, app_uuid, function_uuid
from innkeeper_engine.model.cancellations import Cancellation
from innkeeper_engine.model.functions import App
from innkeeper_engine.model.switches import Switch
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_engine.store.store import Store

MOST_KNOWN = 4_096
"""Environments whose registry is kept compiled: names of branches come from outside."""

__all__ = [
    "FunctionEntry",
    "Registries",
    "Registry",
    "app_uuid",
    "function_uuid",
    "read_apps",
    "read_cancellations",
    "read_switches",
]

_log = structlog.get_logger(__name__)


class Registries:
    """The current registry of each environment, read again when the store says that it changed."""

    def __init__(self, store: Store, on_read: Callable[[Registry], Awaitable[object]] | None = None) -> None:
        """`on_read` is called with each registry that was read, before anybody gets it."""
        self._store = store
        self._on_read = on_read
        self._environments = EnvironmentStore(store)
        self._known: dict[str, Registry] = {}
        self._reading = asyncio.Lock()

    async def current(self, env: str) -> Registry:
        """The registry as it is now: asks the store for its version (one round trip when nothing changed)."""
        return await self.at_least(env, await self._store.registry_version())

    async def at_least(self, env: str, version: int) -> Registry:
        """A registry no older than `version`; no round trip when the known one is not."""
        known = self._known.get(env)
        if known is not None and known.version >= version:
            return known
        async with self._reading:
            known = self._known.get(env)
            if known is not None and known.version >= version:
                return known
            # The version first: what is read after it is at least as new.
            version = await self._store.registry_version()
            apps, cancellations, switches, granted = await asyncio.gather(
                read_apps(self._store, env),
                read_cancellations(self._store, env),
                read_switches(self._store, env),
                self._environments.granted(env),
            )
            registry = Registry(
                env,
                version,
                apps.values(),
                account=granted.account,
                egress_allow=granted.egress_allow,
                cancellations=cancellations.values(),
                switches=switches,
            )
            if self._on_read is not None:
                await self._on_read(registry)
            self._known.pop(env, None)
            if len(self._known) >= MOST_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[env] = registry
            return registry

    def known(self, env: str) -> Registry | None:
        """The registry as it was last read."""
        return self._known.get(env)


async def read_apps(store: Store, env: str) -> dict[str, App]:
    """The apps of an environment, by id, as they are registered: whatever is switched."""
    blobs = await store.registrations(env)
    return {app_id: msgspec.json.decode(blob, type=App) for app_id, blob in blobs.items()}


async def read_cancellations(store: Store, env: str) -> dict[str, Cancellation]:
    """The cancellations of many runs in an environment, by id, without those that cannot be read here."""
    return _decoded(await store.cancellations(env))


async def read_switches(store: Store, env: str) -> dict[str, Switch]:
    """The switches of an environment, by name, without those that cannot be read here."""
    found = {}
    for name, blob in (await store.switches(env)).items():
        try:
            found[name] = msgspec.json.decode(blob, type=Switch)
        except msgspec.MsgspecError as error:
            # Of a later version, perhaps. What it holds in the queue stays held all the same.
            _log.error("a switch cannot be read", env=env, switch=name, why=str(error))
    return found


def _decoded(blobs: Mapping[str, bytes]) -> dict[str, Cancellation]:
    found = {}
    for cancellation_id, blob in blobs.items():
        try:
            found[cancellation_id] = msgspec.json.decode(blob, type=Cancellation)
        except msgspec.MsgspecError as error:
            # Of a later version, perhaps, whose executors see to it. Those that can be read must still count.
            _log.error("a cancellation cannot be read", cancellation=cancellation_id, why=str(error))
    return found
