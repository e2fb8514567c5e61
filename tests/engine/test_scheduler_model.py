"""The store's scheduler does what its model does, and the model keeps its promises, whatever happens in which order."""

import asyncio
import random
import secrets
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from innkeeper_engine.store.connection import Address
from innkeeper_engine.store.store import Store, StoreSettings
from tests.engine.model_driver import Lockstep, TestClock
from tests.engine.model_names import fn_of, item_name, number_of, signed
from tests.engine.model_promises import check
from tests.engine.model_rules import Cap, Op, Throttle
from tests.engine.model_scheduler import Scheduler

A, B, N, T, T_OF_G = "A|x", "B|x", "N|x", "tT|f", "tT|g"


class Setup(NamedTuple):
    """Partitions of some functions, and the functions' own caps."""

    partitions: Sequence[str]
    caps: Mapping[tuple[str, str], Cap]
    signatures: Mapping[str, Sequence[str]] = {}
    """Function -> signatures that its keys may come to have; otherwise they have none."""
    boosts: Sequence[int] = (0,)
    """Priorities that items may have."""

    def first_signatures(self) -> dict[str, str]:
        """Those of the beginning."""
        return {fn: signatures[0] for fn, signatures in self.signatures.items()}


def part(fn: str, kind: str, lane: Sequence[str] = (), keyed: Sequence[str] = ()) -> str:
    """The name of a partition."""
    return "\x02".join(["\x01".join([fn, kind, *lane]), *keyed])


SETUPS = {
    "two shared limits": Setup(
        [part("f", "t", (), (A, B)), part("g", "t", (), (A,)), part("g", "t", ("C|x",), (B,))],
        {("f", "A"): 1, ("f", "B"): 1, ("g", "A"): 1, ("g", "B"): 1},
    ),
    "one counter, own caps 1 and 2": Setup(
        [part("f", "t", (), (A,)), part("g", "t", (), (A,))],
        {("f", "A"): 1, ("g", "A"): 2},
    ),
    "starts and steps, unkeyed limit and throttle, keys": Setup(
        [part("f", "s", (N, T), (A,)), part("f", "s", (N, T), (B,)), part("f", "t", (N,), (A,))],
        {("f", "N"): 1, ("f", "A"): 1, ("f", "B"): 1, ("f", "tT"): Throttle(2, 1)},
    ),
    "a lane's limit, a key shared with another function": Setup(
        [part("f", "t", (N,), (A,)), part("f", "t", (N,), (A, B)), part("g", "t", (), (A,))],
        {("f", "N"): 1, ("f", "A"): 1, ("f", "B"): 1, ("g", "A"): 1},
    ),
    "throttles and a shared limit": Setup(
        [part("f", "s", (), (A, T)), part("g", "s", (), (A, T_OF_G)), part("g", "t", (), (A,))],
        {("f", "A"): 1, ("g", "A"): 1, ("f", "tT"): Throttle(2, 1), ("g", "tT"): Throttle(3, 2)},
    ),
    "the limits that every function has": Setup(
        [part("f", "s"), part("f", "t"), part("g", "s"), part("g", "t")],
        {("f", "c"): 2, ("f", "t"): Throttle(2, 2), ("g", "c"): 1},
    ),
    "keys that change": Setup(
        [part("f", "s", (N, T), (A,)), part("f", "t", (N,), (A,)), part("f", "t"), part("g", "t", (), (A,))],
        {("f", "N"): 1, ("f", "A"): 1, ("f", "c"): 2, ("f", "tT"): Throttle(2, 1), ("g", "A"): 1},
        {"f": ["", "k", "m"]},
    ),
    "keys that change in two functions with one limit": Setup(
        [
            part("f", "t", (), (A, B)),
            part("f", "t", (), (B,)),
            part("g", "t", (), (A,)),
            part("g", "t", (N,)),
        ],
        {("f", "A"): 1, ("f", "B"): 1, ("g", "A"): 1, ("g", "N"): 1},
        {"f": ["", "k"], "g": ["", "k"]},
    ),
    "priorities": Setup(
        [part("f", "t", (), (A,)), part("f", "t", (), (B,)), part("f", "t"), part("g", "t", (), (A,))],
        {("f", "A"): 1, ("f", "B"): 1, ("f", "c"): 2, ("g", "A"): 1},
        {"f": ["p"]},
        (-2, 0, 0, 3, 600),
    ),
    "priorities that come, change and go": Setup(
        [part("f", "s", (T,), (A,)), part("f", "s", (T,), (B,)), part("f", "t", (), (A,)), part("f", "t")],
        {("f", "A"): 1, ("f", "B"): 1, ("f", "tT"): Throttle(1, 2), ("f", "t"): Throttle(2, 3)},
        {"f": ["", "p1", "p2", "k"]},
        (-600, 0, 1, 5),
    ),
}


CROWD = Setup(
    [
        *(part("f", "t", (), (A, f"B|{n}")) for n in range(5)),
        *(part("f", "s", (), (A, f"B|{n}")) for n in range(2)),
        *(part("g", "t", (), (A, f"B|{n}")) for n in range(3)),
    ],
    {("f", "A"): 1, ("g", "A"): 1, ("f", "B"): 1},
)
"""Many partitions that wait at one limit."""

CROWD_WITH_KEYS = CROWD._replace(signatures={"f": ["", "k", "p"]}, boosts=(0, 0, 7))
"""The same, and what they wait under changes."""


def random_setup(seed: int) -> Setup:
    """Three functions, six lanes, up to eighteen partitions; four counters shared at random, throttles."""
    choice = random.Random(seed)
    partitions: list[str] = []
    caps: dict[tuple[str, str], Cap] = {}
    counters = ["A|x", "B|x", "C|x", "D|x"]
    for fn in ("f", "g", "h"):
        # A throttle is its function's own.
        throttles = [f"tT|{fn}", f"tU|{fn}"]
        unkeyed = choice.sample(counters, choice.choice([0, 0, 1]))
        throttle = choice.sample(throttles, choice.choice([0, 0, 1]))
        other = [limit for limit in counters if limit not in unkeyed]
        for _ in range(choice.choice([1, 2, 3])):
            keyed = choice.sample(other, choice.choice([0, 1, 2]))
            slow = choice.sample([t for t in throttles if t not in throttle], choice.choice([0, 0, 1]))
            partitions.append(part(fn, "s", unkeyed + throttle, keyed + slow))
            partitions.append(part(fn, "t", unkeyed, keyed))
        for limit in counters:
            caps[fn, limit[0]] = choice.choice([1, 1, 2, 3])
        for limit in throttles:
            caps[fn, limit[:2]] = Throttle(choice.choice([2, 2, 3]), choice.choice([1, 1, 2]))
    if not seed % 2:
        return Setup(list(dict.fromkeys(partitions)), caps)
    signatures = {"f": ["", "k", "p"], "g": ["p", "q"]}
    return Setup(list(dict.fromkeys(partitions)), caps, signatures, boosts=(-5, 0, 1, 60))


async def open_lockstep(address: Address, setup: Setup, nodes: int = 1_000) -> tuple[Lockstep, list[Store]]:
    """A store and its model, and the connections to close afterwards."""
    clock = TestClock()
    prefix = f"{{test-{secrets.token_hex(6)}}}"
    stores = []
    for part_of_key in ("a:", "b:"):
        # Leases end when a test ends them.
        settings = StoreSettings(prefix=prefix + part_of_key, lease_ms=10**9, nodes=nodes)
        stores.append(Store(address, settings, clock_ms=clock))
        await stores[-1].open()
    lockstep = Lockstep(stores[0], stores[1], clock, setup.caps, setup.first_signatures())
    await lockstep.open()
    return lockstep, stores


def possible(model: Scheduler, setup: Setup, *, crowded: bool = False) -> list[tuple[float, Op]]:
    """What can happen next, and how often it should. `crowded`: leases last, and caps change often."""
    now = {p: signed(p, model.signatures.get(fn_of(p), "")) for p in setup.partitions}
    once = 4 / len(setup.partitions) / len(setup.boosts)
    found: list[tuple[float, Op]] = [
        (once, ("add", p, boost)) for p in now.values() for boost in setup.boosts
    ]
    # Whoever starts a run may not know of the present keys.
    found += [(once / 10, ("add", p, 0)) for p in now if now[p] != p]
    found += [(6, ("lease",))] * bool(model.ready or model.again)
    for item, lease in model.leased.items():
        weight = (1 if crowded else 5) / len(model.leased)
        if lease.stale:
            fn = fn_of(lease.partition)
            targets = [
                ("rekey", number_of(item), to, boost)
                for p, to in now.items()
                if fn_of(p) == fn
                for boost in setup.boosts
            ]
            found += [(weight / len(targets), target) for target in targets]
        found.append((weight / (20 if lease.stale else 1), ("done", number_of(item))))
        found.append((1 / len(model.leased), ("expire", number_of(item))))
    queued = [item for queue in model.queues.values() for _, item in queue]
    cancellable = queued + [item for item in model.leased if item not in model.doomed]
    found += [(1 / len(cancellable), ("cancel", number_of(item))) for item in cancellable]
    for fn in sorted({fn_of(p) for p in setup.partitions}):
        now_held = model.held.get(fn, "")
        found += [(0.1, ("hold", fn, kinds)) for kinds in ("s", "t", "st") if kinds != now_held]
        found += [(1.5, ("hold", fn, ""))] * bool(now_held)
    for (fn, definition), cap in setup.caps.items():
        cap_now = model.caps.get((fn, definition))
        weight = (3 if crowded else 0.6) / len(setup.caps)
        if isinstance(cap, Throttle):
            emission_ms, burst = cap
            changes = [(emission_ms + 1, burst), (20 * emission_ms, burst), (emission_ms, burst + 2)]
            for change in changes if cap_now == cap else [cap]:
                found.append((weight, ("cap", fn, definition, *change)))
        elif cap_now == cap:
            found += [(weight, ("cap", fn, definition, cap + 1)), (weight, ("cap", fn, definition, None))]
        else:
            found.append((2 * weight, ("cap", fn, definition, cap)))
    for fn, signatures in setup.signatures.items():
        others = [each for each in signatures if each != model.signatures.get(fn, "")]
        found += [(0.7 / len(others), ("sig", fn, each)) for each in others]
    found += [(2, ("tick", 1))] * bool(model.timers or setup.boosts != (0,))
    return found


async def walk(
    address: Address, setup: Setup, seed: int, steps: int, nodes: int = 1_000, crowded: bool = False
) -> int:
    """A random walk, each step of which is checked; then everything is brought to its end.

    Returns how often a change of caps was not finished by one script.
    """
    choice = random.Random(seed)
    lockstep, stores = await open_lockstep(address, setup, nodes)
    trace: list[Op] = []
    unfinished = 0
    try:
        for _ in range(steps):
            weights, ops = zip(*possible(lockstep.model, setup, crowded=crowded), strict=True)
            trace.append(choice.choices(ops, weights)[0])
            await lockstep.do(trace[-1])
            unfinished += bool(lockstep.model.again)
        await lockstep.finish_everything()
    except Exception as error:
        error.add_note(f"seed {seed}, after {trace[-40:]}")
        raise
    finally:
        for store in stores:
            await store.close()
    return unfinished


@pytest.mark.long
@pytest.mark.parametrize("name", SETUPS)
async def test_a_walk_through_a_small_setup_keeps_every_promise(valkey: Address, name: str) -> None:
    """Slots are the leases, no limit is exceeded, draining ends, nobody is forgotten, all ends in the end."""
    await walk(valkey, SETUPS[name], seed=1, steps=60)


@pytest.mark.parametrize("seed", range(3))
async def test_a_walk_through_a_random_setup_keeps_every_promise(valkey: Address, seed: int) -> None:
    """The same with three functions, several lanes and limits shared at random."""
    await walk(valkey, random_setup(seed), seed, steps=60)


@pytest.mark.long
@pytest.mark.parametrize(
    ("setup", "nodes", "seed"),
    [(CROWD, 1, 5), (CROWD, 2, 6), (CROWD_WITH_KEYS, 1, 6), (CROWD_WITH_KEYS, 2, 7)],
)
async def test_a_walk_keeps_every_promise_where_changes_take_several_scripts(
    valkey: Address, setup: Setup, nodes: int, seed: int
) -> None:
    """Few nodes a script are looked at again after a change of caps or keys: all else happens in between."""
    assert await walk(valkey, setup, seed, steps=80, nodes=nodes, crowded=True) > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(50, 60))
@pytest.mark.parametrize("setup", [CROWD, CROWD_WITH_KEYS], ids=["caps", "keys"])
async def test_a_long_walk_keeps_every_promise_where_changes_take_several_scripts(
    valkey: Address, setup: Setup, seed: int
) -> None:
    """In every combination."""
    assert await walk(valkey, setup, seed, steps=300, nodes=1 + seed % 3, crowded=True) > 0


@pytest.mark.parametrize(
    "seed",
    [
        *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(100, 112)),
        *(pytest.param(seed, marks=pytest.mark.nightly) for seed in range(1_000, 1_300)),
    ],
)
async def test_a_long_walk_keeps_every_promise(valkey: Address, seed: int) -> None:
    """Thousands of steps in all, from many seeds."""
    await walk(valkey, random_setup(seed), seed, steps=300)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETUPS)
@pytest.mark.parametrize("seed", range(10, 12))
async def test_a_long_walk_through_a_small_setup_keeps_every_promise(
    valkey: Address, name: str, seed: int
) -> None:
    """In small setups the same few nodes meet in every combination."""
    await walk(valkey, SETUPS[name], seed, steps=300)


@pytest.mark.long
def test_a_state_machine_finds_no_order_of_events_that_breaks_a_promise(valkey: Address) -> None:
    """Hypothesis chooses what happens, and would shrink what breaks."""
    loop = asyncio.Runner()

    class Machine(RuleBasedStateMachine):
        @initialize(name=st.sampled_from(["", *sorted(SETUPS)]), nodes=st.sampled_from([1, 2, 1_000]))
        def begin(self, name: str, nodes: int) -> None:
            self.setup_of = SETUPS[name] if name else CROWD_WITH_KEYS
            self.lockstep, self.stores = loop.run(open_lockstep(valkey, self.setup_of, nodes))

        def do(self, choice: int, *names: str) -> None:
            ops = [op for _, op in possible(self.lockstep.model, self.setup_of) if op[0] in names]
            if ops:
                loop.run(self.lockstep.do(ops[choice % len(ops)]))

        @rule(choice=st.integers(0, 30))
        def add(self, choice: int) -> None:
            self.do(choice, "add")

        @precondition(lambda self: bool(self.lockstep.model.ready or self.lockstep.model.again))
        @rule()
        def lease(self) -> None:
            self.do(0, "lease")

        @rule(choice=st.integers(0, 9), kind=st.sampled_from(["done", "done", "expire", "cancel", "rekey"]))
        def end(self, choice: int, kind: str) -> None:
            self.do(choice, kind)

        @rule(choice=st.integers(0, 9), kind=st.sampled_from(["hold", "hold", "cap", "sig", "tick", "tick"]))
        def change(self, choice: int, kind: str) -> None:
            self.do(choice, kind)

        def teardown(self) -> None:
            if hasattr(self, "stores"):
                loop.run(self.end_all())

        async def end_all(self) -> None:
            try:
                await self.lockstep.finish_everything()
            finally:
                for store in self.stores:
                    await store.close()

    with loop:
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=12,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(-600, 600), st.integers(0, 300)),
        min_size=1,
        max_size=12,
    )
)
def test_within_each_partition_items_come_by_time_less_priority(arrivals: list[tuple[str, int, int]]) -> None:
    """Whenever they come; nobody is left behind."""
    scheduler = Scheduler({}, {"f": "p"}, now_ms=1)
    arrived: dict[str, tuple[str, int, int]] = {}
    for number, (key, boost, wait) in enumerate(arrivals):
        item = item_name(number)
        arrived[item] = (key, scheduler.now_ms - boost, scheduler.now_ms)
        scheduler.add(f"f\x01tp\x02{key}|x", item, scheduler.now_ms - boost, boost)
        scheduler.tick(wait)
        check(scheduler)
    order = list(iter(scheduler.lease, None))
    assert sorted(order) == sorted(arrived)
    for key in "ab":
        orders = [arrived[item][1] for item in order if arrived[item][0] == key]
        assert orders == sorted(orders)
