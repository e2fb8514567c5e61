"""Watches of single objects by their names: of Secrets, for clusters whose admin grants exactly those, and of the
ConfigMaps that Webhooks name, since nothing is to be kept of all the others.

RBAC with `resourceNames` refuses plain lists, and a label selector too, but lets through lists and watches with the
field selector `metadata.name=<name>`. kopf has one selector per kind, so these watches are made here: one task per
object.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Final

import aiohttp
import structlog

from innkeeper_operator.cluster import RESOURCES, Cluster
from innkeeper_operator.errors import ApiError
from innkeeper_operator.sessions import open_session
from innkeeper_operator.world import Dirty, Key, World

Json = dict[str, Any]

_log = structlog.get_logger(__name__)

_RETRY_S: Final = (1.0, 60.0)
_QUIET_S: Final = 330
"""The API server is asked to end a watch after 300 s; one that says nothing for longer is dead."""


class _ExpiredError(Exception):
    """The watch cannot go on from where it was."""


class Named:
    """Keeps the objects of one kind that have some names in a `World`."""

    def __init__(
        self,
        kind: str,
        cluster: Cluster,
        world: World,
        on_dirty: Callable[[Dirty], None],
        on_restart: Callable[[str], None] = lambda _kind: None,
    ) -> None:
        self._kind = kind
        self._cluster = cluster
        self._world = world
        self._on_dirty = on_dirty
        self._on_restart = on_restart
        self._session: aiohttp.ClientSession | None = None
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._listed: dict[Key, asyncio.Event] = {}

    async def want(self, keys: Iterable[Key]) -> None:
        """Watch exactly these; returns once the new ones have been asked for, or could not be."""
        wanted = set(keys)
        for key in set(self._tasks) - wanted:
            self._tasks.pop(key).cancel()
            self._listed.pop(key)
            self._drop(key)
        if self._session is None:
            self._session = open_session(self._cluster.configuration)
        for key in wanted - set(self._tasks):
            listed = self._listed[key] = asyncio.Event()
            self._tasks[key] = asyncio.create_task(
                self._follow(self._session, key, listed), name=f"{self._kind} {key}"
            )
        await asyncio.gather(*(event.wait() for event in list(self._listed.values())))

    async def close(self) -> None:
        """End all watches."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _follow(self, session: aiohttp.ClientSession, key: Key, listed: asyncio.Event) -> None:
        wait_s, longest_s = _RETRY_S
        while True:
            try:
                version = await self._list(key)
                listed.set()
                wait_s = _RETRY_S[0]
                while True:
                    version = await self._watch(session, key, version)
            except _ExpiredError:
                self._on_restart(self._kind)
            except (ApiError, aiohttp.ClientError, TimeoutError, OSError) as error:
                if isinstance(error, ApiError) and error.status == 403:
                    # Not an error to be loud about: an app may name what the admin does not grant.
                    self._drop(key)
                listed.set()
                self._on_restart(self._kind)
                _log.warning(
                    "cannot watch an object by its name",
                    kind=self._kind,
                    namespace=key[0],
                    name=key[1],
                    error=str(error),
                    retry_s=wait_s,
                )
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, longest_s)

    async def _list(self, key: Key) -> str:
        query = {"fieldSelector": f"metadata.name={key[1]}"}
        answer = await self._cluster.request("GET", RESOURCES[self._kind].path(key[0]), query=query)
        items = answer.get("items") or ()
        there = {raw["metadata"].get("uid") for raw in items}
        known = self._world.uids(self._kind, key[0])
        if any(place == key and uid not in there for uid, place in known.items()):
            self._drop(key)
        for raw in items:
            self._on_dirty(self._world.put(self._kind, raw))
        return str((answer.get("metadata") or {}).get("resourceVersion") or "")

    async def _watch(self, session: aiohttp.ClientSession, key: Key, version: str) -> str:
        """Follow one watch to its end; returns the version from which the next one goes on.

        Raises:
            _ExpiredError: list anew.
            aiohttp.ClientError, TimeoutError: the connection broke.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "fieldSelector": f"metadata.name={key[1]}",
            "resourceVersion": version,
            "timeoutSeconds": "300",
        }
        url = self._cluster.configuration.host + RESOURCES[self._kind].path(key[0])
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=_QUIET_S)
        async with session.get(url, params=query, timeout=timeout) as reply:
            if reply.status == 410:
                raise _ExpiredError
            reply.raise_for_status()
            async for event in _events(reply):
                raw = event.get("object") or {}
                kind = event.get("type")
                if kind == "ERROR":
                    if raw.get("code") == 410:
                        raise _ExpiredError
                    raise ApiError(int(raw.get("code") or 0), str(raw.get("reason")), str(raw.get("message")))
                version = str((raw.get("metadata") or {}).get("resourceVersion") or version)
                if kind == "DELETED":
                    self._on_dirty(self._world.drop(self._kind, *key, str(raw["metadata"]["uid"]), version))
                elif kind in ("ADDED", "MODIFIED"):
                    self._on_dirty(self._world.put(self._kind, raw))
        return version

    def _drop(self, key: Key) -> None:
        self._on_dirty(self._world.forget(self._kind, key))


async def _events(reply: aiohttp.ClientResponse) -> AsyncIterator[Json]:
    """One JSON object per line; a line may be longer than what aiohttp reads as one."""
    rest = b""
    async for chunk in reply.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield json.loads(line)
