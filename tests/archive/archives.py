"""Archives in tests: what is in them, and destinations and sources that fail where a test wants."""

import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import duckdb

from innkeeper_cli.archive.destinations import Destination, Spool
from innkeeper_cli.archive.rows import EVENT_COLUMNS, Column, Row
from innkeeper_cli.archive.windows import Window
from innkeeper_engine.store.archive import Standing

NO_EVENT: dict[str, Any] = {column.name: None for column in EVENT_COLUMNS}


def read_lines(raw: bytes) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines."""
    return [json.loads(line) for line in gzip.decompress(raw).splitlines()]


def lines_in(folder: Path, kind: str) -> list[dict[str, Any]]:
    """All rows of one kind, file by file."""
    paths = sorted((folder / kind).rglob("*.ndjson.gz"))
    return [row for path in paths for row in read_lines(path.read_bytes())]


def parquet_in(folder: Path, kind: str, columns: str) -> list[tuple[Any, ...]]:
    """All rows of one kind, in the order of their files."""
    query = f"select {columns} from read_parquet('{folder}/{kind}/**/*.parquet')"
    return duckdb.execute(query).fetchall()


class KilledError(Exception):
    """The exporter has died here."""


class Mortal:
    """A destination at which the exporter dies, once: before or after what it does for the n-th time."""

    def __init__(self, inner: Destination, dies_at: int, *, after: bool = False) -> None:
        self.inner = inner
        self.done = 0
        self._dies_at, self._after = dies_at, after

    async def _do(self, doing: Callable[[], Any]) -> Any:
        self.done += 1
        dies = self.done == self._dies_at
        if dies and not self._after:
            raise KilledError
        found = await doing()
        if dies:
            raise KilledError
        return found

    async def exists(self, path: str) -> bool:
        """Whether the file is there."""
        found: bool = await self._do(lambda: self.inner.exists(path))
        return found

    async def read(self, path: str) -> bytes | None:
        """A small file."""
        found: bytes | None = await self._do(lambda: self.inner.read(path))
        return found

    async def write(self, path: str, content: bytes) -> None:
        """Put a small file there."""
        await self._do(lambda: self.inner.write(path, content))

    @asynccontextmanager
    async def spool(self, path: str) -> AsyncIterator[Spool]:
        """A file to write to."""
        async with self.inner.spool(path) as spool:
            yield Spool(spool.file, lambda: self._do(spool.publish))

    async def close(self) -> None:
        """Nothing more will be written."""
        await self.inner.close()


class Memory:
    """A destination in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    async def exists(self, path: str) -> bool:
        """Whether the file is there."""
        return path in self.files

    async def read(self, path: str) -> bytes | None:
        """A small file."""
        return self.files.get(path)

    async def write(self, path: str, content: bytes) -> None:
        """Put a small file there."""
        self.files[path] = content

    @asynccontextmanager
    async def spool(self, path: str) -> AsyncIterator[Spool]:
        """A file to write to."""
        from io import BytesIO

        file = BytesIO()

        async def publish() -> None:
            self.files[path] = file.getvalue()

        yield Spool(file, publish)

    async def close(self) -> None:
        """Nothing is held."""


class Listed:
    """A source of events that are named after the moments at which they came."""

    kind: ClassVar[str] = "events"
    columns: ClassVar[tuple[Column, ...]] = EVENT_COLUMNS

    def __init__(self) -> None:
        self.came: list[int] = []
        """When each came; they are numbered."""
        self.dies_after_rows = -1

    def keep_s(self, standing: Standing) -> int:
        """How long these are kept."""
        return standing.events_keep_s

    def settled_ms(self, standing: Standing) -> int:
        """Up to when there will be no others."""
        return standing.now_ms

    async def first_ms(self, env: str, within: Window) -> int | None:
        """When the first came."""
        return min((at for at in self.came if within.start_ms <= at < within.end_ms), default=None)

    async def rows(self, env: str, within: Window) -> AsyncIterator[Row]:
        """Those of a window."""
        found = [(at, n) for n, at in enumerate(self.came) if within.start_ms <= at < within.end_ms]
        for place, (at, number) in enumerate(sorted(found)):
            if place == self.dies_after_rows:
                self.dies_after_rows = -1
                raise KilledError
            yield NO_EVENT | {"environment": env, "internal_id": str(number), "received_at": at}
