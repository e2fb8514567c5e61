"""Which key opens which environment, without asking the store: a copy that is read again when something changed."""

import time
from collections.abc import Callable, Iterable

import structlog

from innkeeper_engine.copies import Copy
from innkeeper_engine.model.environments import BRANCH_MARK, Environment, EventKey, key_digest
from innkeeper_engine.store.environments import CHANGED, EnvironmentStore
from innkeeper_engine.store.notices import Notices

_log = structlog.get_logger(__name__)


class Environments:
    """The environments that are known here: fixed ones, and those in the store.

    A known key costs a look into a dictionary; see `Copy` for unknown ones.

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
        self._fixed = tuple(fixed)
        self._version = -1
        self._index = _Index(self._fixed, ())
        self._copy: Copy | None = None
        if notices is not None:
            self._copy = Copy(
                "environments", self._read, notices, CHANGED, timeout_s=timeout_s, monotonic_s=monotonic_s
            )

    async def by_event_key(self, key: str) -> tuple[Environment, EventKey] | None:
        """The environment that this key sends events to, and what it may.

        Raises:
            StoreError, StoreUnavailableError, TimeoutError: the key is not known, and the store could not be asked.
        """
        digest = key_digest(key)
        found = self._index.event_keys.get(digest)
        if self._copy is None:
            return found
        if found is not None:
            self._copy.was_used()
        elif await self._copy.looked_again():
            found = self._index.event_keys.get(digest)
        return found

    async def by_signing_key(self, digest: str) -> Environment | None:
        """The environment of the signing key with this digest (see `SigningKey.digests`).

        Raises:
            StoreError, StoreUnavailableError, TimeoutError: as `by_event_key`.
        """
        found = self._index.signing_keys.get(digest)
        if self._copy is None:
            return found
        if found is not None:
            self._copy.was_used()
        elif await self._copy.looked_again():
            found = self._index.signing_keys.get(digest)
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
        if self._copy is not None:
            await self._copy.refresh()

    async def close(self) -> None:
        """End reads that are under way. The notices are their owner's to close."""
        if self._copy is not None:
            await self._copy.close()

    async def _read(self) -> None:
        assert self._store is not None
        snapshot = await self._store.read_if_not(self._version)
        if snapshot is not None:
            self._version = snapshot.version
            self._index = _Index(self._fixed, snapshot.environments)
            _log.info("environments read", count=len(snapshot.environments), version=snapshot.version)


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
