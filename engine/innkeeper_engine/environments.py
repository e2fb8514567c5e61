"""Which key opens which environment, without asking the store: a copy that is read again when something changed."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import structlog

from innkeeper_engine.model.environments import BRANCH_MARK, Environment, EventKey, key_digest
from innkeeper_engine.store.connection import StoreError, StoreUnavailableError
from innkeeper_engine.store.environments import CHANGED, EnvironmentStore
from innkeeper_engine.store.notices import Notices

READ_EVERY_S = 0.1
"""Between the beginnings of two reads, however many unknown keys come in."""
MOST_WAITING = 1_000
"""Requests with unknown keys that wait for a read; more are refused on what is known."""

_RETRY_S = (0.05, 2.0)

_log = structlog.get_logger(__name__)


class Environments:
    """The environments that are known here: fixed ones, and those in the store.

    A known key costs a look into a dictionary. The copy is read anew after each notice of a change, and whenever
    notices may have been missed. An unknown key is refused only on a copy that was read after it came: a key that was
    written before it was first used is never refused, even where the notice is late.

    What is looked up are digests of keys: the time that it takes says nothing of the keys themselves.
    """

    def __init__(
        self,
        store: EnvironmentStore | None = None,
        notices: Notices | None = None,
        *,
        fixed: Iterable[Environment] = (),
        timeout_s: float = 5.0,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`store` and `notices`: of the same shard; None where there are only `fixed` ones, which go first.

        `timeout_s`: how long a look-up waits for the store.
        """
        self._store = store
        self._notices = notices
        self._fixed = tuple(fixed)
        self._timeout_s = timeout_s
        self._monotonic_s = monotonic_s
        self._version = -1
        self._index = _Index(self._fixed, ())
        self._next: asyncio.Task[None] | None = None
        self._reading = asyncio.Lock()
        self._began_s = -READ_EVERY_S
        self._waiting = 0
        self._stale = False
        self._following = False
        self._tasks: set[asyncio.Task[None]] = set()
        if notices is not None:
            notices.tell(CHANGED, self._changed)

    async def by_event_key(self, key: str) -> tuple[Environment, EventKey] | None:
        """The environment that this key sends events to, and what it may.

        Raises:
            StoreError, StoreUnavailableError, TimeoutError: the key is not known, and the store could not be asked.
        """
        digest = key_digest(key)
        found = self._index.event_keys.get(digest)
        if found is None and await self._looked_again():
            found = self._index.event_keys.get(digest)
        elif self._notices is not None and not self._notices.subscribed:
            self._changed()
        return found

    async def by_signing_key(self, digest: str) -> Environment | None:
        """The environment of the signing key with this digest (see `SigningKey.digests`).

        Raises:
            StoreError, StoreUnavailableError, TimeoutError: as `by_event_key`.
        """
        found = self._index.signing_keys.get(digest)
        if found is None and await self._looked_again():
            found = self._index.signing_keys.get(digest)
        elif self._notices is not None and not self._notices.subscribed:
            self._changed()
        return found

    def by_name(self, name: str) -> Environment | None:
        """The record of this name, as it was last read."""
        return self._index.names.get(name)

    def by_namespace(self, namespace: str) -> Environment | None:
        """The environment that a Kubernetes namespace is in, as it was last read."""
        return self._index.namespaces.get(namespace)

    async def refresh(self) -> None:
        """Return when the copy is one that was read after this call.

        Raises:
            StoreError, StoreUnavailableError, TimeoutError: it could not be read.
        """
        if self._store is not None:
            async with asyncio.timeout(self._timeout_s):
                await asyncio.shield(self._next_read())

    async def close(self) -> None:
        """End reads that are under way. The notices are their owner's to close."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- reading

    async def _looked_again(self) -> bool:
        if self._store is None:
            return False
        if self._waiting >= MOST_WAITING:
            return False
        self._waiting += 1
        try:
            await self.refresh()
        finally:
            self._waiting -= 1
        return True

    def _next_read(self) -> asyncio.Task[None]:
        """The next read that has not begun; all who ask for one share it."""
        if self._notices is not None:
            self._notices.listen()
        if self._next is None:
            self._next = self._begin(self._read())
        return self._next

    async def _read(self) -> None:
        assert self._store is not None
        async with self._reading:
            await asyncio.sleep(max(0.0, self._began_s + READ_EVERY_S - self._monotonic_s()))
            # Whoever asks from here on wants one that begins later.
            self._next = None
            self._began_s = self._monotonic_s()
            snapshot = await self._store.read_if_not(self._version)
            if snapshot is not None:
                self._version = snapshot.version
                self._index = _Index(self._fixed, snapshot.environments)
                _log.info("environments read", count=len(snapshot.environments), version=snapshot.version)

    def _changed(self) -> None:
        """Read again soon, until that has worked."""
        self._stale = True
        if not self._following:
            self._following = True
            self._begin(self._follow())

    async def _follow(self) -> None:
        delay_s, longest_s = _RETRY_S
        while self._stale:
            self._stale = False
            try:
                await self.refresh()
                continue
            except (StoreError, StoreUnavailableError, TimeoutError) as error:
                why = str(error) or "no answer in time"
                _log.warning("environments could not be read", error=why, retry_s=delay_s)
            except Exception:
                _log.exception("environments could not be read", retry_s=delay_s)
            self._stale = True
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, longest_s)
        self._following = False

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="environments")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Whoever waits for a read has its error; where all of them have gone, nobody need know.
            task.exception()


class _Index:
    """Environments by what they are looked up by. Immutable."""

    def __init__(self, fixed: Iterable[Environment], read: Iterable[Environment]) -> None:
        self.names: dict[str, Environment] = {}
        self.event_keys: dict[str, tuple[Environment, EventKey]] = {}
        self.signing_keys: dict[str, Environment] = {}
        self.namespaces: dict[str, Environment] = {}
        for environment in (*fixed, *read):
            self.names[environment.name] = environment
            if BRANCH_MARK not in environment.name:
                self.namespaces |= dict.fromkeys(environment.namespaces, environment)
            for event_key in environment.event_keys:
                known, _ = self.event_keys.setdefault(event_key.digest, (environment, event_key))
                _check_owner(known, environment, event_key.name)
            for signing_key in environment.signing_keys:
                for digest in signing_key.digests:
                    owner = self.signing_keys.setdefault(digest, environment)
                    _check_owner(owner, environment, signing_key.name)


def _check_owner(known: Environment, environment: Environment, key: str) -> None:
    if known.name != environment.name:
        _log.warning(
            "a key of one environment is also in another, where it opens nothing",
            key=key,
            opens=known.name,
            other=environment.name,
        )
