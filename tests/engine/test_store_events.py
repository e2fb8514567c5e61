"""Events: accepted in order, routed once."""

import pytest

from innkeeper_engine.model.effects import Emit, Keep
from innkeeper_engine.model.guards import CursorGuard
from innkeeper_engine.model.state import QueuedEvent
from innkeeper_engine.store.connection import StoreError
from innkeeper_engine.store.store import NewEvent, Store
from tests.conftest import OpenStore
from tests.engine.model_driver import TestClock
from tests.engine.model_runs import ENV, begin, commit, do, event_id, finish, nothing_to_lease, start, wait
from tests.engine.model_server import read_shard


def new(number: int, name: str = "x", body: bytes = b"{}") -> NewEvent:
    """An event as it comes in."""
    return (event_id(number), name, body)


async def peeked(store: Store, n: int = 100) -> list[QueuedEvent]:
    """What waits to be routed."""
    found = await store.peek(n)
    return [] if found is None else found.events


async def test_events_wait_in_the_order_in_which_they_were_accepted(timed: Store, clock: TestClock) -> None:
    """Numbered from 1, with the time."""
    assert await timed.append(ENV, [new(5), new(3)]) == 2
    clock.now_ms += 7
    assert await timed.append(ENV, [new(4, "z", b'{"a":[]}')]) == 1
    found = await peeked(timed)
    assert [(event.id, event.seq) for event in found] == [
        (event_id(5), 1),
        (event_id(3), 2),
        (event_id(4), 3),
    ]
    assert (found[2].name, found[2].body, found[2].received_ms) == ("z", b'{"a":[]}', clock.now_ms)


async def test_a_seeded_send_that_comes_again_stores_nothing(store: Store) -> None:
    """An SDK repeats a send with the same ids; what is new in it is stored all the same."""
    assert await store.append(ENV, [new(1), new(2)], seeded=True) == 2
    assert await store.append(ENV, [new(1), new(2), new(3)], seeded=True) == 1
    assert [event.id for event in await peeked(store)] == [event_id(1), event_id(2), event_id(3)]


async def test_the_memory_of_a_seed_is_per_environment(store: Store) -> None:
    """And outlives the routing of the event."""
    await store.append("one", [new(1)], seeded=True)
    await store.apply(CursorGuard("one", 0, "", 1), [])
    assert await store.append("one", [new(1)], seeded=True) == 0
    assert await store.append("two", [new(1)], seeded=True) == 1


async def test_many_events_are_accepted_in_one_call(store: Store) -> None:
    """In order, whatever the number of round trips."""
    assert await store.append(ENV, [new(n) for n in range(600)]) == 600
    assert [event.id for event in await peeked(store, 1_000)] == [event_id(n) for n in range(600)]


async def test_a_stored_event_can_be_looked_up(store: Store) -> None:
    """An unknown one is None."""
    await store.append(ENV, [new(1, body=b"line one\nline two")])
    found = await store.event(ENV, event_id(1))
    assert found is not None
    assert (found.seq, found.body) == (1, b"line one\nline two")
    assert await store.event(ENV, event_id(2)) is None


async def test_the_cursor_moves_with_the_effects(store: Store) -> None:
    """What was routed does not come again."""
    await store.append(ENV, [new(n) for n in range(3)])
    applied = await store.apply(CursorGuard(ENV, 0, "", 2), [start("a"), start("b", event=2)])
    assert applied.status == "ok"
    assert [event.seq for event in await peeked(store)] == [3]
    assert await store.is_routed(ENV, 2)
    assert not await store.is_routed(ENV, 3)


async def test_a_second_router_is_refused_as_a_whole(store: Store) -> None:
    """Both saw the same events; only one of them moves the cursor."""
    await store.append(ENV, [new(1)])
    assert (await store.apply(CursorGuard(ENV, 0, "", 1), [start("a")])).status == "ok"
    refused = await store.apply(CursorGuard(ENV, 0, "", 1), [start("b")])
    assert refused.status == "moved"
    assert await store.run("b") is None
    assert await peeked(store) == []


async def test_an_event_is_routed_in_pieces(store: Store) -> None:
    """The position within it is part of the cursor."""
    await store.append(ENV, [new(1)])
    assert (await store.apply(CursorGuard(ENV, 0, "", 0, "w:0:p"), [])).status == "ok"
    assert (await store.apply(CursorGuard(ENV, 0, "", 0, "w:0:q"), [start("b")])).status == "moved"
    found = await store.peek(1)
    assert found is not None
    assert (found.within, found.cursor) == ("w:0:p", 0)
    assert (await store.apply(CursorGuard(ENV, 0, "w:0:p", 1), [])).status == "ok"
    await store.append(ENV, [new(2)])
    found = await store.peek(1)
    assert found is not None
    assert (found.within, found.cursor) == ("", 1)


async def test_environments_take_turns(store: Store) -> None:
    """One with a backlog does not hold up the others."""
    await store.append("one", [new(n) for n in range(3)])
    await store.append("two", [new(9)])
    turns = []
    while found := await store.peek(1):
        turns.append(found.env)
        await store.apply(CursorGuard(found.env, found.cursor, "", 1), [])
    assert turns == ["one", "two", "one", "one"]


async def test_an_event_that_expired_before_it_was_routed_starts_nothing(store: Store) -> None:
    """And does not stop the cursor, whenever it expires."""
    await store.append(ENV, [new(1), new(2)])
    await store.command("DEL", store.key(f"ev:{ENV}:{event_id(1)}"))
    found = await peeked(store)
    assert (found[0].body, found[0].received_ms) == (b"", 0)
    stored = start("a", event=1, body=b"", idempotency="k"), start("b", event=2, body=b"")
    assert (await store.apply(CursorGuard(ENV, 0, "", 2), stored)).status == "ok"
    assert await store.run("a") is None
    assert await store.run_payload("b", "e:0") == [b"{}"]
    assert not [
        name for name in await read_shard(store) if name.startswith(("idem", f"er:{ENV}:{event_id(1)}"))
    ]


async def test_an_event_to_look_up_is_not_routed(store: Store) -> None:
    """A cron's."""
    await do(store, Keep(ENV, event_id(1), b'{"name":"inngest/scheduled.timer"}'))
    assert await peeked(store) == []
    found = await store.event(ENV, event_id(1))
    assert found is not None
    assert (found.seq, found.body) == (0, b'{"name":"inngest/scheduled.timer"}')


async def test_an_effect_sends_an_event_behind_what_waits(store: Store) -> None:
    """The engine's own events are in the same order as all others."""
    await store.append(ENV, [new(1)])
    await store.apply(CursorGuard(ENV, 0, "", 1), [Emit(ENV, event_id(2), "inngest/x", b"{}")])
    assert [(event.id, event.seq) for event in await peeked(store)] == [(event_id(2), 2)]


async def test_at_full_memory_events_are_refused_and_runs_go_on(open_store: OpenStore) -> None:
    """Finishing runs is what frees memory: routing to who waits, leasing and committing are not refused."""
    store = await open_store()
    await store.append(ENV, [new(1)])
    held = await begin(store, event=5)
    before = await store.command("CONFIG", "GET", "maxmemory")
    await store.command("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(StoreError, match="OOM"):
            await store.append(ENV, [new(2)])
        await commit(store, held, wait("w"))
        assert [event.id for event in await peeked(store)] == [event_id(1)]
        assert await store.waiters(ENV, []) == []
        assert (await store.apply(CursorGuard(ENV, 0, "", 1), [])).status == "ok"
        assert await store.beat([]) == ([], [])
        assert await store.hello("X", []) == 0
        await do(store, finish())
        assert await nothing_to_lease(store)
        assert await store.configure(ENV) > 0
    finally:
        await store.command("CONFIG", "SET", "maxmemory", before[1].decode())
