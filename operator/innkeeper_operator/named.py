"""Watches of single Secrets by their names, for clusters whose admin grants exactly those.

RBAC with `resourceNames` refuses plain lists, and a label selector too, but lets through lists and watches with the
field selector `metadata.name=<name>`. kopf has one selector per kind, so these watches are made here: one task per
Secret that an app refers to, and one for each namespace's own keys.
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
from innkeeper_operator.world import SECRETS, Dirty, Key, World

Json = dict[str, Any]

_log = structlog.get_logger(__name__)

_RETRY_S: Final = (1.0, 60.0)
_QUIET_S: Final = 330
"""The API server is asked to end a watch after 300 s; one that says nothing for longer is dead."""


class _ExpiredError(Exception):
    """The watch cannot go on from where it was."""


class NamedSecrets:
    """Keeps the Secrets of some names in a `World`."""

    def __init__(
        self,
        cluster: Cluster,
        world: World,
        on_dirty: Callable[[Dirty], None],
        on_restart: Callable[[str], None] = lambda _kind: None,
    ) -> None:
        self._cluster = cluster
        self._world = world
        self._on_dirty = on_dirty
        self._on_restart = on_restart
        self._session: aiohttp.ClientSession | None = None
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._listed: dict[Key, asyncio.Event] = {}

    async def want(self, keys: Iterable[Key]) -> None:
        """Watch exactly these Secrets; returns once the new ones have been asked for, or could not be."""
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
                self._follow(self._session, key, listed), name=f"secret {key}"
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
                self._on_restart(SECRETS)
            except (ApiError, aiohttp.ClientError, TimeoutError, OSError) as error:
                if isinstance(error, ApiError) and error.status == 403:
                    # Not an error to be loud about: an app may name what the admin does not grant.
                    self._drop(key)
                listed.set()
                self._on_restart(SECRETS)
                _log.warning(
                    "cannot watch a Secret", namespace=key[0], name=key[1], error=str(error), retry_s=wait_s
                )
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, longest_s)

    async def _list(self, key: Key) -> str:
        query = {"fieldSelector": f"metadata.name={key[1]}"}
        answer = await self._cluster.request("GET", RESOURCES[SECRETS].path(key[0]), query=query)
        items = answer.get("items") or ()
        known = self._world.secret(key)
        if known is not None and known.meta.uid not in {raw["metadata"].get("uid") for raw in items}:
            self._drop(key)
        for raw in items:
            self._on_dirty(self._world.put(SECRETS, raw))
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
        url = self._cluster.configuration.host + RESOURCES[SECRETS].path(key[0])
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
                    self._on_dirty(self._world.drop(SECRETS, *key, str(raw["metadata"]["uid"]), version))
                elif kind in ("ADDED", "MODIFIED"):
                    self._on_dirty(self._world.put(SECRETS, raw))
        return version

    def _drop(self, key: Key) -> None:
        self._on_dirty(self._world.forget(SECRETS, key))


async def _events(reply: aiohttp.ClientResponse) -> AsyncIterator[Json]:
    """One JSON object per line; a line may be longer than what aiohttp reads as one."""
    rest = b""
    async for chunk in reply.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield json.loads(line)
