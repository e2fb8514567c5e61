"""Large bodies are kept compressed, and nobody who reads them, joins them or counts them can tell."""

import random
from collections.abc import AsyncIterator, Callable

import orjson
import pytest
import rfc8785

from innkeeper_engine.model.effects import Emit, Finish, Gather, Keep, Plan, Resolve, Resume, Save
from innkeeper_engine.model.guards import GatherGuard, KeepGuard, NoGuard
from innkeeper_engine.store.bodies import UnreadableBodyError
from innkeeper_engine.store.connection import Address
from innkeeper_engine.store.store import Store, StoreSettings
from tests.engine.model_driver import TestClock
from tests.engine.model_runs import (
    ENV,
    FN,
    IDS,
    begin,
    commit,
    do,
    event_id,
    finish,
    lease,
    results,
    route_all,
    saved,
    start,
    wait,
)

FINISHED, FAILED = "inngest/function.finished", "inngest/function.failed"


def large(letter: str, size: int = 40_000) -> bytes:
    """An event that gets much smaller, and is not compared with another by chance."""
    return rfc8785.dumps({"data": {"text": letter * size}, "name": "x", "ts": 1})


@pytest.fixture(params=[0, 1_000], ids=["plain", "compressed"])
async def kept(request: pytest.FixtureRequest, valkey: Address, clock: TestClock) -> AsyncIterator[Store]:
    """A store that keeps bodies as they are, and one that compresses those over 1,000 bytes."""
    prefix = f"{{test-bodies-{clock.now_ms}-{request.node.name}}}:"
    settings = StoreSettings(prefix=prefix, compress_over_bytes=request.param, inline_bytes=1 << 20)
    store = Store(valkey, settings, clock_ms=clock)
    await store.open()
    yield store
    await store.close()


async def size_in_redis(store: Store, run: str, field: str) -> int:
    """What a payload takes."""
    return int(await store.command("HSTRLEN", store.key(f"pl:{run}"), field))


async def test_events_are_read_as_they_were_sent(kept: Store) -> None:
    """By their id, by the router, by the run that copies them, by a cancellation of many."""
    await kept.append(ENV, [(event_id(1), "x", large("a")), (event_id(2), "x", b"{}")])
    await do(kept, Emit(ENV, event_id(3), "x", large("c")), Keep(ENV, event_id(4), large("d")))
    found = [await kept.event(ENV, event_id(n)) for n in (1, 2, 3, 4)]
    assert [event and event.body for event in found] == [large("a"), b"{}", large("c"), large("d")]
    peeked = await kept.peek(10)
    assert peeked is not None
    assert [event.body for event in peeked.events] == [large("a"), b"{}", large("c")]
    held = await begin(kept, body=b"")
    assert held.payload == {"e:0": large("a")}
    assert held.state_bytes == len(large("a")), "the run's size is that of what was sent"
    assert await kept.run_payload("run", "e:0", "e:1") == [large("a"), None]
    (head,) = await kept.run_heads(["run"])
    assert head is not None
    assert head.event == large("a")


async def test_results_of_steps_are_read_as_they_were_written(kept: Store) -> None:
    """Saved, of a signal, of an event that was waited for; and what has been written first stays."""
    held = await begin(kept)
    await commit(
        kept, held, saved("a", large("a")), saved("a", large("b")), wait("s", kind="signal"), wait("w")
    )
    await kept.append(ENV, [(event_id(2), "y", large("w"))])
    await do(kept, Resolve("run.s", large("s")), Resume("run.w", ENV, event_id(2)))
    expected = {"a": large("a"), "s": large("s"), "w": large("w")}
    assert await results(kept) == expected
    (again,) = (await kept.due(executor="X", tokens=["again"])).leases
    assert again.payload == expected | {"e:0": held.payload["e:0"] if held.payload else b""}
    assert again.state_bytes == sum(map(len, again.payload.values()))


async def test_a_run_may_not_have_more_state_for_being_kept_compressed(kept: Store) -> None:
    """A checkpoint is refused by what its results are, not by what they take."""
    held = await begin(kept)
    guard = KeepGuard(held.item, held.token)
    size = held.state_bytes + len(large("a"))
    assert (await kept.apply(guard, [saved("a", large("a"))], most=(10, size))).status == "ok"
    refused = await kept.apply(guard, [saved("b", large("b"))], most=(10, size + 1_000))
    assert (refused.status, refused.step_count, refused.state_bytes) == ("full", 2, size + len(large("b")))


@pytest.mark.parametrize("events", [1, 3])
async def test_a_failure_is_told_byte_for_byte(kept: Store, clock: TestClock, events: int) -> None:
    """Events, error and result are joined without being read, whichever of them are compressed."""
    bodies = [large("a"), b'{"data":{},"name":"x"}', large("c")][:events]
    error = rfc8785.dumps({"error": "E", "message": "e" * 30_000})
    raw = rfc8785.dumps({"message": "e" * 30_000})
    run = start()._replace(events=tuple((event_id(n), body) for n, body in enumerate(bodies)))
    await do(kept, run, Finish("run", "Failed", b"", error, raw, b'{"error":%b}' % error, IDS))
    peeked = await kept.peek(10)
    assert peeked is not None
    (told,) = peeked.events
    assert (told.name, await kept.run_payload("run", "x")) == (FAILED, [raw])
    data = {
        "_inngest": {"status": "Failed"},
        "error": orjson.loads(error),
        "event": orjson.loads(bodies[0]),
        "events": [orjson.loads(body) for body in bodies],
        "function_id": "app-fn",
        "result": orjson.loads(raw),
        "run_id": "run",
    }
    event = {"data": data, "id": "run", "name": FAILED, "ts": clock.now_ms, "user": {}}
    assert told.body == rfc8785.dumps(event)


@pytest.mark.parametrize("end", ["returned", "failed"])
async def test_who_invoked_a_run_gets_its_answer(kept: Store, end: str) -> None:
    held = await begin(kept, "caller")
    await commit(kept, held, wait("i", run="caller", kind="invoke", name="app-fn"))
    text = large("o")
    done = finish("run", text)
    if end == "failed":
        done = Finish("run", "Failed", b"", text, text, b'{"error":%b}' % text, IDS)
    await do(kept, start(event=2, parent="caller.i"), done)
    kind = b"data" if end == "returned" else b"error"
    assert await results(kept, "caller") == {"i": b'{"%b":%b}' % (kind, text)}
    assert await kept.run_payload("run", "o" if end == "returned" else "x") == [text]


async def test_a_batch_has_ten_mebibytes_of_what_was_sent(kept: Store) -> None:
    """However little that takes where it is kept."""

    async def join(number: int) -> None:
        await kept.append(ENV, [(event_id(number), "x", large("a", 3 << 20))])
        await do(kept, Gather("batch", f"{FN}|g", ENV, FN, event_id(number), 60_000, 0, 100))

    for number in range(1, 4):
        await join(number)
    assert (await kept.due()).gathered == []
    await join(4)
    (full,) = (await kept.due()).gathered
    assert full.events == tuple(map(event_id, (1, 2, 3)))
    run = start()._replace(events=tuple((event, b"") for event in full.events))
    assert (await kept.apply(GatherGuard(full.id), [run])).status == "ok"
    assert await kept.run_payload("run", "e:2") == [large("a", 3 << 20)]


async def test_the_router_gets_no_more_at_once_than_fits(kept: Store) -> None:
    """Of 3 MiB each, two, whatever they take in Redis: they are all unpacked."""
    for number in range(1, 5):
        await kept.append(ENV, [(event_id(number), "x", large("a", 3 << 20))])
    peeked = await kept.peek(100)
    assert peeked is not None
    assert len(peeked.events) == 2
    for number in range(1, 5):
        await do(kept, start(f"run{number}", event=number, body=b""))
    assert len(await kept.run_heads([f"run{number}" for number in range(1, 5)])) == 2


async def test_state_that_is_too_large_for_a_lease_does_not_come_compressed_either(kept: Store) -> None:
    """Twice: for a planned step, and for what is only leased to be keyed again."""
    held = await begin(kept, body=large("a", 2 << 20))
    assert held.payload is None
    await commit(kept, held, saved("a"))
    assert (await lease(kept, "next")).payload is None
    assert await kept.run_state("run") == {"e:0": large("a", 2 << 20), "a": b'{"data":1}'}
    await kept.configure(ENV, functions=[(FN, "", ["sig", "other"])])
    await do(kept, start("second", event=2, body=large("a", 2 << 20)))
    (stale,) = (await kept.due(executor="X", tokens=["stale"])).leases
    assert (stale.rekey, stale.payload) == (True, None)


def noise(size: int) -> bytes:
    """JSON that gets no smaller."""
    return b'"%b"' % random.Random(1).randbytes(size).hex().encode()


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (large("a", 10_000), lambda size: size < 200),
        (b'"%b"' % (b"a" * 500), lambda size: size == 502),
        (noise(50_000), lambda size: 50_000 < size < 60_000),
    ],
    ids=["large", "small", "hexadecimal"],
)
async def test_what_it_takes(
    valkey: Address, clock: TestClock, value: bytes, taken: Callable[[int], bool]
) -> None:
    """Only what is large is compressed, and only where that is worth it."""
    settings = StoreSettings(prefix=f"{{test-taken-{clock.now_ms}-{len(value)}}}:", compress_over_bytes=1_000)
    store = Store(valkey, settings, clock_ms=clock)
    await store.open()
    try:
        held = await begin(store, body=value)
        await commit(store, held, saved("a", value), finish(output=value))
        for field in ("e:0", "a", "o"):
            assert taken(await size_in_redis(store, "run", field))
        assert (await store.run_state("run"))["a"] == value
    finally:
        await store.close()


async def test_a_server_that_compresses_reads_what_one_wrote_that_does_not(
    valkey: Address, clock: TestClock
) -> None:
    """And the other way round: the setting may be changed while runs go on."""
    prefix = f"{{test-both-{clock.now_ms}}}:"
    stores = [
        Store(valkey, StoreSettings(prefix=prefix, compress_over_bytes=over), clock_ms=clock)
        for over in (0, 1_000)
    ]
    for store in stores:
        await store.open()
    try:
        plain, packing = stores
        held = await begin(plain, body=large("a"))
        await commit(packing, held, saved("a", large("b")))
        for store in stores:
            assert await store.run_state("run") == {"e:0": large("a"), "a": large("b")}
    finally:
        for store in stores:
            await store.close()


async def test_a_damaged_result_stops_its_own_run_and_nobody_else(store: Store) -> None:
    """The lease comes, so that its attempts are used up; whoever reads the result is told."""
    await begin(store)
    await do(store, Save("run", "a", b"1", False))
    await store.command("HSET", store.key("pl:run"), "a", b"z99999\nno frames")
    await do(store, Plan("run", "p"), start("other", event=2))
    leases = (await store.due(executor="X", tokens=["one", "two"])).leases
    payloads = {held.run: held.payload for held in leases}
    assert payloads["run"] is None
    assert payloads["other"] is not None
    with pytest.raises(UnreadableBodyError, match="cannot be read"):
        await store.run_state("run")


async def test_a_damaged_event_meets_nobody_and_does_not_hold_up_the_next(store: Store) -> None:
    await store.append(ENV, [(event_id(1), "x", b"{}"), (event_id(2), "x", b"{}")])
    await store.command("SET", store.key(f"ev:{ENV}:{event_id(1)}"), b"1 5\nz7\nno frame")
    peeked = await store.peek(10)
    assert peeked is not None
    assert [event.body for event in peeked.events] == [b"", b"{}"]
    with pytest.raises(UnreadableBodyError):
        await store.event(ENV, event_id(1))
    await route_all(store)
    assert await store.peek(10) is None


async def test_the_effects_of_effects_are_compressed_too(kept: Store) -> None:
    """What goes with a wait, and what happens instead of one."""
    await begin(kept)
    emitted = Emit(ENV, event_id(5), "inngest/function.invoked", large("e"))
    refusal = Save("run", "t", large("t"), False)
    await kept.apply(NoGuard(), [wait("s", kind="signal", name="n", then=(emitted,))])
    await kept.apply(NoGuard(), [wait("t", kind="signal", name="n", conflict=(refusal,))])
    event = await kept.event(ENV, event_id(5))
    assert event is not None
    assert event.body == large("e")
    assert await results(kept) == {"t": large("t")}


async def test_a_step_is_asked_for_with_ten_thousand_results(store: Store) -> None:
    """More than a call in Lua has arguments: a planned step, and one result that came after it was planned."""
    await begin(store)
    for first in range(0, 9_984, 256):
        await do(store, *(Save("run", f"s{n}", b"1", False) for n in range(first, first + 256)))
    await do(store, Plan("run", "p"), Save("run", "late", b"2", False))
    held = await lease(store, "planned")
    assert held.payload is not None
    assert len(held.payload) == 9_984 + 1
    assert "late" not in held.payload
    assert held.payload["s9983"] == b"1"
