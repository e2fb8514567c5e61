"""What one script may bring, and when it wants to be called again."""

from innkeeper_engine.model.clock import RandomIds
from innkeeper_engine.model.effects import CursorGuard
from innkeeper_engine.store.store import Store
from tests.conftest import OpenStore

NOW_MS = 1_800_000_000_000


async def test_large_events_are_routed_in_portions(store: Store) -> None:
    """A reply of 64 MiB would hold the server, and all who wait for it, up for a good while."""
    ids = RandomIds()
    body = b'{"data":{"x":"%b"},"name":"n"}' % (b"x" * 500_000)
    sent = [ids.ulid(NOW_MS) for _ in range(20)]
    await store.append("e", [(event_id, "n", body) for event_id in sent])
    routed: list[str] = []
    while (peeked := await store.peek(128)) is not None:
        assert sum(len(event.body) for event in peeked.events) <= 5 * 1024 * 1024
        routed += [event.id for event in peeked.events]
        await store.apply(CursorGuard("e", peeked.cursor, "", len(peeked.events)), [])
    assert routed == sent


async def test_an_event_larger_than_a_portion_is_routed_all_the_same(store: Store) -> None:
    body = b'{"data":{"x":"%b"},"name":"n"}' % (b"x" * (5 << 20))
    await store.append("e", [("0" * 26, "n", body), ("1" * 26, "n", b"{}")])
    peeked = await store.peek(128)
    assert peeked is not None
    assert [event.id for event in peeked.events] == ["0" * 26]


async def test_due_tells_the_clock_by_which_timers_are_due(open_store: OpenStore) -> None:
    """An executor whose clock is ahead would ask a thousand times a second; one whose clock is behind, too late.

    When the server's clock is put back, its timers come by the time that had been: `clock_ms` is the clock as it is,
    so that nobody asks in vain meanwhile.
    """
    clock = [NOW_MS]
    store = await open_store(clock_ms=lambda: clock[0])
    await store.configure("e", crons=[("e/fn#* * * * *", NOW_MS + 4_000, NOW_MS + 4_000)])
    first = await store.due()
    assert (first.next_ms, first.clock_ms) == (NOW_MS + 4_000, NOW_MS)
    clock[0] -= 3_600_000
    assert (await store.due()).clock_ms == NOW_MS - 3_600_000
