"""How a run ends: what is told to others, what is kept and for how long."""

from typing import Any

import msgspec
import orjson
import pytest
import rfc8785

from innkeeper_engine.model.effects import Cancel, Finish, Fold, Note, Plan
from innkeeper_engine.model.guards import HistoryGuard
from innkeeper_engine.store.store import Store
from tests.engine.model_driver import TestClock
from tests.engine.model_runs import (
    ENV,
    FN,
    IDS,
    begin,
    cancel,
    cancel_on,
    commit,
    do,
    event_id,
    fail,
    finish,
    lease,
    route_all,
    saved,
    start,
    wait,
)
from tests.engine.model_server import read_shard

FINISHED, FAILED, CANCELLED = (f"inngest/function.{end}" for end in ("finished", "failed", "cancelled"))
BODY = rfc8785.dumps({"data": {"é": [1, 2.5, [], {}], "zz": "\u2028"}, "id": "user's", "name": "x", "ts": 5})


def canonical(event: Any) -> bytes:
    """An event as it must be, byte for byte."""
    return rfc8785.dumps(event)


async def events(store: Store) -> dict[str, bytes]:
    """The bodies of the events that wait to be routed, by name."""
    peeked = await store.peek(100)
    return {} if peeked is None else {event.name: event.body for event in peeked.events}


async def test_the_end_of_a_run_is_in_its_summary(timed: Store, clock: TestClock) -> None:
    """With when it began and ended, and its output."""
    held = await begin(timed)
    clock.now_ms += 1_500
    await commit(timed, held, finish(output=b'{"list":[]}'))
    summary = await timed.run("run")
    assert summary is not None
    assert (summary.status, summary.ended_ms) == ("Completed", clock.now_ms)
    assert summary.started_ms == clock.now_ms - 1_500
    assert await timed.run_payload("run", "o", "x") == [b'{"list":[]}', None]


@pytest.mark.parametrize(
    ("end", "status", "kept"),
    [
        (finish(), "Completed", [b'"done"', None]),
        (fail(), "Failed", [None, b'{"message":"m","name":"N"}']),
        (
            cancel(),
            "Cancelled",
            [None, b'{"error":"function cancelled","message":"function cancelled","name":"Error"}'],
        ),
    ],
    ids=["returned", "failed", "cancelled"],
)
async def test_output_or_error_is_kept(
    store: Store, end: Finish | Cancel, status: str, kept: list[bytes | None]
) -> None:
    """A failed run keeps the error as the SDK sent it."""
    held = await begin(store)
    await commit(store, held, end)
    summary = await store.run("run")
    assert summary is not None
    assert (summary.status, await store.run_payload("run", "o", "x")) == (status, kept)


async def test_the_first_end_of_a_run_counts(store: Store) -> None:
    """And its events are sent once."""
    held = await begin(store)
    await do(store, fail())
    await do(store, cancel(), finish())
    await commit(store, held, finish())
    summary = await store.run("run")
    assert summary is not None
    assert summary.status == "Failed"
    assert list(await events(store)) == [FAILED]


async def test_a_failure_is_told_as_the_documentation_shows_it(timed: Store, clock: TestClock) -> None:
    """Canonical JSON, byte for byte, made of pieces that are not read."""
    held = await begin(timed, body=BODY)
    error = rfc8785.dumps({"error": "NonRetriableError", "message": "boom", "name": "Error"})
    raw = rfc8785.dumps({"__serialized": True, "message": "boom", "name": "Error"})
    await commit(timed, held, Finish("run", "Failed", b"", error, raw, b"", IDS))
    body = (await events(timed))[FAILED]
    expected = {
        "data": {
            "_inngest": {"status": "Failed"},
            "error": orjson.loads(error),
            "event": orjson.loads(BODY),
            "events": [orjson.loads(BODY)],
            "function_id": "app-fn",
            "result": orjson.loads(raw),
            "run_id": "run",
        },
        "id": "run",
        "name": FAILED,
        "ts": clock.now_ms,
        "user": {},
    }
    assert body == canonical(expected)
    stored = await timed.event(ENV, IDS[0])
    assert stored is not None
    assert stored.body == body


async def test_a_cancellation_is_told_as_the_documentation_shows_it(timed: Store, clock: TestClock) -> None:
    """With its error, without a result."""
    await begin(timed, body=BODY)
    await do(timed, cancel())
    body = (await events(timed))[CANCELLED]
    text = "function cancelled"
    data = {
        "_inngest": {"status": "Cancelled"},
        "error": {"error": text, "message": text, "name": "Error"},
        "event": orjson.loads(BODY),
        "events": [orjson.loads(BODY)],
        "function_id": "app-fn",
        "run_id": "run",
    }
    event = {"data": data, "id": "run", "name": CANCELLED, "ts": clock.now_ms, "user": {}}
    assert body == canonical(event)


async def test_an_end_is_told_to_who_listens(timed: Store, clock: TestClock) -> None:
    """`finished` is only sent where a function or a wait would hear it; it names who invoked the run."""
    await commit(timed, await begin(timed, "quiet"), finish("quiet"))
    assert await events(timed) == {}
    await timed.configure(ENV, heard=[FINISHED])
    held = await begin(timed, "loud", event=2, body=BODY, parent="caller.step")
    await commit(timed, held, finish("loud", b'{"list":[]}'))
    data = {
        "_inngest": {"status": "Completed"},
        "correlation_id": "caller.step",
        "event": orjson.loads(BODY),
        "events": [orjson.loads(BODY)],
        "function_id": "app-fn",
        "result": {"list": []},
        "run_id": "loud",
    }
    event = {"data": data, "id": IDS[1], "name": FINISHED, "ts": clock.now_ms, "user": {}}
    assert (await events(timed))[FINISHED] == canonical(event)


async def test_a_wait_for_an_end_is_enough_to_hear_it(store: Store) -> None:
    """Nobody has to be registered for it."""
    held = await begin(store, "waiter")
    await commit(store, held, wait("w", run="waiter", name=FINISHED))
    await commit(store, await begin(store, event=2), fail())
    assert list(await events(store)) == [FAILED, FINISHED]


async def test_a_batch_tells_all_of_its_events(store: Store) -> None:
    """The first one is `event`, all of them are `events`."""
    bodies = [rfc8785.dumps({"data": {"n": n}, "name": "x"}) for n in range(3)]
    run = start()._replace(events=tuple((event_id(n), body) for n, body in enumerate(bodies)))
    await do(store, run, fail())
    data = orjson.loads((await events(store))[FAILED])["data"]
    assert [event["data"]["n"] for event in data["events"]] == [0, 1, 2]
    assert data["event"] == data["events"][0]


@pytest.mark.parametrize("end", [finish(), fail(), cancel()], ids=["returned", "failed", "cancelled"])
async def test_a_run_that_must_not_announce_its_end_does_not(store: Store, end: Finish | Cancel) -> None:
    """A failing handler of failures would go on for ever; who invoked it gets its answer all the same."""
    await store.configure(ENV, heard=[FINISHED])
    await do(store, start(announces=False), end)
    assert await events(store) == {}


async def story(store: Store) -> None:
    """Runs that use everything the store has, and end in every way."""
    await store.append(ENV, [(event_id(1), "x", BODY)])
    await store.configure(ENV, functions=[(FN, "", ["c", 3])], heard=[FINISHED])
    stored = start("one", body=b"", idempotency="k", cancels=[cancel_on("stop", run="one")])
    await do(store, stored, start("two", event=2), start("three", event=3))
    one, two, three = [await lease(store, f"t{n}") for n in range(3)]
    await commit(store, one, saved("a", run="one"), wait("z", run="one", kind="sleep"), Note("one", b"{}"))
    await commit(store, two, wait("w", run="two", path="p", value="1"), wait("s", run="two", kind="signal"))
    await commit(store, three, Plan("three", "p"), Plan("three", "q"))
    working = [await lease(store, f"u{n}") for n in range(3)]
    await do(store, Fold("one", (b"{}",)), Fold("three", (b"{}",)))
    await do(store, finish("one"), fail("two"), cancel("three"))
    for held in working:
        await commit(store, held)


FOR_EVER = frozenset(
    {"clock", "eis", "forget", "kept", "me", "mg", "regver", "wake", "rwake", "routes", "hist"}
)
BY_ENVIRONMENT = frozenset({"esq", "es", "ec", "ew", "runs", "ended", "lis", "f", "mf", "reg", "fns"})
"""One key an environment or function; what they list is bounded: by routing, by the retention, by what is registered."""


async def test_nothing_of_an_ended_run_stays_for_ever(store: Store) -> None:
    """Every key has the retention as expiry, or is one of those that the shard always has; once its events are routed."""
    await story(store)
    await route_all(store)
    keys = await read_shard(store)
    retention_ms = store.settings.runs_keep_s * 1000
    kept = {name: key.ttl_ms for name, key in keys.items() if key.ttl_ms >= 0}
    assert {name for name in kept if name.startswith("rc:")} == {f"rc:{FN}"}, "one a function, for months"
    del kept[f"rc:{FN}"]
    lists = [kept.pop(name) for name in list(kept) if name.startswith(("rs:", "ei:", "en:"))]
    assert lists
    assert all(ttl_ms <= retention_ms + 2 * 86_400_000 for ttl_ms in lists), (
        "put off once an hour, once a day"
    )
    assert {name.partition(":")[0] for name in kept} == {"run", "pl", "h", "ev", "er", "idem", "inbox", "m"}
    assert all(ttl_ms <= retention_ms + 86_400_000 for ttl_ms in kept.values()), "a day more, if nobody comes"
    endless = {name for name, key in keys.items() if key.ttl_ms < 0}
    assert {name for name in endless if name.partition(":")[0] not in FOR_EVER | BY_ENVIRONMENT} == set()


async def test_the_list_of_runs_forgets_those_that_are_not_kept(timed: Store, clock: TestClock) -> None:
    """Some at a time, so that no script has to forget many; one that goes on is never forgotten."""
    await do(timed, start("goes on", event=0))
    for n in range(6):
        await do(timed, start(f"old{n}", event=n), finish(f"old{n}"))
    clock.now_ms += timed.settings.runs_keep_s * 1000
    for n in range(2):
        await do(timed, start(f"new{n}", event=n), finish(f"new{n}"))
    await timed.due()
    assert await timed.recent_runs(ENV, 100) == ["new1", "new0", "goes on"]
    assert await timed.command("ZCARD", timed.key(f"ended:{ENV}")) == 2


async def test_runs_are_listed_newest_first(timed: Store, clock: TestClock) -> None:
    """Whether they go on or not."""
    for n in range(3):
        clock.now_ms += 1
        await do(timed, start(f"r{n}", event=n))
    assert await timed.recent_runs(ENV, 2) == ["r2", "r1"]


async def test_an_event_knows_its_runs(store: Store) -> None:
    """In the order in which they started."""
    await do(store, start("a", event=7), start("b", event=7), start("c", event=8))
    assert [run.id for run in await store.event_runs(ENV, event_id(7))] == ["a", "b"]


async def test_history_is_folded_once(store: Store) -> None:
    """The recorder's cursor moves with what it writes; a second recorder is refused."""
    await begin(store)
    folded = [Fold("run", (b"1", b"2"))]
    assert (await store.apply(HistoryGuard("0-0", "5-0"), folded)).status == "ok"
    assert (await store.apply(HistoryGuard("0-0", "5-0"), folded)).status == "moved"
    assert (await store.apply(HistoryGuard("5-0", "6-0"), [Fold("run", (b"3",))])).status == "ok"
    assert await store.history("run") == [b"1", b"2", b"3"]


async def test_history_lives_as_long_as_its_run(store: Store) -> None:
    """While the run goes on, and then for the retention; after that nothing is folded."""
    held = await begin(store)
    await do(store, Fold("run", (b"1",)))
    assert (await read_shard(store))["h:run"].ttl_ms == -1
    await commit(store, held, finish())
    await do(store, Fold("run", (b"2",)), Fold("unknown", (b"3",)))
    keys = await read_shard(store)
    assert 0 < keys["h:run"].ttl_ms <= keys["run:run"].ttl_ms + 1_000
    assert "h:unknown" not in keys


async def test_notes_are_bounded(store: Store) -> None:
    """The oldest go where no recorder takes them away."""
    for _ in range(30):
        await do(store, *(Note("run", b"{}") for _ in range(200)))
    assert await store.command("XLEN", store.key("hist")) == 6_000
    small = Store(store.address, msgspec.structs.replace(store.settings, notes=1_000))
    await small.open()
    try:
        await do(small, Note("run", b"{}"))
    finally:
        await small.close()
    assert await store.command("XLEN", store.key("hist")) < 1_500
