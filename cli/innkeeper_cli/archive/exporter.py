"""Writes the windows that an archive does not have yet."""

from collections.abc import Callable
from typing import NamedTuple

from innkeeper_cli.archive.destinations import Destination
from innkeeper_cli.archive.formats import FORMATS
from innkeeper_cli.archive.manifest import Manifest, read_progress, write_progress
from innkeeper_cli.archive.sources import Source
from innkeeper_cli.archive.windows import (
    Gap,
    Progress,
    Wanted,
    Window,
    advanced,
    bounds,
    gap,
    path_of,
    window_at,
)
from innkeeper_engine.store.archive import Standing


class Written(NamedTuple):
    """What an export of one kind in one environment came to."""

    kind: str
    env: str
    files: int
    rows: int
    through_ms: int | None
    """How far the archive goes now, with what it had; None where nothing is known."""
    held_back_ms: int
    """How much of it must wait, since the recorder of histories is behind by so much."""
    gap: Gap | None


class Exporter:
    """Exports to one archive."""

    def __init__(
        self, destination: Destination, manifest: Manifest, *, told: Callable[[str, int], None] | None = None
    ) -> None:
        """`told`: called with the path and the number of rows of each file that was written."""
        self._destination = destination
        self._manifest = manifest
        self._told = told

    async def export(self, source: Source, env: str, wanted: Wanted, standing: Standing) -> Written:
        """Write what is wanted and not there yet; ended by an error or killed, it goes on when it is called again."""
        window_ms, keep_s = self._manifest.window_ms, source.keep_s(standing)
        progress = await read_progress(self._destination, source.kind, env)
        missing = gap(progress, wanted, now_ms=standing.now_ms, keep_s=keep_s)
        within = bounds(
            wanted,
            progress,
            now_ms=standing.now_ms,
            settled_ms=source.settled_ms(standing),
            keep_s=keep_s,
            window_ms=window_ms,
        )
        files = rows = 0
        at_ms = within.start_ms
        while at_ms < within.end_ms:
            first_ms = await source.first_ms(env, Window(at_ms, within.end_ms))
            if first_ms is None:
                at_ms = within.end_ms
            else:
                window = window_at(first_ms, window_ms)
                count = await self._write(source, env, window)
                files, rows = files + (count > 0), rows + count
                at_ms = window.end_ms
            progress = await self._advance(source, env, progress, Window(within.start_ms, at_ms))
        return Written(
            source.kind,
            env,
            files,
            rows,
            None if progress is None else progress.through_ms,
            standing.now_ms - source.settled_ms(standing),
            missing,
        )

    async def _write(self, source: Source, env: str, window: Window) -> int:
        """Write a window, where its file is not there yet and would not be empty; how many rows it has then."""
        kind = FORMATS[self._manifest.format]
        path = path_of(source.kind, env, window, kind.suffix)
        if await self._destination.exists(path):
            return 0
        count = 0
        async with self._destination.spool(path) as spool:
            writer = kind.open(spool.file, source.columns)
            async for row in source.rows(env, window):
                writer.add(row)
                count += 1
            if count:
                writer.close()
                await spool.publish()
        if count and self._told is not None:
            self._told(path, count)
        return count

    async def _advance(self, source: Source, env: str, progress: Progress | None, done: Window) -> Progress:
        after = advanced(progress, done)
        if after != progress:
            await write_progress(self._destination, source.kind, env, after)
        return after
