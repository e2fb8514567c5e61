"""What was queued under keys that its function has not any more goes back under the present ones, uncalled."""

import pytest

from innkeeper_engine.model.effects import Effect, Plan, Rekey, Retry, Save, Start
from innkeeper_engine.model.guards import LeaseGuard
from innkeeper_engine.model.state import Lease
from innkeeper_engine.store.store import Held, Store, StoreSettings
from tests.conftest import OpenStore
from tests.engine.model_driver import TestClock
from tests.engine.model_names import signed
from tests.engine.model_runs import (
    ENV,
    FN,
    IDS,
    STARTS,
    STEPS,
    begin,
    cancel,
    commit,
    do,
    finish,
    lease,
    nothing_to_lease,
    saved,
    start,
    wait,
)
from tests.engine.model_server import read_shard

NEW_STARTS, NEW_STEPS = signed(STARTS, "k"), signed(STEPS, "k")


async def change_keys(
    store: Store, signature: str = "k", *caps: str | int, held: Held = "", fn: str = FN
) -> None:
    """The function has these keys from now on, and these caps."""
    await store.configure(ENV, functions=[(fn, held, [*caps, *(("sig", signature) if signature else ())])])


def back(
    held: Lease,
    starts: str = NEW_STARTS,
    steps: str = NEW_STEPS,
    *,
    order: float = 1,
    boost_ms: int = 0,
) -> Rekey:
    """The leased item under other keys."""
    return Rekey(held.item, held.run, starts, steps, order, boost_ms)


async def field(store: Store, key: str, name: str) -> bytes | None:
    """A field of one of the shard's hashes."""
    value: bytes | None = await store.command("HGET", store.key(key), name)
    return value


async def is_throttled(store: Store) -> bool:
    """Whether a start has gone out at all."""
    return bool(await store.command("EXISTS", store.key(f"tat:t|{FN}")))


async def test_nothing_is_keyed_again_while_the_keys_are_the_same(store: Store) -> None:
    """Without keys there is no signature; with keys it is in the lane."""
    assert not (await begin(store)).rekey
    await change_keys(store)
    await do(store, start("new", event=2)._replace(start_partition=NEW_STARTS, step_partition=NEW_STEPS))
    assert not (await lease(store, "a")).rekey


async def test_a_start_under_old_keys_is_not_called_before_it_is_keyed_again(store: Store) -> None:
    """It has not begun by that, waits among the starts again, and begins under the new keys."""
    await do(store, start())
    await change_keys(store)
    held = await lease(store, "a")
    assert (held.rekey, held.kind, held.attempt, held.generation) == (True, "s", 0, 1)
    assert held.started_ms == held.queued_ms
    summary = await store.run("run")
    assert summary is not None
    assert (summary.status, summary.started_ms) == ("Scheduled", None)
    assert (await store.function_counts(ENV, ["app-fn"]))["app-fn"].queued == 1

    assert (await commit(store, held, back(held))).status == "ok"
    assert await field(store, "i:run.0", "p") == NEW_STARTS.encode()
    assert await field(store, "st:run", "sp") == NEW_STEPS.encode()
    again = await lease(store, "b")
    assert (again.rekey, again.item, again.attempt, again.generation, again.expiries) == (
        False,
        "run.0",
        0,
        2,
        0,
    )
    assert (await store.function_counts(ENV, ["app-fn"]))["app-fn"].running == 1


async def test_a_step_under_old_keys_goes_back_among_the_steps(store: Store) -> None:
    """As does everything that the run asks for from then on."""
    held = await begin(store)
    await commit(store, held, Plan("run", "a"), Plan("run", "b"))
    await change_keys(store)
    first = await lease(store, "a")
    assert (first.rekey, first.kind, first.step) == (True, "p", "a")
    await commit(store, first, back(first, order=7))
    assert await field(store, "i:run:a", "p") == NEW_STEPS.encode()
    # The other one is keyed at a visit of its own.
    second = await lease(store, "b")
    assert (second.rekey, second.step) == (True, "b")
    await commit(store, second, back(second, order=7))
    called = await lease(store, "c")
    assert (called.rekey, called.step) == (False, "a")
    await commit(store, called, Save("run", "a", b'{"data":1}', True))
    assert await field(store, "i:run.1", "p") == NEW_STEPS.encode()
    assert await field(store, "i:run.1", "o") == b"7"


async def test_who_knows_other_keys_than_are_written_is_asked_again_after_a_second(
    timed: Store, clock: TestClock
) -> None:
    """An executor of another version may name keys otherwise: two of them must not keep the store busy."""
    held = await begin(timed)
    await commit(timed, held, Plan("run", "a"))
    await change_keys(timed)
    strange = await lease(timed, "a")
    await commit(timed, strange, back(strange, signed(STARTS, "z"), signed(STEPS, "z")))
    assert await nothing_to_lease(timed)
    clock.now_ms += 1000
    again = await lease(timed, "b")
    assert again.rekey
    await commit(timed, again, back(again))
    assert not (await lease(timed, "c")).rekey


async def test_a_sleeping_run_is_keyed_again_when_it_wakes(timed: Store, clock: TestClock) -> None:
    """What was not queued when the keys changed."""
    held = await begin(timed)
    await commit(timed, held, wait("w", deadline_ms=clock.now_ms + 10))
    await change_keys(timed)
    assert await nothing_to_lease(timed)
    clock.now_ms += 10
    woken = await lease(timed, "a")
    assert (woken.rekey, woken.kind) == (True, "d")
    await commit(timed, woken, back(woken))
    called = await lease(timed, "b")
    assert (called.rekey, called.stack) == (False, ("w",))


async def test_a_discovery_that_is_keyed_again_still_waits_for_its_call(store: Store) -> None:
    """A step that ends meanwhile asks for no second one: the first has not looked yet."""
    held = await begin(store)
    await commit(store, held, Plan("run", "other"))
    planned = await lease(store, "p")
    await do(store, saved("a"))
    await change_keys(store)
    discovery = await lease(store, "d")
    assert (discovery.rekey, discovery.kind) == (True, "d")
    await commit(store, planned, Save("run", "other", b'{"data":1}', True))
    await commit(store, discovery, back(discovery))
    called = await lease(store, "e")
    assert (called.rekey, called.item) == (False, discovery.item)
    assert called.stack == ("a", "other")
    assert await nothing_to_lease(store)


async def test_only_the_first_event_comes_along(store: Store) -> None:
    """It is all that keys are made of; a run may have megabytes of results."""
    held = await begin(store)
    await commit(store, held, saved("a", b'{"data":"%b"}' % (b"x" * 300_000)))
    await change_keys(store)
    keyed = await lease(store, "a")
    assert keyed.payload is not None
    assert list(keyed.payload) == ["e:0"]
    assert (keyed.stack, keyed.step_count) == ((), 1)


async def test_an_event_that_is_too_large_is_left_out(store: Store) -> None:
    """Who needs it reads it."""
    await do(store, start(body=b'{"data":"%b"}' % (b"x" * 300_000)))
    await change_keys(store)
    assert (await lease(store, "a")).payload is None


async def test_keying_again_takes_no_slot_and_no_turn_of_the_throttle(store: Store) -> None:
    """However full the limits are."""
    await change_keys(store, "", "c", 1, "t", "60000,1")
    running = await begin(store, "one")
    await do(store, start("two", event=2), start("three", event=3))
    assert await nothing_to_lease(store)
    await change_keys(store, "k", "c", 1, "t", "60000,1")
    held = [await lease(store, f"t{n}") for n in range(2)]
    assert {each.run for each in held} == {"two", "three"}
    assert all(each.rekey for each in held)
    for each in held:
        await commit(store, each, back(each))
    # Now they wait for room again.
    assert await nothing_to_lease(store)
    await commit(store, running, finish("one"))
    assert await nothing_to_lease(store), "the throttle's next turn is in a minute"


@pytest.mark.parametrize("nodes", [1, 3, 100])
async def test_what_waits_at_limits_is_let_out_when_the_keys_change(
    open_store: OpenStore, nodes: int
) -> None:
    """At limits of lanes and of partitions, in as many scripts as it takes."""
    store = await open_store()
    small = StoreSettings(prefix=store.settings.prefix, nodes=nodes)
    store.settings = small
    caps = ("c", 1, "c:1", 1)
    await change_keys(store, "", *caps)
    partitions = [f"{STEPS}\x02c:1|v{n % 3}" for n in range(12)] + [STARTS] * 3
    for n, partition in enumerate(partitions):
        first = start(f"r{n:02}", event=n, order=n)
        await do(store, first._replace(start_partition=partition, step_partition=partition))
    running = await lease(store, "first")
    assert await nothing_to_lease(store)
    await change_keys(store, "k", *caps)
    leased: list[Lease] = []
    for _ in range(40):
        due = await store.due(executor="X", tokens=[f"t{len(leased)}-{n}" for n in range(4)])
        leased += due.leases
    assert len(leased) == 14
    assert all(each.rekey for each in leased)
    assert not running.rekey
    left = [name for name in await read_shard(store) if name.split(":")[0] in ("wl", "wn", "wd", "again")]
    assert left == []


async def test_what_waits_under_the_present_keys_stays_where_it_is(store: Store) -> None:
    """A change back finds it where it was; other functions at the same limit are not touched."""
    shared = "e:1|v"
    other = f"{ENV}/other"
    await change_keys(store, "", "e:1", 1)
    await change_keys(store, "", "e:1", 1, fn=other)
    mine, theirs = f"{STEPS}\x02{shared}", f"{other}\x01t\x02{shared}"
    for n, (run, fn, partition) in enumerate(
        [("one", FN, mine), ("two", FN, mine), ("three", other, theirs)]
    ):
        first = start(run, event=n, fn=fn)
        await do(store, first._replace(start_partition=partition, step_partition=partition))
    running = await lease(store, "a")
    assert running.run == "one"
    assert await nothing_to_lease(store)
    await change_keys(store, "k", "e:1", 1)
    await change_keys(store, "", "e:1", 1)
    assert await nothing_to_lease(store)
    await commit(store, running, finish("one"))
    assert {(await lease(store, "b")).run} <= {"two", "three"}
    assert await nothing_to_lease(store)


async def test_a_held_lane_keeps_what_is_to_be_keyed_again(store: Store) -> None:
    """Until its pause ends."""
    await do(store, start())
    await change_keys(store, "k", held="s")
    assert await nothing_to_lease(store)
    await change_keys(store, "k")
    assert (await lease(store, "a")).rekey


@pytest.mark.parametrize("how", ["expires", "executor comes back", "tried again"])
async def test_a_start_that_is_not_keyed_waits_where_it_was(timed: Store, clock: TestClock, how: str) -> None:
    """It slips past no throttle: among the steps there is none. Nothing counts against it."""
    await change_keys(timed, "", "t", "60000,1")
    await do(timed, start())
    await change_keys(timed, "k", "t", "60000,1")
    held = await lease(timed, "a")
    if how == "expires":
        clock.now_ms += timed.settings.lease_ms
        assert (await timed.due()).expired == 1
    elif how == "executor comes back":
        assert await timed.hello("X", []) == 1
    else:
        await commit(timed, held, Retry(held.item, held.attempt, clock.now_ms + 5))
        assert await nothing_to_lease(timed)
        clock.now_ms += 5
    assert await field(timed, "i:run.0", "p") == STARTS.encode()
    assert await field(timed, "i:run.0", "rk") is None
    again = await lease(timed, "b")
    assert (again.rekey, again.expiries, again.attempt) == (True, 0, 0)
    # The keys are as they were: it goes out as a start.
    await timed.hello("X", [])
    await change_keys(timed, "", "t", "60000,1")
    assert not await is_throttled(timed)
    begun = await lease(timed, "c")
    assert (begun.rekey, begun.kind) == (False, "s")
    assert await is_throttled(timed)


@pytest.mark.parametrize("how", ["finishes", "expires"])
async def test_what_an_older_version_took_back_is_leased_as_always(
    timed: Store, clock: TestClock, how: str
) -> None:
    """It leaves the mark of an item that was leased to be keyed again; what is leased later has a slot, and frees it."""
    await change_keys(timed, "", "c", 1)
    await do(timed, start())
    await change_keys(timed, "k", "c", 1)
    held = await lease(timed, "a")
    assert held.rekey
    await change_keys(timed, "", "c", 1)
    await timed.hello("X", [])
    await timed.command("HSET", timed.key("i:run.0"), "rk", held.token)
    begun = await lease(timed, "b")
    assert not begun.rekey
    slots = timed.key(f"s:c|{FN}")
    assert await timed.command("SMEMBERS", slots) == [b"run.0"]
    if how == "finishes":
        await commit(timed, begun, finish())
    else:
        clock.now_ms += timed.settings.lease_ms
        assert (await timed.due()).expired == 1
        assert await field(timed, "i:run.0", "x") == b"1"
    assert await timed.command("EXISTS", slots) == 0


async def test_a_start_that_was_called_and_failed_is_keyed_among_the_steps(
    timed: Store, clock: TestClock
) -> None:
    """It is throttled once, not again for being keyed again."""
    held = await begin(timed)
    await commit(timed, held, Retry(held.item, 1, clock.now_ms + 5))
    await change_keys(timed)
    clock.now_ms += 5
    keyed = await lease(timed, "a")
    assert (keyed.rekey, keyed.kind, keyed.attempt) == (True, "s", 1)
    assert keyed.started_ms == held.started_ms
    await commit(timed, keyed, back(keyed))
    assert await field(timed, "i:run.0", "p") == NEW_STEPS.encode()
    again = await lease(timed, "b")
    assert (again.rekey, again.attempt) == (False, 1)


async def test_what_was_leased_when_the_keys_changed_goes_back_under_the_runs_present_keys(
    store: Store,
) -> None:
    """Another item of the run has been keyed in the meantime."""
    held = await begin(store)
    await commit(store, held, Plan("run", "a"), Plan("run", "b"))
    calling = await lease(store, "a")
    await change_keys(store)
    keyed = await lease(store, "b")
    await commit(store, keyed, back(keyed, order=-9, boost_ms=10))
    await commit(store, calling, Retry(calling.item, 1, 0))
    item = f"i:{calling.item}"
    assert await field(store, item, "p") == NEW_STEPS.encode()
    assert await field(store, item, "o") == b"-9"
    assert await field(store, item, "b") == b"10"
    assert not (await lease(store, "c")).rekey


async def test_the_keys_change_again_before_the_item_is_back(timed: Store, clock: TestClock) -> None:
    """It comes out once more, after the second that such an item waits."""
    await do(timed, start())
    await change_keys(timed, "k")
    held = await lease(timed, "a")
    await change_keys(timed, "m")
    await commit(timed, held, back(held))
    clock.now_ms += 1000
    again = await lease(timed, "b")
    assert again.rekey
    await commit(timed, again, back(again, signed(STARTS, "m"), signed(STEPS, "m")))
    assert not (await lease(timed, "c")).rekey


async def test_a_run_that_is_cancelled_meanwhile_does_not_come_back(store: Store) -> None:
    """Nothing of it is left in the queue."""
    await do(store, start())
    await change_keys(store)
    held = await lease(store, "a")
    await do(store, cancel())
    assert (await commit(store, held, back(held))).status == "ended"
    assert await nothing_to_lease(store)
    left = {name.split(":")[0] for name in await read_shard(store)}
    assert not left & {"i", "st", "ri", "q", "n", "s", "x"}


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_run_that_ends_in_the_same_commit_does_not_come_back(store: Store, is_first: bool) -> None:
    """In whatever order it is asked for."""
    await do(store, start())
    await change_keys(store)
    held = await lease(store, "a")
    effects: list[Effect] = [cancel(), back(held)] if is_first else [back(held), cancel()]
    assert (await commit(store, held, *effects)).status == "ok"
    assert await nothing_to_lease(store)
    left = {name.split(":")[0] for name in await read_shard(store)}
    assert not left & {"i", "st", "ri", "q", "n", "s", "x"}


async def test_a_run_may_end_instead(store: Store) -> None:
    """Its function is gone: nothing waits for keys, the limits are as they were."""
    await do(store, start()._replace(start_partition=NEW_STARTS, step_partition=NEW_STEPS))
    await change_keys(store, "k", "c", 1)
    await store.configure(ENV, gone=[FN])
    held = await lease(store, "a")
    assert held.rekey
    assert (await commit(store, held, finish())).status == "ok"
    left = {name.split(":")[0] for name in await read_shard(store)}
    assert not left & {"i", "st", "ri", "q", "n", "s", "x", "timers"}


async def test_a_lost_lease_keys_nothing(store: Store) -> None:
    """Somebody else has the item by now."""
    await do(store, start())
    await change_keys(store)
    held = await lease(store, "a")
    await store.hello("X", [])
    await lease(store, "b", executor="Y")
    assert (await commit(store, held, back(held))).status == "lost"
    assert await field(store, "i:run.0", "p") == STARTS.encode()
    assert await field(store, "st:run", "sp") == STEPS.encode()


async def test_an_item_that_is_not_the_leased_one_stays_as_it_is(store: Store) -> None:
    """The effect belongs to its lease."""
    await do(store, start("one", event=1), start("two", event=2))
    await change_keys(store)
    held = await lease(store, "a")
    other = Rekey("two.0", "two", NEW_STARTS, NEW_STEPS, 1, 0)
    await store.apply(LeaseGuard(held.item, held.token, held.seen), [other, back(held)])
    assert await field(store, "st:two", "sp") == STEPS.encode()
    assert await field(store, "st:one", "sp") == NEW_STEPS.encode()


async def test_the_start_timeout_goes_on_while_a_start_is_keyed_again(timed: Store, clock: TestClock) -> None:
    """It has not had its first request."""
    late: Start = start()._replace(start_timeout_ms=100, ids=IDS)
    await do(timed, late)
    await change_keys(timed)
    held = await lease(timed, "a")
    await commit(timed, held, back(held))
    await change_keys(timed, "k", held="s")
    clock.now_ms += 100
    await timed.due()
    summary = await timed.run("run")
    assert summary is not None
    assert summary.status == "Cancelled"
