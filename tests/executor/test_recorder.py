"""Notes become the history of their runs: each once and in order, whoever folds them."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping

import msgspec
import pytest

from innkeeper_engine.decide.notes import cancel_note
from innkeeper_engine.decide.runs import start_effect
from innkeeper_engine.model.clock import derived_ulid
from innkeeper_engine.model.effects import Effect, Note
from innkeeper_engine.model.functions import RateLimit
from innkeeper_engine.model.guards import NoGuard
from innkeeper_engine.registry import Registries
from innkeeper_engine.store.connection import Address
from innkeeper_engine.store.store import Store, StoreSettings
from innkeeper_executor.recorder import Recorder
from tests.conftest import OpenStore
from tests.executor.house import ENV, House, function, ops, output, ran, soon


async def runs_of(house: House, count: int) -> list[str]:
    """Runs that nobody works."""
    await house.register(function("f"))
    entry = (await Registries(house.store).current(ENV)).functions["f"]
    runs = []
    for n in range(count):
        run = derived_ulid(house.clock.now_ms(), "noted", str(n))
        start = start_effect(
            entry, run_id=run, event={}, events=(("e" * 26, b"{}"),), event_seq=0, order_ms=n
        )
        await house.store.apply(NoGuard(), [start])
        runs.append(run)
    return runs


async def write(store: Store, runs: list[str], each: int) -> None:
    """Notes `0`, `1`, ... for every run, in turn."""
    notes: list[Effect] = [Note(run, b"%d" % n) for n in range(each) for run in runs]
    for first in range(0, len(notes), 250):
        await store.apply(NoGuard(), notes[first : first + 250])


@pytest.fixture
async def recorders(house: House, open_store: OpenStore, valkey: Address) -> AsyncIterator[list[Recorder]]:
    """Two of them, each with connections of its own."""
    made = [Recorder(await open_store(prefix=house.store.settings.prefix), valkey) for _ in range(2)]
    for recorder in made:
        await recorder.open()
    yield made
    for recorder in made:
        await recorder.close()


async def fold_all(recorder: Recorder) -> None:
    """Fold until nothing is left."""
    while await recorder.record_once(1):
        pass


async def test_two_recorders_fold_each_note_once(house: House, recorders: list[Recorder]) -> None:
    """They fight over the cursor; the history of each run is whole, in order, without doubles."""
    runs = await runs_of(house, 250)
    await write(house.store, runs, 12)
    await soon(asyncio.gather(*(fold_all(recorder) for recorder in recorders)), 10)
    for run in runs:
        assert await house.store.history(run) == [b"%d" % n for n in range(12)]


async def test_notes_that_come_while_others_are_folded_are_not_missed(
    house: House, recorders: list[Recorder]
) -> None:
    """The cursor stands behind what was read, not behind what is there."""
    (run,) = await runs_of(house, 1)
    for n in range(5):
        await house.store.apply(NoGuard(), [Note(run, b"%d" % n)])
        assert await recorders[n % 2].record_once(1) == 1
    assert await house.store.history(run) == [b"0", b"1", b"2", b"3", b"4"]


async def test_history_that_was_trimmed_goes_on_with_what_is_left(house: House, valkey: Address) -> None:
    """Where the recorder was too slow, the oldest notes are gone; the others come in order, and the cursor goes on."""
    runs = await runs_of(house, 10)
    small = Store(valkey, StoreSettings(prefix=house.store.settings.prefix, notes=300))
    await small.open()
    recorder = Recorder(small, valkey)
    await recorder.open()
    await write(small, runs, 10)
    await fold_all(recorder)
    await write(small, runs, 110)
    await fold_all(recorder)
    left = await small.history(runs[0])
    expected = [b"%d" % n for n in range(10)] + [b"%d" % n for n in range(110)]
    assert 40 <= len(left) < 120
    assert left == expected[:10] + expected[10 - len(left) :]
    await write(small, runs, 1)
    await fold_all(recorder)
    assert (await small.history(runs[0]))[-1] == b"0"
    await recorder.close()
    await small.close()


async def test_notes_of_a_run_that_is_forgotten_hold_nothing_up(
    house: House, recorders: list[Recorder]
) -> None:
    """Its summary went with the retention; nothing is kept of it, and the cursor passes."""
    (run,) = await runs_of(house, 1)
    await write(house.store, [run, f"gone-{secrets.token_hex(4)}"], 3)
    await fold_all(recorders[0])
    assert await house.store.history(run) == [b"0", b"1", b"2"]
    assert await house.store.command("KEYS", house.store.key("h:gone-*")) == []


async def test_the_history_of_a_run_tells_what_its_steps_did(house: House) -> None:
    """With executors, whose recorders take turns."""
    await house.register(function("f"))
    house.driver.scripts["f"] = lambda call: output() if "a" in call.stack else ops(ran("a", 1))
    for _ in range(2):
        await house.start_executor()
    event = await house.send("test/f")
    await house.so_many_ended(1)
    (run,) = await house.started(event)
    recorder = Recorder(house.store, house.store.address)
    await recorder.open()
    await fold_all(recorder)
    await recorder.close()
    (line,) = await house.store.history(run)
    assert b'"status":"Completed"' in line
    assert b'"name":"a"' in line


async def test_a_cancelled_run_is_told_to_those_who_watch(house: House) -> None:
    """Its end comes from an event or from a person; no request of the run's own brings it."""
    await house.register(function("f"))
    await house.start_executor()
    await house.send("test/f")
    request = await house.driver.arrival()
    await house.cancel(request.call.run_id, cancel_note("api", house.clock.now_ms()))
    line = await house.run_ended(request.call.run_id)
    assert (line.slug, line.status) == ("f", "Cancelled")
    assert line.ended_ms >= line.queued_ms


async def test_a_skipped_run_is_told_to_those_who_watch_and_why(house: House) -> None:
    """It has no request that could bring its end."""
    limited = msgspec.structs.replace(function("f"), rate_limit=RateLimit(limit=1, period_ms=60_000))
    await house.register(limited)
    house.driver.scripts["f"] = lambda call: output()
    await house.start_executor()
    first = await house.send("test/f")
    await house.so_many_ended(1)
    event = await house.send("test/f")
    await house.so_many_ended(2)
    (run,) = await house.started(event)
    line = await house.run_ended(run)
    assert (line.slug, line.status, line.why) == ("f", "Skipped", "rateLimit")
    assert line.ended_ms >= line.queued_ms
    (began,) = await house.started(first)
    assert (await house.run_ended(began)).why == ""


async def test_what_has_ended_is_told_together_and_traces_are_read_in_one_go(
    house: House, valkey: Address
) -> None:
    """A thousand runs that are cancelled at once cost no thousand round trips one after another."""
    runs = await runs_of(house, 3)
    await house.store.command("HSET", house.store.key(f"run:{runs[1]}"), "tp", "00-a-b-01")
    for run in runs[:2]:
        await house.store.apply(NoGuard(), [Note(run, cancel_note("api", 1))])
    told: list[dict[str, str]] = []

    async def tell(ended: Mapping[str, str]) -> None:
        told.append(dict(ended))

    recorder = Recorder(house.store, valkey, tell)
    await recorder.open()
    await fold_all(recorder)
    await recorder.close()
    assert told == [{runs[0]: "", runs[1]: ""}]
    assert await house.store.run_traces(runs) == ["", "00-a-b-01", ""]
