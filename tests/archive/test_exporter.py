"""Whatever happens to exports: their files have what came, each once."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from innkeeper_cli.archive.exporter import Exporter
from innkeeper_cli.archive.manifest import Manifest
from innkeeper_cli.archive.windows import Wanted
from innkeeper_engine.store.archive import Standing
from tests.archive.archives import KilledError, Listed, Memory, Mortal, read_lines

MINUTE = 60_000
MANIFEST = Manifest(source="redis", window_ms=MINUTE, format="ndjson")

comings = st.tuples(st.just("come"), st.lists(st.integers(0, 3 * MINUTE), max_size=6))
"""After how many ms each comes, from then on."""
exports = st.tuples(st.just("export"), st.integers(0, 12), st.booleans(), st.integers(-1, 3))
"""At which of its doings it dies (0: none), before or after it; after how many rows of a window (-1: none)."""
ranges = st.tuples(st.just("range"), st.integers(0, 30), st.integers(0, 30))
"""From and until which minute."""


@given(st.lists(comings | exports | ranges, max_size=14))
@settings(max_examples=120)
def test_files_have_what_came_each_once(happenings: list[tuple[object, ...]]) -> None:
    """Exports die anywhere, ranges overlap; the last export, which lives, completes it."""
    asyncio.run(_live_through(happenings))


async def _live_through(happenings: list[tuple[object, ...]]) -> None:
    memory, source, now_ms = Memory(), Listed(), 0
    for kind, *details in [*happenings, ("export", 0, False, -1)]:
        if kind == "come":
            for after_ms in details[0]:  # type: ignore[attr-defined]
                now_ms += after_ms
                source.came.append(now_ms)
            continue
        wanted, mortal = Wanted(), Mortal(memory, 0)
        if kind == "export":
            mortal = Mortal(memory, details[0], after=bool(details[1]))  # type: ignore[arg-type]
            source.dies_after_rows = details[2]  # type: ignore[assignment]
        else:
            wanted = Wanted(details[0] * MINUTE, details[1] * MINUTE)  # type: ignore[operator]
        standing = Standing(now_ms, now_ms, 10**6, 10**6)
        try:
            await Exporter(mortal, MANIFEST).export(source, "prod", wanted, standing)
        except KilledError:
            pass
        finally:
            source.dies_after_rows = -1
        found = archived(memory)
        assert len(found) == len(set(found))
    over_ms = now_ms - now_ms % MINUTE
    assert sorted(archived(memory)) == [number for number, at in enumerate(source.came) if at < over_ms]


def archived(memory: Memory) -> list[int]:
    """What is in the files, by its numbers."""
    files = [raw for path, raw in memory.files.items() if path.endswith(".gz")]
    return [int(row["internal_id"]) for raw in files for row in read_lines(raw)]


async def test_an_export_of_nothing_new_reads_no_file_and_writes_none() -> None:
    """It costs one question."""
    memory, source = Memory(), Listed()
    source.came = [1, 2, MINUTE + 1]
    standing = Standing(5 * MINUTE, 5 * MINUTE, 10**6, 10**6)
    first = await Exporter(memory, MANIFEST).export(source, "prod", Wanted(), standing)
    assert (first.files, first.rows, first.through_ms, first.gap) == (2, 3, 5 * MINUTE, None)
    mortal = Mortal(memory, 0)
    again = await Exporter(mortal, MANIFEST).export(source, "prod", Wanted(), standing)
    assert (again.files, again.rows, again.through_ms) == (0, 0, 5 * MINUTE)
    assert mortal.done == 1


async def test_progress_that_cannot_be_read_costs_time_only() -> None:
    memory, source = Memory(), Listed()
    source.came = [1, MINUTE + 1]
    standing = Standing(5 * MINUTE, 5 * MINUTE, 10**6, 10**6)
    await Exporter(memory, MANIFEST).export(source, "prod", Wanted(), standing)
    before = dict(memory.files)
    memory.files["_innkeeper/events/prod.json"] = b"{"
    again = await Exporter(memory, MANIFEST).export(source, "prod", Wanted(), standing)
    assert again.files == 0
    assert memory.files == before


async def test_what_may_be_lost_is_told() -> None:
    memory, source = Memory(), Listed()
    source.came = [1]
    await memory.write("_innkeeper/events/prod.json", b'{"through_ms":60000}')
    written = await Exporter(memory, MANIFEST).export(
        source, "prod", Wanted(), Standing(10**9, 10**9, 3600, 3600)
    )
    assert written.gap == (60_000, 10**9 - 3_600_000)
    assert written.through_ms == 10**9 - 10**9 % MINUTE
