"""What an archive has of a real store."""

import json
from pathlib import Path

import pytest

from innkeeper_cli.archive.destinations import Folder
from innkeeper_cli.archive.exporter import Exporter, Written
from innkeeper_cli.archive.formats import FormatName
from innkeeper_cli.archive.manifest import Manifest
from innkeeper_cli.archive.sources import Events, Runs, Source
from innkeeper_cli.archive.windows import Wanted
from innkeeper_engine.model.effects import Fold, Note
from innkeeper_engine.model.guards import HistoryGuard
from innkeeper_engine.store.archive import Archive, settled_ms
from innkeeper_engine.store.store import Store
from tests.archive.archives import KilledError, Mortal, lines_in, parquet_in
from tests.conftest import OpenStore
from tests.engine.model_driver import TestClock
from tests.engine.model_runs import (
    ENV,
    begin,
    cancel,
    commit,
    do,
    event_id,
    fail,
    finish,
    route_all,
    saved,
    start,
)

MINUTE = 60_000
STEP = "5" * 40


@pytest.fixture
def clock() -> TestClock:
    """A clock that stands at the beginning of an hour until it is moved."""
    return TestClock(1_700_000_000_000 - 1_700_000_000_000 % 3_600_000)


@pytest.fixture
async def timed(open_store: OpenStore, clock: TestClock) -> Store:
    """A store whose time is `clock`."""
    return await open_store(clock_ms=clock)


async def fold(store: Store) -> None:
    """What a recorder does: all notes that wait become history."""
    at = (await store.command("GET", store.key("histcur")) or b"0-0").decode()
    entries = await store.command("XRANGE", store.key("hist"), f"({at}", "+")
    notes: dict[str, tuple[bytes, ...]] = {}
    for _, fields in entries:
        run = fields[1].decode()
        notes[run] = (*notes.get(run, ()), fields[3])
    if entries:
        guard = HistoryGuard(at, entries[-1][0].decode())
        applied = await store.apply(guard, [Fold(run, lines) for run, lines in notes.items()])
        assert applied.status == "ok"


async def export(
    store: Store,
    place: Folder | Mortal,
    source: Source,
    *,
    format_name: FormatName = "ndjson",
    wanted: Wanted | None = None,
) -> Written:
    """Export all that is over."""
    manifest = Manifest(source="redis", window_ms=MINUTE, format=format_name)
    standing = await Archive(store).standing(ENV)
    return await Exporter(place, manifest).export(source, ENV, wanted or Wanted(), standing)


async def some_runs(store: Store, clock: TestClock, count: int, body: bytes = b'{"n":1}') -> set[str]:
    """Runs that end, two in each minute."""
    for n in range(count):
        await do(store, start(f"r{n:03}", event=n, body=body), finish(f"r{n:03}"))
        clock.now_ms += MINUTE // 2
    await fold(store)
    return {f"r{n:03}" for n in range(count)}


async def test_a_run_comes_with_all_that_is_kept_of_it(
    timed: Store, clock: TestClock, tmp_path: Path
) -> None:
    """Summary, events, output, steps with results, notes; read back from Parquet by another reader."""
    began_ms = clock.now_ms
    held = await begin(timed)
    note = {
        "t": clock.now_ms,
        "type": "step",
        "id": STEP,
        "name": "charge",
        "op": "StepRun",
        "status": "Completed",
    }
    await commit(
        timed, held, saved(STEP, b'{"data":{"paid":true}}', go=False), Note("run", json.dumps(note).encode())
    )
    clock.now_ms += 5
    await do(timed, finish(output=b'{"ok":1.0}'))
    await do(timed, start("failed", event=2), fail("failed"), start("gone", event=3), cancel("gone"))
    await fold(timed)
    clock.now_ms += MINUTE
    folder = Folder(tmp_path)
    written = await export(timed, folder, Runs(timed), format_name="parquet")
    assert (written.files, written.rows) == (1, 3)

    columns = (
        "run_id, status, epoch_ms(queued_at), epoch_ms(ended_at), event_ids, events, output, error, payloads"
    )
    rows = {row[0]: row[1:] for row in parquet_in(tmp_path, "runs", columns)}
    status, queued_ms, ended_ms, ids, events, output, error, payloads = rows["run"]
    assert (status, payloads, error) == ("Completed", "kept", None)
    assert (queued_ms, ended_ms) == (began_ms, began_ms + 5)
    assert json.loads(ids) == [event_id(1)]
    assert json.loads(events)[0]["data"] == {"a": 1}
    assert output == '{"ok":1.0}'
    assert rows["failed"][0] == "Failed"
    assert "m" in json.loads(rows["failed"][6])["message"]
    assert rows["gone"][0] == "Cancelled"
    nested = {row[0]: row[1:] for row in parquet_in(tmp_path, "runs", "run_id, steps, notes")}
    (step,) = json.loads(nested["run"][0])
    assert (step["name"], step["status"], step["output"]) == ("charge", "Completed", {"paid": True})
    assert [each["type"] for each in json.loads(nested["gone"][1])] == ["cancelled"]
    await folder.close()


async def test_events_come_as_they_were_sent(timed: Store, clock: TestClock, tmp_path: Path) -> None:
    """Compressed ones too, and those of the engine; one window's are one file."""
    large = b'{"data":{"text":"%b","n":1.50},"id":"mine","name":"shop/paid","ts":7,"user":{"u":1}}' % (
        b"x" * 40_000
    )
    await timed.append(
        ENV, [(event_id(1), "shop/paid", large), (event_id(2), "a", b'{"data":{},"name":"a"}')]
    )
    clock.now_ms += MINUTE
    await timed.append(ENV, [(event_id(3), "inngest/function.failed", b'{"data":{},"name":"b"}')])
    await route_all(timed)
    folder = Folder(tmp_path)
    assert (await export(timed, folder, Events(timed))).rows == 2
    clock.now_ms += MINUTE
    assert (await export(timed, folder, Events(timed))).rows == 1
    first, second, third = lines_in(tmp_path, "events")
    assert (first["internal_id"], first["id"], first["name"]) == (event_id(1), "mine", "shop/paid")
    assert first["data"] == {"text": "x" * 40_000, "n": 1.5}
    assert (first["user"], first["ts"]) == ({"u": 1}, "1970-01-01T00:00:00.007Z")
    assert (second["id"], second["ts"], third["internal_id"]) == (None, None, event_id(3))
    await folder.close()


async def test_what_runs_is_taken_when_it_has_ended(timed: Store, clock: TestClock, tmp_path: Path) -> None:
    await do(timed, start("long", event=1), start("short", event=2), finish("short"))
    await fold(timed)
    clock.now_ms += MINUTE
    folder = Folder(tmp_path)
    await export(timed, folder, Runs(timed))
    assert [row["run_id"] for row in lines_in(tmp_path, "runs")] == ["short"]
    await do(timed, finish("long"))
    await fold(timed)
    await export(timed, folder, Runs(timed))
    clock.now_ms += MINUTE
    await export(timed, folder, Runs(timed))
    assert [row["run_id"] for row in lines_in(tmp_path, "runs")] == ["short", "long"]
    await folder.close()


async def test_a_run_waits_for_its_history(timed: Store, clock: TestClock, tmp_path: Path) -> None:
    """What the recorder has not folded is not yet there to be read."""
    await do(timed, start("gone"), cancel("gone"))
    clock.now_ms += MINUTE
    folder = Folder(tmp_path)
    written = await export(timed, folder, Runs(timed))
    assert (written.rows, written.held_back_ms > 0) == (0, True)
    await fold(timed)
    await export(timed, folder, Runs(timed))
    (row,) = lines_in(tmp_path, "runs")
    assert row["notes"][0]["type"] == "cancelled"
    await folder.close()


@pytest.mark.parametrize("after", [False, True])
async def test_it_may_be_killed_at_every_step(
    timed: Store, clock: TestClock, tmp_path: Path, after: bool
) -> None:
    """Before and after each thing that it does to the destination: the next export completes the archive."""
    runs = await some_runs(timed, clock, 7)
    steps, dies_at = 0, 0
    while dies_at <= steps:
        dies_at += 1
        folder = Folder(tmp_path / str(dies_at))
        mortal = Mortal(folder, dies_at, after=after)
        try:
            await export(timed, mortal, Runs(timed))
        except KilledError:
            steps = mortal.done
        await export(timed, folder, Runs(timed))
        found = [row["run_id"] for row in lines_in(tmp_path / str(dies_at), "runs")]
        assert sorted(found) == sorted(runs - {"r006"}), dies_at
        await folder.close()
    assert steps > 6


async def test_what_was_written_stays_when_redis_has_forgotten_it(
    timed: Store, clock: TestClock, tmp_path: Path
) -> None:
    """Killed after a file was put there: what is gone since is not taken from it."""
    await some_runs(timed, clock, 4)
    folder = Folder(tmp_path)
    with pytest.raises(KilledError):
        # It asks how far it is, whether the file is there, and puts it there.
        await export(timed, Mortal(folder, 3, after=True), Runs(timed))
    await timed.command("DEL", timed.key("run:r001"))
    await export(timed, folder, Runs(timed))
    assert [row["run_id"] for row in lines_in(tmp_path, "runs")] == ["r000", "r001", "r002", "r003"]
    await folder.close()


async def test_what_is_gone_is_left_out(timed: Store, clock: TestClock, tmp_path: Path) -> None:
    """A window of which nothing is left has no file; what was shed comes without its payloads, and says so."""
    await some_runs(timed, clock, 6)
    await timed.command("DEL", *(timed.key(f"run:r00{n}") for n in (0, 1, 2)))
    await timed.command("HSET", timed.key("run:r004"), "nl", 3)
    await timed.command("DEL", timed.key("pl:r004"))
    await timed.command("HSET", timed.key("pl:r005"), "o", b"z9\nnothing")
    folder = Folder(tmp_path)
    written = await export(timed, folder, Runs(timed))
    assert (written.files, written.rows) == (2, 3)
    rows = lines_in(tmp_path, "runs")
    assert [(row["run_id"], row["payloads"], row["notes_lost"]) for row in rows] == [
        ("r003", "kept", None),
        ("r004", "lost", 3),
        ("r005", "unreadable", None),
    ]
    assert rows[1]["output"] is rows[1]["events"] is rows[2]["output"] is None
    await folder.close()


async def test_large_runs_come_one_by_one(timed: Store, clock: TestClock, tmp_path: Path) -> None:
    """A page has no more than a few MiB; none is left out."""
    body = b'{"data":"%b"}' % (b"y" * 3_000_000)
    runs = await some_runs(timed, clock, 5, body)
    page = await timed.ended_runs(ENV, from_ms=0, until_ms=10**15)
    assert len(await Archive(timed).runs(page)) == 2
    clock.now_ms += MINUTE
    folder = Folder(tmp_path)
    await export(timed, folder, Runs(timed))
    assert {row["run_id"] for row in lines_in(tmp_path, "runs")} == runs
    await folder.close()


async def test_only_what_goes_soon(timed: Store, clock: TestClock, tmp_path: Path) -> None:
    """By the environment's own retention."""
    await timed.command("HSET", timed.key("keeps"), ENV, "0 7200")
    await some_runs(timed, clock, 6)
    clock.now_ms += 7_200_000 - 4 * MINUTE
    folder = Folder(tmp_path)
    await export(timed, folder, Runs(timed), wanted=Wanted(expiring_within_ms=2 * MINUTE))
    assert [row["run_id"] for row in lines_in(tmp_path, "runs")] == ["r000", "r001"]
    assert (await Archive(timed).standing(f"{ENV}~branch")).runs_keep_s == 7200
    await folder.close()


@pytest.mark.parametrize(
    ("newest", "folded", "settled"),
    [
        ("0-0", "0-0", 9000),
        ("5000-1", "5000-1", 9000),
        ("5000-1", "4000-7", 4000),
        ("9500-0", "9400-0", 9000),
    ],
)
def test_how_far_histories_are_complete(newest: str, folded: str, settled: int) -> None:
    assert settled_ms(9000, newest, folded) == settled
