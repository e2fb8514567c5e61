"""What files of an archive are: Parquet, or lines of JSON, compressed with gzip."""

import zlib
from collections.abc import Callable, Mapping
from typing import IO, Final, Literal, NamedTuple, Protocol

import orjson

from innkeeper_cli.archive.parquet import ParquetWriter
from innkeeper_cli.archive.rows import Column, Row, plain

FormatName = Literal["parquet", "ndjson"]

_GZIP = 31
"""zlib's window bits for a gzip header and trailer. The header has no time: the same rows are the same bytes."""


class Writer(Protocol):
    """Writes rows to a file."""

    def add(self, row: Row) -> None:
        """Write a row."""

    def close(self) -> None:
        """Write what is left; the file stays open."""


class LinesWriter:
    """Writes a JSON object and a line break for each row."""

    def __init__(self, file: IO[bytes], columns: tuple[Column, ...]) -> None:
        self._file = file
        self._columns = columns
        self._compressor = zlib.compressobj(6, zlib.DEFLATED, _GZIP)

    def add(self, row: Row) -> None:
        """Write a row."""
        line = orjson.dumps(plain(self._columns, row), option=orjson.OPT_APPEND_NEWLINE)
        self._file.write(self._compressor.compress(line))

    def close(self) -> None:
        """Write what is left; the file stays open."""
        self._file.write(self._compressor.flush())


class Format(NamedTuple):
    """A format of files."""

    suffix: str
    open: Callable[[IO[bytes], tuple[Column, ...]], Writer]


FORMATS: Final[Mapping[FormatName, Format]] = {
    "parquet": Format(".parquet", ParquetWriter),
    "ndjson": Format(".ndjson.gz", LinesWriter),
}
