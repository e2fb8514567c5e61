"""What one script may bring, and when it wants to be called again."""

import pytest

from innkeeper_engine.model.clock import RandomIds
from innkeeper_engine.model.effects import MAX_EFFECTS
from innkeeper_engine.model.guards import CursorGuard
from innkeeper_engine.store.connection import Address
from innkeeper_engine.store.store import Store, StoreSettings
from tests.conftest import OpenStore
from tests.engine.model_runs import commit, do, finish, start

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


MANY = 5_000
CROWD_FN = "e/f"
CROWD_LANE = f"{CROWD_FN}\x01t"


async def crowd(store: Store, partitions: list[str]) -> None:
    """One run in each of these partitions, all of which have waited in vain for room at a limit without any."""
    await store.configure("e", functions=[(CROWD_FN, "", ["A", 0])])
    starts = [
        start(f"r{n:04}", event=n, fn=CROWD_FN, announces=False)._replace(
            env="e", start_partition=partition, step_partition=partition
        )
        for n, partition in enumerate(partitions)
    ]
    for first in range(0, len(starts), MAX_EFFECTS):
        await do(store, *starts[first : first + MAX_EFFECTS])
    while await store.command("EXISTS", store.key("ready")):
        assert (await store.due(executor="X", tokens=["none"])).leases == []


async def let_out(store: Store) -> int:
    """How many partitions do not wait any more."""
    return int(await store.command("ZCARD", store.key(f"lr:{CROWD_LANE}")))


CROWDS = {
    "at one limit": [f"{CROWD_LANE}\x02A|x\x02B|{n}" for n in range(MANY)],
    "at a limit each": [f"{CROWD_LANE}\x02A|{n}" for n in range(MANY)],
}


@pytest.mark.long
@pytest.mark.parametrize(("where", "caps"), [("at one limit", []), ("at a limit each", ["A", 1])])
async def test_five_thousand_that_wait_are_let_out_in_portions(
    store: Store, where: str, caps: list[str | int]
) -> None:
    """A limit is removed or raised: no script looks at more than a thousand of them, and none is forgotten."""
    await crowd(store, CROWDS[where])
    # What a page of limits has more than is left to be done.
    most = store.settings.nodes + 500
    await store.configure("e", functions=[(CROWD_FN, "", caps)])
    out = await let_out(store)
    assert 0 < out <= most
    while out < MANY:
        # The one who was woken has more for the next.
        assert await store.command("LPOP", store.key("wake")) is not None
        await store.due()
        before, out = out, await let_out(store)
        assert before < out <= before + most
    assert await store.command("EXISTS", store.key("again"), store.key("wd:A")) == 0
    leased: set[str] = set()
    while (due := await store.due(executor="X", tokens=[f"t{n}" for n in range(64)])).leases:
        leased |= {lease.run for lease in due.leases}
    assert len(leased) == MANY


async def test_a_change_that_is_taken_back_leaves_nobody_where_nothing_holds_him(
    open_store: OpenStore, valkey: Address
) -> None:
    """A limit is removed, and is there again before all are out: who was let out waits again, then all go on."""
    settings = StoreSettings(prefix=(await open_store()).settings.prefix, nodes=10)
    store = Store(valkey, settings)
    await store.open()
    try:
        await crowd(store, CROWDS["at one limit"][:100])
        await store.configure("e", functions=[(CROWD_FN, "", [])])
        assert await let_out(store) == 10
        await store.configure("e", functions=[(CROWD_FN, "", ["A", 1])])
        leased = set()
        for n in range(100):
            due = await store.due(executor="X", tokens=[f"t{n}a", f"t{n}b"])
            (lease,) = due.leases
            leased.add(lease.run)
            await commit(store, lease, finish(lease.run))
        assert len(leased) == 100
    finally:
        await store.close()


async def test_those_who_are_to_be_looked_at_wake_an_executor_though_nobody_is_let_out(
    open_store: OpenStore, valkey: Address
) -> None:
    """A limit that is lowered lets nobody out; those behind the first portion could be others'."""
    store = Store(valkey, StoreSettings(prefix=(await open_store()).settings.prefix, nodes=10))
    await store.open()
    try:
        await crowd(store, CROWDS["at a limit each"][:1_000])
        await store.configure("e", functions=[(CROWD_FN, "", ["A", -1])])
        scripts = 1
        while await store.command("EXISTS", store.key("again")):
            assert await store.command("LPOP", store.key("wake")) is not None
            await store.due()
            scripts += 1
        assert scripts > 2
        assert await let_out(store) == 0
    finally:
        await store.close()


async def test_many_functions_of_one_app_change_at_once(store: Store) -> None:
    """Each looks at its own waiters alone."""
    fns = [f"e/f{n}" for n in range(1_200)]
    await store.configure("e", functions=[(fn, "", ["c", 0]) for fn in fns])
    starts = [start(f"r{n}", event=n, fn=fn, announces=False)._replace(env="e") for n, fn in enumerate(fns)]
    for first in range(0, len(starts), MAX_EFFECTS):
        await do(store, *starts[first : first + MAX_EFFECTS])
    while await store.command("EXISTS", store.key("ready")):
        await store.due(executor="X", tokens=["none"])
    assert await store.command("SCARD", store.key("wd:c")) == 1_200
    await store.configure("e", functions=[(fn, "", []) for fn in fns])
    scripts = 1
    while await store.command("EXISTS", store.key("again")):
        await store.due()
        scripts += 1
    assert 1 < scripts <= 3
    assert await store.command("ZCARD", store.key("ready")) == 1_200
    assert await store.command("EXISTS", store.key("wd:c")) == 0
