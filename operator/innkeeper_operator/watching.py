"""What happens in the cluster becomes the operator's picture of it (`World`).

First everything is listed, so that nothing is decided on half a picture; then kopf watches, with `on.event` handlers
only: those write nothing to any object, neither annotations nor finalizers. kopf runs in a thread with an event loop
of its own, because it ends every task of its loop when it ends, and busy lists must not hold up the lease.

When a watch has expired, kopf lists anew, and says nothing of what has gone in between. So whenever it has listed,
the uids are listed once more, and what is not among them is dropped.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

import aiohttp
import kopf
import msgspec
import structlog

from innkeeper_operator.cluster import RESOURCES, Cluster
from innkeeper_operator.errors import ApiError
from innkeeper_operator.objects import KEY_LABEL, SERVICE_NAME, Json
from innkeeper_operator.sessions import open_session
from innkeeper_operator.world import (
    APPS,
    FUNCTIONS,
    NAMESPACES,
    PODS,
    SECRETS,
    SERVICES,
    SLICES,
    WEBHOOKS,
    Dirty,
    World,
)

_log = structlog.get_logger(__name__)

_SELECTORS: Final = {SECRETS: KEY_LABEL, SLICES: SERVICE_NAME}
"""Label selectors: what has not the label is not asked for."""
_LIGHT: Final = frozenset({PODS})
"""Kinds of which only the metadata is looked at."""
_CRD_KINDS: Final = (APPS, FUNCTIONS, WEBHOOKS)
_RETRY_S: Final = (1.0, 30.0)
_GRACE_S: Final = 0.5
_STOP_S: Final = 10.0


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What is watched."""

    namespaces: tuple[str, ...] = ()
    """None: all of them."""
    secrets: bool = True
    """Watch labelled Secrets; False: Secrets are read one by one, by their names."""

    @property
    def places(self) -> Sequence[str | None]:
        """Where to look: each namespace, or None for all."""
        return self.namespaces or (None,)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Plurals of what is watched."""
        secrets = (SECRETS,) if self.secrets else ()
        # Namespaces belong to no namespace: an operator that was given a few may not look at them all.
        namespaces = () if self.namespaces else (NAMESPACES,)
        return (*namespaces, *secrets, SERVICES, SLICES, PODS, FUNCTIONS, APPS, WEBHOOKS)

    def collections(self) -> dict[str, tuple[str, str | None]]:
        """Every path that is watched: its kind and its namespace."""
        return {
            RESOURCES[kind].path(place): (kind, place if RESOURCES[kind].namespaced else None)
            for kind in self.kinds
            for place in self.places
        }


class Watching:
    """Keeps a `World` up to date."""

    def __init__(
        self,
        cluster: Cluster,
        world: World,
        scope: Scope,
        on_dirty: Callable[[Dirty], None],
        *,
        on_restart: Callable[[str], None] = lambda _kind: None,
    ) -> None:
        """`on_dirty` hears what is to be looked at again, `on_restart` the kind of a watch that had to list anew."""
        self._cluster = cluster
        self._world = world
        self._scope = scope
        self._on_dirty = on_dirty
        self._on_restart = on_restart
        self._collections = scope.collections()
        self._listed: set[str] = set()
        self._pruning: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self.ready = asyncio.Event()
        """Set once everything has been listed."""
        self.problem = "nothing was listed yet"
        """Why it is not ready, or what is wrong now; empty: nothing."""

    async def run(self) -> None:
        """Watch until cancelled; what breaks is begun anew."""
        wait_s, longest_s = _RETRY_S
        try:
            while True:
                try:
                    await self._fill()
                    self.problem = ""
                    self.ready.set()
                    wait_s = _RETRY_S[0]
                    await self._watch()
                    self.problem = "the watches ended"
                    _log.warning("the watches ended; beginning anew")
                except ApiError as error:
                    self._say(error, wait_s)
                except Exception as error:
                    self.problem = f"the watches broke: {error}"
                    _log.warning("the watches broke; beginning anew", error=repr(error), retry_s=wait_s)
                self._on_restart("all")
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, longest_s)
        finally:
            tasks = list(self._pruning.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _say(self, error: ApiError, retry_s: float) -> None:
        missing = error.status == 404 and any(
            RESOURCES[kind].group_version.split("/")[0] in str(error) for kind in _CRD_KINDS
        )
        if missing:
            self.problem = (
                "the CustomResourceDefinitions of innkeeper.dev are not installed: kubectl apply -f crds/ (the chart "
                "does it with crds.install)"
            )
        elif error.status == 403:
            self.problem = f"the operator's role does not allow what it must read: {error}"
        else:
            self.problem = str(error)
        _log.warning("cannot watch the cluster yet", why=self.problem, retry_s=retry_s)

    # ---- listing

    async def _fill(self) -> None:
        """List everything, and forget what is not there.

        Raises:
            ApiError: something cannot be listed.
        """
        for path, (kind, place) in self._collections.items():
            before = self._world.uids(kind, place)
            items = await self._cluster.list_all(
                kind, place, labels=_SELECTORS.get(kind, ""), metadata_only=kind in _LIGHT
            )
            for raw in items:
                self._on_dirty(self._world.put(kind, raw))
            self._forget(kind, before, items)
            self._listed.discard(path)

    def _forget(self, kind: str, before: dict[str, tuple[str, str]], items: list[Json]) -> None:
        """Drop what was known before a list was asked for and is not in it."""
        there = {str((raw.get("metadata") or {}).get("uid") or "") for raw in items}
        for uid, (namespace, name) in before.items():
            if uid not in there:
                self._on_dirty(self._world.drop(kind, namespace, name, uid))

    def _relisted(self, path: str) -> None:
        """kopf has listed a collection."""
        if path not in self._collections:
            return
        if path in self._listed:
            self._on_restart(self._collections[path][0])
        self._listed.add(path)
        if path in self._pruning:
            self._again.add(path)
            return
        self._pruning[path] = asyncio.create_task(self._prune(path), name=f"prune {path}")

    async def _prune(self, path: str) -> None:
        kind, place = self._collections[path]
        wait_s, longest_s = _RETRY_S
        try:
            while True:
                self._again.discard(path)
                before = self._world.uids(kind, place)
                try:
                    items = await self._cluster.list_all(
                        kind, place, labels=_SELECTORS.get(kind, ""), metadata_only=True
                    )
                except ApiError as error:
                    _log.warning("cannot compare with the cluster yet", kind=kind, error=str(error))
                    await asyncio.sleep(wait_s)
                    wait_s = min(wait_s * 2, longest_s)
                    continue
                self._forget(kind, before, items)
                if path not in self._again:
                    return
        finally:
            self._pruning.pop(path, None)

    # ---- watching

    def _learn(self, kind: str, change: str | None, raw: Json) -> None:
        if change == "DELETED":
            meta = raw.get("metadata") or {}
            gone = (str(meta.get(key) or "") for key in ("namespace", "name", "uid", "resourceVersion"))
            self._on_dirty(self._world.drop(kind, *gone))
        else:
            self._on_dirty(self._world.put(kind, raw))

    async def _watch(self) -> None:
        """Run kopf in a thread until it ends by itself (then return, or raise what it raised) or is cancelled."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        thread = _Kopf(self._cluster, self._scope, loop, self._learn, self._relisted, ended)
        thread.start()
        try:
            await ended
        finally:
            thread.stop()
            if not await asyncio.to_thread(thread.wait, _STOP_S):
                _log.warning("the watches did not end in time; leaving them behind")


class _Kopf:
    """kopf on an event loop of its own."""

    def __init__(
        self,
        cluster: Cluster,
        scope: Scope,
        home: asyncio.AbstractEventLoop,
        learn: Callable[[str, str | None, Json], None],
        relisted: Callable[[str], None],
        ended: "asyncio.Future[None]",
    ) -> None:
        self._cluster = cluster
        self._scope = scope
        self._home = home
        self._learn = learn
        self._relisted = relisted
        self._ended = ended
        self._loop: asyncio.AbstractEventLoop | None = None
        self._flag: asyncio.Event | None = None
        self._stopping = threading.Event()
        self._sessions: list[aiohttp.ClientSession] = []
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask for the end."""
        self._stopping.set()
        loop, flag = self._loop, self._flag
        if loop is not None and flag is not None:
            # It may have ended by itself a moment ago.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(flag.set)

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end; whether it came."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            asyncio.run(self._operate())
        except BaseException as caught:
            error = caught
        self._tell(self._finish, error)

    def _finish(self, error: BaseException | None) -> None:
        if self._ended.done():
            return
        if error is None or isinstance(error, asyncio.CancelledError):
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)

    def _tell(self, what: Callable[..., None], *args: Any) -> None:
        """Have something done on the operator's own loop, as long as there is one."""
        with contextlib.suppress(RuntimeError):
            self._home.call_soon_threadsafe(what, *args)

    async def _operate(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._flag = asyncio.Event()
        if self._stopping.is_set():
            return
        registry = kopf.OperatorRegistry()
        self._handle(registry)
        flagged = asyncio.create_task(self._flag.wait())
        # Begun after that: kopf ends whatever task is younger than itself.
        watching = asyncio.create_task(
            kopf.operator(
                registry=registry,
                settings=_settings(),
                standalone=True,
                clusterwide=not self._scope.namespaces,
                namespaces=self._scope.namespaces,
                stop_flag=self._flag,
                # Never of use without peering, and made of the host's name and user otherwise.
                identity="innkeeper",  # type: ignore[arg-type]
            )
        )
        try:
            await asyncio.wait({watching, flagged}, return_when=asyncio.FIRST_COMPLETED)
            # It waits for its tasks longer than anybody should wait for it.
            await asyncio.wait({watching}, timeout=_GRACE_S)
            if not watching.done():
                watching.cancel()
            await watching
        finally:
            flagged.cancel()
            for session in self._sessions:
                await session.close()

    def _handle(self, registry: kopf.OperatorRegistry) -> None:
        light = frozenset(path for path, (kind, _) in self._scope.collections().items() if kind in _LIGHT)

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.AiohttpSession:
            session = open_session(
                self._cluster.configuration,
                light=light,
                on_list=lambda path: self._tell(self._relisted, path),
            )
            self._sessions.append(session)
            return kopf.AiohttpSession(server=self._cluster.configuration.host, aiohttp_session=session)

        for kind in self._scope.kinds:
            self._on_event(registry, kind)

    def _on_event(self, registry: kopf.OperatorRegistry, kind: str) -> None:
        group, _, version = RESOURCES[kind].group_version.rpartition("/")

        @kopf.on.event(group, version, kind, registry=registry, id=kind)
        async def seen(event: Any, **_: Any) -> None:
            self._tell(self._learn, kind, event["type"], event["object"])


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    # CustomResourceDefinitions and namespaces are not looked for: that would need rights over the whole cluster.
    settings.scanning.disabled = True
    settings.process.ultimate_exiting_timeout = None
    settings.networking.error_backoffs = (0.5, 1, 2, 3, 5, 5, 5, 5)
    settings.networking.connect_timeout = 5
    settings.networking.request_timeout = 60
    settings.watching.reconnect_backoff = 0.5
    settings.watching.connect_timeout = 5
    for kind, selector in _SELECTORS.items():
        group, _, version = RESOURCES[kind].group_version.rpartition("/")
        settings.watching.label_selectors[group, version, kind] = selector
    return settings


def quieten() -> None:
    """What breaks a watch for good is logged here; kopf would tell of every request of every watch besides."""
    logging.getLogger("kopf").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
