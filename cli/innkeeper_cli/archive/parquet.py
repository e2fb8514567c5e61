"""Writes Parquet: flat columns, plain values, Zstandard. https://parquet.apache.org/docs/file-format/

Of its own, because a row of an archive may have a few bytes or many megabytes: rows are put out in groups by how large
they are, which no small library does (docs/adr/0014-archives.md). The tests read back by DuckDB what is written.
"""

from itertools import groupby
from struct import pack
from typing import IO, Final, NamedTuple

import zstandard

from innkeeper_cli.archive.rows import Column, Kind, Row, Value
from innkeeper_cli.archive.thrift import I32, I64, ListOf, Struct, encode, varint

GROUP_BYTES: Final = 16 << 20
"""So much is in memory before it is put out; and at most so many rows:"""
GROUP_ROWS: Final = 50_000
LEVEL: Final = 3

_MAGIC = b"PAR1"
_INT64, _BYTE_ARRAY = 2, 6
_REQUIRED, _OPTIONAL = 0, 1
_UTF8, _TIMESTAMP_MILLIS, _JSON = 0, 9, 19
_PLAIN, _RLE, _ZSTD = 0, 3, 6
_NOTHING = Struct({})

_TYPES: Final[dict[Kind, tuple[int, int | None, Struct | None]]] = {
    Kind.TEXT: (_BYTE_ARRAY, _UTF8, Struct({1: _NOTHING})),
    Kind.JSON: (_BYTE_ARRAY, _JSON, Struct({12: _NOTHING})),
    Kind.MOMENT: (_INT64, _TIMESTAMP_MILLIS, Struct({8: Struct({1: True, 2: Struct({1: _NOTHING})})})),
    Kind.NUMBER: (_INT64, None, None),
}
"""Of each kind its physical type, its converted type (for old readers) and its logical type."""


class _Chunk(NamedTuple):
    """The values of one column in one group of rows, as they are in the file."""

    offset: int
    plain_bytes: int
    packed_bytes: int
    least: int | None
    most: int | None
    missing: int


class ParquetWriter:
    """Writes rows to a file that is open for writing, from its beginning. Close it, or there is no Parquet in it."""

    def __init__(
        self, file: IO[bytes], columns: tuple[Column, ...], *, group_bytes: int = GROUP_BYTES
    ) -> None:
        self._file = file
        self._columns = columns
        self._group_bytes = group_bytes
        self._values: list[list[Value]] = [[] for _ in columns]
        self._held_bytes = 0
        self._rows = 0
        self._groups: list[Struct] = []
        self._compressor = zstandard.ZstdCompressor(level=LEVEL)
        self._at = file.write(_MAGIC)

    def add(self, row: Row) -> None:
        """Write a row, now or with others."""
        for column, values in zip(self._columns, self._values, strict=True):
            value = row[column.name]
            if value is None and not column.optional:
                raise ValueError(f"a row without {column.name}")
            if isinstance(value, str):
                value = value.encode("utf-8", "replace")
            values.append(value)
            self._held_bytes += len(value) if isinstance(value, bytes) else 8
        if self._held_bytes >= self._group_bytes or len(self._values[0]) >= GROUP_ROWS:
            self._put_out()

    def close(self) -> None:
        """Write what is left, and the file's end. The file stays open."""
        if self._values[0]:
            self._put_out()
        footer = encode(
            Struct(
                {
                    1: I32(2),
                    2: ListOf([_root(self._columns), *map(_element, self._columns)]),
                    3: I64(self._rows),
                    4: ListOf(self._groups),
                    6: "innkeeper",
                    7: ListOf([Struct({1: _NOTHING}) for _ in self._columns]),
                }
            )
        )
        self._file.write(footer + pack("<I", len(footer)) + _MAGIC)

    def _put_out(self) -> None:
        rows = len(self._values[0])
        chunks = []
        for column, values in zip(self._columns, self._values, strict=True):
            chunks.append(self._write_chunk(column, values))
            values.clear()
        self._groups.append(
            Struct(
                {
                    1: ListOf(
                        [
                            _chunk(column, rows, chunk)
                            for column, chunk in zip(self._columns, chunks, strict=True)
                        ]
                    ),
                    2: I64(sum(chunk.plain_bytes for chunk in chunks)),
                    3: I64(rows),
                }
            )
        )
        self._rows += rows
        self._held_bytes = 0

    def _write_chunk(self, column: Column, values: list[Value]) -> _Chunk:
        page = _page(column, values)
        packed = self._compressor.compress(page)
        numbers = Struct({1: I32(len(values)), 2: I32(_PLAIN), 3: I32(_RLE), 4: I32(_RLE)})
        head = encode(Struct({1: I32(0), 2: I32(len(page)), 3: I32(len(packed)), 5: numbers}))
        offset = self._at
        self._at += self._file.write(head) + self._file.write(packed)
        there = [value for value in values if isinstance(value, int)]
        return _Chunk(
            offset,
            len(head) + len(page),
            len(head) + len(packed),
            min(there, default=None),
            max(there, default=None),
            sum(value is None for value in values),
        )


def _page(column: Column, values: list[Value]) -> bytes:
    """Which values are there, where some may not be; then those."""
    out = []
    if column.optional:
        levels = b"".join(
            varint(sum(1 for _ in run) << 1) + bytes((is_there,))
            for is_there, run in groupby(value is not None for value in values)
        )
        out += [pack("<I", len(levels)), levels]
    for value in values:
        if isinstance(value, bytes):
            out += [pack("<I", len(value)), value]
        elif isinstance(value, int):
            out.append(pack("<q", value))
    return b"".join(out)


def _root(columns: tuple[Column, ...]) -> Struct:
    return Struct({4: "schema", 5: I32(len(columns))})


def _element(column: Column) -> Struct:
    physical, converted, logical = _TYPES[column.kind]
    return Struct(
        {
            1: I32(physical),
            3: I32(_OPTIONAL if column.optional else _REQUIRED),
            4: column.name,
            6: None if converted is None else I32(converted),
            10: logical,
        }
    )


def _chunk(column: Column, rows: int, chunk: _Chunk) -> Struct:
    statistics: dict[int, bytes | I64 | None] = {3: I64(chunk.missing)}
    if chunk.least is not None and chunk.most is not None:
        statistics |= {5: pack("<q", chunk.most), 6: pack("<q", chunk.least)}
    described = Struct(
        {
            1: I32(_TYPES[column.kind][0]),
            2: ListOf([I32(_PLAIN), I32(_RLE)]),
            3: ListOf([column.name]),
            4: I32(_ZSTD),
            5: I64(rows),
            6: I64(chunk.plain_bytes),
            7: I64(chunk.packed_bytes),
            9: I64(chunk.offset),
            12: Struct({**statistics}),
        }
    )
    return Struct({2: I64(chunk.offset), 3: described})
