"""Flow control keeps what it promises in random workloads; and the rules that say so find each broken promise."""

import asyncio
import random
import secrets

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, example, given, settings

from innkeeper_engine.store.connection import Address
from innkeeper_engine.store.store import Store, StoreSettings
from tests.engine.flow_history import RULES, Violation, violations
from tests.engine.flow_records import (
    Changed,
    Closed,
    Drained,
    Ended,
    Gathered,
    Grouping,
    Made,
    Met,
    Needs,
    Queue,
    Quiet,
    Rating,
    Record,
    Refused,
    Released,
    Rights,
    Slots,
    Taken,
    Throttling,
    Waiter,
)
from tests.engine.flow_settings import Wanted
from tests.engine.flow_workload import LEASE_MS, Cluster, live
from tests.engine.model_driver import TestClock

DAY_MS = 86_400_000

# ---- the rules, on histories that were made up


ONE = Needs((("f", 1),))
FREE = Needs((("f", None),))
THROTTLE = Throttling("f", 2, 1_000, 2)
SLOW = Needs((("f", None),), THROTTLE)
ONE_S = Throttling("f", 1, 1_000, 1)
HALF_S = Throttling("f", 2, 1_000, 1)
SECONDLY, HALF_SECONDLY = Needs((("f", None),), ONE_S), Needs((("f", None),), HALF_S)
RATED = Rights(rate=Rating("f", 2, 1_000))
SINGLE = Rights(single="f 1")
BATCH = Grouping("f 1", 2_000, most=2)
DEBOUNCE = Grouping("f 1", 1_000, 2_500)


def taken(at: int, item: str, needs: Needs = FREE, *, order: float = 0, partition: str = "p") -> Taken:
    """A request goes out."""
    return Taken(at, item, item.partition(".")[0], needs, partition, order, 0)


def made(at: int, run: str, rights: Rights = Rights(), *events: str, **limits: int) -> list[Record]:  # noqa: B008
    """An event meets `f` and starts a run."""
    found = events or (f"e-{run}",)
    return [*(Met(at, event, "f", rights) for event in found), Made(at, run, "f", found, rights, **limits)]


def refused(at: int, run: str, why: str, rights: Rights = Rights()) -> list[Record]:  # noqa: B008
    """An event meets `f` and is skipped."""
    return [Met(at, f"e-{run}", "f", rights), Refused(at, run, "f", (f"e-{run}",), why, rights)]


def gathered(at: int, event: str, grouping: Grouping, rights: Rights = Rights()) -> list[Record]:  # noqa: B008
    """An event meets `f` and is gathered."""
    return [Met(at, event, "f"), Gathered(at, event, "f", grouping, rights)]


GOOD: dict[str, list[Record]] = {
    "slots are taken one after the other": [
        taken(1, "a.0", ONE),
        Slots(1, {"s:f": frozenset({"a.0"})}),
        Quiet(1, {"b.0": ONE}),
        Released(2, "a.0"),
        taken(2, "b.0", ONE),
        Released(3, "b.0"),
        Drained(4, ()),
    ],
    "a lowered cap only stops new requests": [
        taken(1, "a.0", Needs((("f", 2),))),
        taken(1, "b.0", Needs((("f", 2),))),
        Quiet(2, {"c.0": ONE}),
    ],
    "a function without a cap beside one with a cap": [
        taken(1, "a.0", Needs((("g", None), ("env a=1", 5)))),
        taken(1, "b.0", Needs((("f", None), ("env a=1", 2)))),
        Quiet(1, {"c.0": Needs((("f", None), ("env a=1", 2)))}),
    ],
    "a throttle's burst, then one at a time": [
        *(taken(at, f"r{n}.0", SLOW) for n, at in enumerate((0, 0, 500, 1_000))),
        Quiet(1_499, {"x.0": SLOW}),
        taken(1_500, "x.0", SLOW),
    ],
    "a throttle that has changed counts anew": [
        taken(0, "a.0", SLOW),
        taken(0, "b.0", SLOW),
        taken(0, "c.0", Needs((("f", None),), Throttling("f", 100, 1_000, 9))),
    ],
    "a throttle that was raised for a while": [
        taken(0, "a.0", SECONDLY),
        Changed(100, HALF_S),
        Changed(200, ONE_S),
        taken(500, "b.0", SECONDLY),
        taken(1_500, "c.0", SECONDLY),
    ],
    "a throttle that is lowered lets who waits keep its time": [
        taken(0, "a.0", HALF_SECONDLY),
        Changed(100, ONE_S),
        taken(500, "b.0", SECONDLY),
        taken(1_500, "c.0", SECONDLY),
    ],
    "a burst that was lowered lets out another one": [
        taken(0, "a.0", SLOW),
        taken(0, "b.0", SLOW),
        Changed(0, ONE_S),
        taken(0, "c.0", SECONDLY),
    ],
    "a rate limit, to its brim": [
        *made(0, "a", RATED),
        *made(0, "b", RATED),
        *refused(999, "c", "rateLimit", RATED),
        *made(1_000, "d", RATED),
    ],
    "a singleton that is skipped, then begins": [
        *made(0, "a", SINGLE),
        *refused(0, "b", "singleton", SINGLE),
        Ended(1, "a", "Completed"),
        *made(1, "c", SINGLE),
    ],
    "a singleton that gives way": [
        *made(0, "a", SINGLE._replace(replaces=True)),
        Ended(1, "a", "replaced"),
        *made(1, "c", SINGLE._replace(replaces=True)),
    ],
    "the same id again, a day later": [
        *made(0, "a", Rights(repeat="f 1", once="f x")),
        Met(5, "again", "f", Rights(repeat="f 1")),
        *refused(6, "b", "idempotency", Rights(once="f x")),
        *made(DAY_MS, "c", Rights(repeat="f 1", once="f x")),
        Ended(DAY_MS, "a", "Completed"),
        Ended(DAY_MS, "c", "Completed"),
        Drained(DAY_MS, ()),
    ],
    "a batch that is full, one whose time is over": [
        *gathered(0, "e1", BATCH),
        *gathered(1, "e2", BATCH),
        *gathered(2, "e3", BATCH),
        Closed(2, "g1", "f", ("e1", "e2")),
        Quiet(2_001, {}),
        Closed(2_002, "g2", "f", ("e3",)),
        Closed(7_002, "g2", "f", ("e3",)),
        Made(7_002, "r", "f", ("e1", "e2")),
        Refused(7_002, "r2", "f", ("e3",), "paused", Rights(paused=True)),
        Ended(7_003, "r", "Completed"),
        Drained(7_004, ()),
    ],
    "a debounce, with its ceiling": [
        *gathered(0, "e1", DEBOUNCE),
        *gathered(900, "e2", DEBOUNCE),
        *gathered(1_800, "e3", DEBOUNCE),
        Closed(2_500, "g", "f", ("e3",)),
        Made(2_500, "r", "f", ("e3",)),
        Ended(2_501, "r", "Completed"),
        Drained(2_502, ()),
    ],
    "runs whose time is over": [
        *made(0, "a", start_ms=100, due_ms=50),
        *made(0, "b", finish_ms=100),
        taken(10, "b.0"),
        Quiet(120, {}),
        Ended(150, "a", "Cancelled"),
        Released(151, "b.0"),
        Ended(151, "b", "Cancelled"),
    ],
    "what is put back under other keys keeps no order": [
        Queue(0, (Waiter("a.0", "p", 1, 0), Waiter("b.0", "p", 2, 0))),
        taken(0, "b.0", Needs(()), order=2, partition=""),
        taken(0, "a.0", order=1),
    ],
}

BAD: dict[str, tuple[str, list[Record]]] = {
    "a cap is exceeded": ("Concurrency", [taken(1, "a.0", ONE), taken(1, "b.0", ONE)]),
    "another function's requests count on a shared counter": (
        "Concurrency",
        [
            taken(1, "a.0", Needs((("g", None), ("env", 5)))),
            taken(1, "b.0", Needs((("f", None), ("env", 1)))),
        ],
    ),
    "something goes out twice": ("Concurrency", [taken(1, "a.0"), taken(2, "a.0")]),
    "something goes out while it is held": ("Concurrency", [taken(1, "a.0", FREE._replace(held=True))]),
    "a slot leaks": (
        "Concurrency",
        [taken(1, "a.0"), Released(2, "a.0"), Slots(2, {"s:f": frozenset({"a.0"})})],
    ),
    "a request has no slot": ("Concurrency", [taken(1, "a.0"), Slots(1, {})]),
    "a request never ends": ("Concurrency", [taken(1, "a.0"), Drained(2, ())]),
    "somebody is forgotten": ("Liveness", [Quiet(1, {"a.0": ONE})]),
    "somebody is forgotten after a release": (
        "Liveness",
        [taken(1, "a.0", ONE), Released(2, "a.0"), Quiet(2, {"b.0": ONE})],
    ),
    "somebody is forgotten at a throttle": (
        "Liveness",
        [taken(0, "a.0", SLOW), taken(0, "b.0", SLOW), Quiet(501, {"c.0": SLOW})],
    ),
    "a throttle lets too many out at once": (
        "Throttles",
        [taken(0, "a.0", SLOW), taken(0, "b.0", SLOW), taken(0, "c.0", SLOW)],
    ),
    "a throttle lets too many out in a window": (
        "Throttles",
        [taken(at, f"r{n}.0", SLOW) for n, at in enumerate((0, 5_000, 5_000, 5_499))],
    ),
    "a throttle goes faster than it ever was allowed to": (
        "Throttles",
        [taken(0, "a.0", SECONDLY), Changed(1, HALF_S), Changed(2, ONE_S), taken(499, "b.0", SECONDLY)],
    ),
    "a throttle that is lowered forgets what has begun": (
        "Throttles",
        [taken(0, "a.0", HALF_SECONDLY), Changed(1, ONE_S), taken(1, "b.0", SECONDLY)],
    ),
    "another function's throttle has changed": (
        "Throttles",
        [
            taken(0, "a.0", SECONDLY),
            Changed(1, Throttling("g", 2, 1_000, 1)),
            Changed(2, Throttling("g", 1, 1_000, 1)),
            taken(500, "b.0", SECONDLY),
        ],
    ),
    "a rate limit lets one too many begin": (
        "Rates",
        [*made(0, "a", RATED), *made(500, "b", RATED), *made(999, "c", RATED)],
    ),
    "a rate limit refuses too early": ("Rates", [*made(0, "a", RATED), *refused(1, "b", "rateLimit", RATED)]),
    "a rate limit refuses too late": (
        "Rates",
        [*made(0, "a", RATED), *made(0, "b", RATED), *refused(1_001, "c", "rateLimit", RATED)],
    ),
    "a rate limit that there is not": ("Rates", refused(0, "a", "rateLimit")),
    "a younger one goes out first": (
        "Order",
        [Queue(0, (Waiter("a.0", "p", 1, 0), Waiter("b.0", "p", 2, 0))), taken(0, "b.0", order=2)],
    ),
    "two runs hold one singleton": ("Singletons", [*made(0, "a", SINGLE), *made(0, "b", SINGLE)]),
    "a singleton that nobody holds": (
        "Singletons",
        [*made(0, "a", SINGLE), Ended(1, "a", "Completed"), *refused(1, "b", "singleton", SINGLE)],
    ),
    "a singleton that should have given way": (
        "Singletons",
        [*made(0, "a", SINGLE), *refused(1, "b", "singleton", SINGLE._replace(replaces=True))],
    ),
    "a singleton that should not have given way": (
        "Singletons",
        [*made(0, "a", SINGLE), Ended(1, "a", "replaced"), *made(1, "b", SINGLE)],
    ),
    "one id starts two runs": (
        "Outcomes",
        [*made(0, "a", Rights(repeat="f 1")), *made(DAY_MS - 1, "b", Rights(repeat="f 1"))],
    ),
    "one value starts two runs": (
        "Outcomes",
        [*made(0, "a", Rights(once="f 1")), *gathered(5, "e2", BATCH, Rights(once="f 1"))],
    ),
    "an event is lost": ("Outcomes", [Met(0, "e", "f"), Drained(1, ())]),
    "an event with a new id is lost": (
        "Outcomes",
        [
            Met(0, "e", "f", Rights(repeat="f 1")),
            *made(1, "a", Rights(repeat="f 1")),
            Ended(2, "a", "Completed"),
            Drained(2, ()),
        ],
    ),
    "an event starts two runs": ("Outcomes", [*made(0, "a", Rights(), "e"), Made(0, "b", "f", ("e",))]),
    "a gathered event starts two runs": (
        "Outcomes",
        [
            *gathered(0, "e", DEBOUNCE),
            Closed(1_000, "g", "f", ("e",)),
            Made(1_000, "a", "f", ("e",)),
            Made(1_000, "b", "f", ("e",)),
        ],
    ),
    "gathered events are lost": (
        "Outcomes",
        [*gathered(0, "e", DEBOUNCE), Closed(1_000, "g", "f", ("e",)), Drained(2_000, ())],
    ),
    "an event is skipped by a pause that there is not": ("Outcomes", refused(0, "a", "paused")),
    "an event is skipped, and its key was never taken": (
        "Outcomes",
        refused(0, "a", "idempotency", Rights(once="f 1")),
    ),
    "a debounce keeps the first": (
        "Gatherings",
        [*gathered(0, "e1", DEBOUNCE), *gathered(1, "e2", DEBOUNCE), Closed(1_001, "g", "f", ("e1",))],
    ),
    "a debounce fires too early": (
        "Gatherings",
        [*gathered(0, "e", DEBOUNCE), Closed(999, "g", "f", ("e",))],
    ),
    "a debounce goes beyond its ceiling": (
        "Gatherings",
        [*gathered(0, "e1", DEBOUNCE), *gathered(2_400, "e2", DEBOUNCE), Quiet(2_500, {})],
    ),
    "a batch loses an event": (
        "Gatherings",
        [*gathered(0, "e1", BATCH), *gathered(0, "e2", BATCH), Closed(0, "g", "f", ("e2",))],
    ),
    "a batch changes after it was closed": (
        "Gatherings",
        [
            *gathered(0, "e1", BATCH),
            *gathered(0, "e2", BATCH),
            Closed(0, "g", "f", ("e1", "e2")),
            Closed(0, "g", "f", ("e1",)),
        ],
    ),
    "a batch is never let go of": ("Gatherings", [*gathered(0, "e", BATCH), Drained(9_999, ())]),
    "a batch of nobody's": ("Gatherings", [Closed(0, "g", "f", ("e",))]),
    "a run is cancelled too early": ("Timeouts", [*made(0, "a", start_ms=100), Ended(99, "a", "Cancelled")]),
    "a run is cancelled for nothing": (
        "Timeouts",
        [*made(0, "a", start_ms=100), taken(50, "a.0"), Ended(150, "a", "Cancelled")],
    ),
    "a run waits beyond its time": ("Timeouts", [*made(0, "a", start_ms=100), Quiet(100, {})]),
    "a run goes on beyond its time": (
        "Timeouts",
        [*made(0, "a", finish_ms=100), taken(50, "a.0"), Released(60, "a.0"), Quiet(150, {})],
    ),
    "a run never ends": ("Timeouts", [*made(0, "a"), Drained(1, ())]),
    "something is left behind": ("Leftovers", [Drained(0, ("s:f",))]),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_history_that_keeps_every_promise_is_passed(name: str) -> None:
    """Each is as close to the limit as it may be."""
    assert violations(GOOD[name]) == []


@pytest.mark.parametrize("name", BAD)
def test_a_broken_promise_is_found(name: str) -> None:
    """By its own rule, and by that one only."""
    rule, history = BAD[name]
    assert {violation.rule for violation in violations(history)} == {rule}


def test_every_rule_has_a_history_that_breaks_it() -> None:
    """None of them can be dropped without notice."""
    assert {rule for rule, _ in BAD.values()} == {rule.__name__ for rule in RULES}


# ---- random workloads, on the real store

EVERYTHING = Wanted()
KINDS = {
    "everything": EVERYTHING,
    "limits": Wanted(priority=False, rights=False, gather=False, timeouts=False, rekey=False),
    "keys that change": Wanted(rights=False, gather=False, timeouts=False),
    "rights": Wanted(concurrency=False, throttle=False, gather=False, timeouts=False),
    "gatherings": Wanted(throttle=False, timeouts=False, rekey=False),
    "timeouts": Wanted(rights=False, gather=False, rekey=False),
}

_FORGET = "for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do redis.call('UNLINK', key) end"


async def check_life(
    address: Address, seed: int, steps: int, wanted: Wanted = EVERYTHING, functions: int = 3
) -> list[Record]:
    """Live through one workload; its history keeps every promise.

    Raises:
        AssertionError: it does not; the message has what brings it about again.
    """
    clock = TestClock()
    settings = StoreSettings(prefix=f"{{test-{secrets.token_hex(6)}}}:", lease_ms=LEASE_MS)
    store = Store(address, settings, clock_ms=clock)
    await store.open()
    cluster = Cluster(store, clock, seed, wanted, functions)
    try:
        await live(cluster, steps)
        broken = violations(cluster.history)
        assert not broken, told(broken[0], cluster.history)
    except Exception as error:
        error.add_note(f"check_life(address, seed={seed}, steps={steps}, {wanted=}, {functions=})")
        raise
    finally:
        await store.command("EVAL", _FORGET, 0, settings.prefix)
        await store.close()
    return cluster.history


def told(violation: Violation, history: list[Record]) -> str:
    """What is broken, and the last that happened before."""
    since = max(0, violation.number - 12)
    lines = [f"{n}: {record}" for n, record in enumerate(history[since : violation.number + 1], since)]
    return "\n".join([f"{violation.rule}: {violation.text}", *lines])


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
async def test_a_workload_keeps_every_promise(valkey: Address, kind: str) -> None:
    """With executors that die, runs that are cancelled, settings that change while runs are queued."""
    for seed in range(4):
        await check_life(valkey, seed, steps=60, wanted=KINDS[kind])


async def test_a_workload_is_not_idle(valkey: Address) -> None:
    """What the rules are about does happen: otherwise they would say nothing."""
    seen: set[str] = set()
    for seed in range(4):
        history = await check_life(valkey, 1_000 + seed, steps=100)
        seen |= {type(record).__name__ for record in history}
        seen |= {record.why for record in history if isinstance(record, Refused | Ended)}
        seen |= {"throttled" for record in history if isinstance(record, Taken) and record.needs.throttle}
        seen |= {"keyed again" for record in history if isinstance(record, Taken) and not record.partition}
        seen |= {"waits" for record in history if isinstance(record, Quiet) and record.waiting}
    records = {record.__name__ for record in (Met, Made, Gathered, Closed, Taken, Released, Slots, Drained)}
    assert (
        records | {"rateLimit", "singleton", "cancelled", "Completed", "throttled", "keyed again", "waits"}
        <= seen
    )


def test_a_seed_gives_the_same_history(valkey: Address) -> None:
    """So that what is found can be found again."""
    loop = asyncio.Runner()
    with loop:
        first, second = (loop.run(check_life(valkey, 7, steps=60)) for _ in range(2))
    assert first == second


@settings(max_examples=15, suppress_health_check=list(HealthCheck), deadline=None)
@given(
    seed=st.integers(0, 2**32),
    steps=st.integers(1, 80),
    functions=st.integers(1, 3),
    wanted=st.builds(Wanted, *[st.booleans()] * len(Wanted._fields)),
)
# Somebody waits while a throttle is raised, and lowered again.
@example(
    seed=154_814,
    steps=57,
    functions=2,
    wanted=Wanted(concurrency=False, gather=False, timeouts=False, rekey=False),
)
def test_any_workload_keeps_every_promise(
    valkey: Address, seed: int, steps: int, functions: int, wanted: Wanted
) -> None:
    """Hypothesis chooses, and would make what breaks smaller: fewer steps, functions and options."""
    asyncio.run(check_life(valkey, seed, steps, wanted, functions))


@pytest.mark.parametrize(
    "chunk",
    [
        *(pytest.param(chunk, marks=pytest.mark.slow) for chunk in range(10, 20)),
        *(pytest.param(chunk, marks=pytest.mark.nightly) for chunk in range(100, 200)),
    ],
)
async def test_many_workloads_keep_every_promise(valkey: Address, chunk: int) -> None:
    """Thousands of runs in all."""
    for n in range(20):
        wanted = KINDS["everything"] if n % 2 else random.Random(n).choice(list(KINDS.values()))
        await check_life(valkey, chunk * 1_000 + n, steps=150, wanted=wanted)
