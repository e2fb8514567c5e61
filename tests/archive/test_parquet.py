"""What is written as Parquet is what DuckDB reads."""

import io
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innkeeper_cli.archive.parquet import ParquetWriter
from innkeeper_cli.archive.rows import Column, Kind
from innkeeper_cli.archive.thrift import varint

COLUMNS = (
    Column("text", Kind.TEXT, optional=False),
    Column("maybe", Kind.TEXT),
    Column("moment", Kind.MOMENT),
    Column("number", Kind.NUMBER, optional=False),
    Column("json", Kind.JSON),
)

texts = st.text(st.characters(codec="utf-8"), max_size=12)
int64 = st.integers(-(2**63), 2**63 - 1)
moments = st.integers(0, 4_000_000_000_000)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "text": texts,
            "maybe": st.none() | texts,
            "moment": st.none() | moments,
            "number": int64,
            "json": st.none() | st.just(b'{"a":[1,"\xc3\xb6"]}'),
        }
    ),
    max_size=40,
)


def write(path: Path, given_rows: list[dict[str, Any]], group_bytes: int) -> None:
    """A file of these rows."""
    with path.open("wb") as file:
        writer = ParquetWriter(file, COLUMNS, group_bytes=group_bytes)
        for row in given_rows:
            writer.add(row)
        writer.close()


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, in their order, by another reader."""
    names = ("text", "maybe", "moment", "number", "json")
    query = "select text, maybe, epoch_ms(moment), number, json::varchar from read_parquet(?)"
    found = duckdb.execute(query, [str(path)]).fetchall()
    values = [dict(zip(names, row, strict=True)) for row in found]
    return [row | {"json": None if row["json"] is None else row["json"].encode()} for row in values]


@given(rows, st.sampled_from([1, 100, 10**6]))
@settings(max_examples=25)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, given_rows: list[dict[str, Any]], group_bytes: int
) -> None:
    """Rows, in their order, whatever is missing and however many groups they are in."""
    path = tmp_path_factory.mktemp("p") / "a.parquet"
    write(path, given_rows, group_bytes)
    assert read(path) == given_rows


def test_readers_know_what_columns_hold(tmp_path: Path) -> None:
    """Moments are instants, JSON is JSON."""
    write(tmp_path / "a.parquet", [{"text": "t", "maybe": None, "moment": 1, "number": 2, "json": b"{}"}], 1)
    with duckdb.connect() as connection:
        found = connection.execute("describe select * from read_parquet(?)", [str(tmp_path / "a.parquet")])
        kinds = {name: kind for name, kind, *_ in found.fetchall()}
    assert kinds == {
        "text": "VARCHAR",
        "maybe": "VARCHAR",
        "moment": "TIMESTAMP WITH TIME ZONE",
        "number": "BIGINT",
        "json": "JSON",
    }


def test_groups_are_put_out_by_how_large_they_are(tmp_path: Path) -> None:
    """So that memory is bounded; readers can leave out groups by their moments."""
    path = tmp_path / "a.parquet"
    write(
        path,
        [{"text": "t" * 100, "maybe": None, "moment": n, "number": n, "json": None} for n in range(100)],
        1000,
    )
    with duckdb.connect() as connection:
        found = connection.execute(
            "select row_group_num_rows, stats_min_value, stats_max_value, stats_null_count from parquet_metadata(?) "
            "where path_in_schema = 'number'",
            [str(path)],
        ).fetchall()
    assert sum(row[0] for row in found) == 100
    assert all(row[0] <= 10 for row in found)
    assert [int(row[1]) for row in found][:2] == [0, found[0][0]]
    assert all(row[3] == 0 for row in found)


def test_a_row_must_have_what_is_always_there() -> None:
    writer = ParquetWriter(io.BytesIO(), COLUMNS)
    with pytest.raises(ValueError, match="without text"):
        writer.add({"text": None, "maybe": None, "moment": None, "number": 1, "json": None})


@pytest.mark.parametrize(
    ("value", "raw"), [(0, b"\0"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02")]
)
def test_numbers_as_thrift_writes_them(value: int, raw: bytes) -> None:
    assert varint(value) == raw
