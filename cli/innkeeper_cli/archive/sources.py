"""Ended runs and events as rows of an archive, page by page."""

from collections.abc import AsyncIterator
from typing import ClassVar, Protocol

from innkeeper_cli.archive.rows import EVENT_COLUMNS, RUN_COLUMNS, Column, Row, event_row, run_row
from innkeeper_cli.archive.windows import Window
from innkeeper_engine.store.archive import PAGE, Archive, Standing
from innkeeper_engine.store.reading import EndedRun
from innkeeper_engine.store.store import Store


class Source(Protocol):
    """Rows of one kind, by the time that windows go by."""

    kind: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]]

    def keep_s(self, standing: Standing) -> int:
        """How long these are kept."""

    def settled_ms(self, standing: Standing) -> int:
        """Up to when there will be no others, and no more to be said of these."""

    async def first_ms(self, env: str, within: Window) -> int | None:
        """When the first one in this time is; None where there is none. It may be gone when it is asked for."""

    def rows(self, env: str, within: Window) -> AsyncIterator[Row]:
        """All that are kept, in the order of their times."""


class Runs:
    """Runs by when they ended, skipped ones among them."""

    kind: ClassVar[str] = "runs"
    columns: ClassVar[tuple[Column, ...]] = RUN_COLUMNS

    def __init__(self, store: Store) -> None:
        self._store = store
        self._archive = Archive(store)

    def keep_s(self, standing: Standing) -> int:
        """How long ended runs are kept."""
        return standing.runs_keep_s

    def settled_ms(self, standing: Standing) -> int:
        """Up to when histories are complete."""
        return standing.settled_ms

    async def first_ms(self, env: str, within: Window) -> int | None:
        """When the first of them ended."""
        page = await self._store.ended_runs(env, from_ms=within.start_ms, until_ms=within.end_ms, limit=1)
        return page[0].ended_ms if page else None

    async def rows(self, env: str, within: Window) -> AsyncIterator[Row]:
        """All that are kept."""
        last: EndedRun | None = None
        while page := await self._store.ended_runs(
            env, from_ms=within.start_ms, until_ms=within.end_ms, after=last, limit=PAGE
        ):
            last, left = page[-1], page
            while left:
                found = await self._archive.runs(left)
                left = left[len(found) :]
                for run in found:
                    if run is not None:
                        yield run_row(run)


class Events:
    """Events by when they were received, the engine's own among them."""

    kind: ClassVar[str] = "events"
    columns: ClassVar[tuple[Column, ...]] = EVENT_COLUMNS

    def __init__(self, store: Store) -> None:
        self._archive = Archive(store)

    def keep_s(self, standing: Standing) -> int:
        """How long events are kept, at least: from when they are routed."""
        return standing.events_keep_s

    def settled_ms(self, standing: Standing) -> int:
        """Up to now: an event does not change."""
        return standing.now_ms

    async def first_ms(self, env: str, within: Window) -> int | None:
        """When the first of them was received."""
        page = await self._archive.events(env, from_ms=within.start_ms, until_ms=within.end_ms, limit=1)
        return int(page[0].entry.partition("-")[0]) if page else None

    async def rows(self, env: str, within: Window) -> AsyncIterator[Row]:
        """All that are kept."""
        after = ""
        while page := await self._archive.events(
            env, from_ms=within.start_ms, until_ms=within.end_ms, after=after
        ):
            after = page[-1].entry
            for each in page:
                if each.event is not None:
                    yield event_row(env, each.event)
