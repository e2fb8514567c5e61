"""Keeps the limits that the scheduler knows of those by which this executor queues."""

import asyncio

import structlog

from innkeeper_engine.decide.context import Context
from innkeeper_engine.registering import limits_are_written, write_limits
from innkeeper_engine.registry import FunctionEntry
from innkeeper_engine.store.store import Store

AGAIN_MS = 30_000
"""Between two writes of one function's limits: executors of two versions may want different ones for a while."""

_MOST_KNOWN = 10_000

log = structlog.get_logger("innkeeper.executor")


class Limits:
    """Mends the limits of functions whose registration another version has written.

    The names of lanes say by which keys they are. Under keys that the scheduler does not know nothing is called, so
    whoever keys an item again sees to it that the scheduler knows them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[str, int] = {}
        """Function -> the version of the registry at which its limits were as they should be."""
        self._written_ms: dict[str, int] = {}
        self._turn = asyncio.Lock()

    async def see_to(self, entry: FunctionEntry, context: Context) -> None:
        """Write the function's limits where the scheduler has others.

        No round trip where the registry has not changed since they were right; `AGAIN_MS` pass between two writes.

        Raises:
            StoreError, StoreUnavailableError: the store was not asked, or did not do it.
        """
        registry = context.registry
        # Many items of one function come at once: the others wait for what the first of them writes.
        async with self._turn:
            if self._seen.get(entry.key) == registry.version:
                return
            if await limits_are_written(self._store, entry):
                _keep(self._seen, entry.key, registry.version)
                return
            written_ms = self._written_ms.get(entry.key)
            if written_ms is not None and context.now_ms - written_ms < AGAIN_MS:
                return
            # Where it is another registry by now, the item comes up again, and what that one says is looked at.
            if await write_limits(self._store, registry, entry.config.slug):
                _keep(self._written_ms, entry.key, context.now_ms)
                log.info(
                    "limits that another version had registered are written anew",
                    env=registry.env,
                    function=entry.config.slug,
                )


def _keep(known: dict[str, int], key: str, value: int) -> None:
    known.pop(key, None)
    if len(known) >= _MOST_KNOWN:
        del known[next(iter(known))]
    known[key] = value
