"""Every rule of the scheduler has a counter-example: what goes wrong without it. Kept against the real store."""

from typing import NamedTuple

import pytest

from innkeeper_engine.store.connection import Address
from tests.engine.model_promises import check
from tests.engine.model_rules import BrokenError, Op, Rule
from tests.engine.model_scheduler import Scheduler
from tests.engine.test_scheduler_model import SETUPS, T_OF_G, A, B, N, Setup, T, open_lockstep, part

TWO_SHARED = SETUPS["two shared limits"]
OWN_CAPS = SETUPS["one counter, own caps 1 and 2"]
STARTS_AND_STEPS = SETUPS["starts and steps, unkeyed limit and throttle, keys"]
LANE_AND_KEY = SETUPS["a lane's limit, a key shared with another function"]
THROTTLES = SETUPS["throttles and a shared limit"]
PRIORITIES = SETUPS["priorities"]

F_AB = part("f", "t", (), (A, B))
G_A = part("g", "t", (), (A,))
F_A = part("f", "t", (), (A,))
G_START, H = part("g", "s", (), (A,)), part("h", "t")
START_A = part("f", "s", (N, T), (A,))
START_B = part("f", "s", (N, T), (B,))
STEP_A = part("f", "t", (N,), (A,))
STEP_AB = part("f", "t", (N,), (A, B))
F_THROTTLED = part("f", "s", (), (A, T))
G_THROTTLED = part("g", "s", (), (A, T_OF_G))
P_A, P_B = part("f", "tp", (), (A,)), part("f", "tp", (), (B,))
LEASE: Op = ("lease",)


class Case(NamedTuple):
    """What happens, and the rule without which it ends badly."""

    rule: Rule
    setup: Setup
    ops: list[Op]


CASES = {
    "the woken one finds another limit full": Case(
        Rule.PASS_ON_WHEN_FULL,
        STARTS_AND_STEPS,
        [("add", START_A), ("add", START_B), LEASE, ("add", STEP_A), LEASE, ("done", 0)],
    ),
    "the woken one was emptied by a cancellation": Case(
        Rule.PASS_ON_WHEN_EMPTY,
        LANE_AND_KEY,
        [("add", G_A), ("add", STEP_A), ("add", STEP_AB), LEASE, LEASE, ("cancel", 1), ("done", 0)],
    ),
    "an emptied one is taken out of the ring at once": Case(
        Rule.EMPTY_NODES_STAY,
        THROTTLES,
        [("add", G_A), ("add", F_THROTTLED), ("add", G_THROTTLED), LEASE, LEASE, ("done", 0), ("cancel", 1)],
    ),
    "the woken one is throttled": Case(
        Rule.PASS_ON_WHEN_THROTTLED,
        STARTS_AND_STEPS,
        [("add", START_A), ("add", START_B), LEASE, ("add", STEP_A), LEASE, ("done", 0)],
    ),
    "the function of the woken one was paused": Case(
        Rule.PASS_ON_WHEN_PAUSED,
        STARTS_AND_STEPS,
        [
            *[("add", START_A), LEASE, ("add", START_A), ("add", STEP_A), LEASE, ("expire", 0)],
            *[("hold", "f", "st"), LEASE, ("hold", "f", "")],
        ],
    ),
    "a slot comes back by expiry": Case(
        Rule.SETTLE_ON_EXPIRY, TWO_SHARED, [("add", F_AB), ("add", F_AB), LEASE, LEASE, ("expire", 0)]
    ),
    "a cap is raised": Case(
        Rule.SETTLE_ON_RAISE, TWO_SHARED, [("add", F_AB), ("add", G_A), LEASE, LEASE, ("cap", "g", "A", 2)]
    ),
    "a limit is removed": Case(
        Rule.LET_OUT_ON_REMOVAL,
        TWO_SHARED,
        [("add", F_AB), ("add", G_A), LEASE, LEASE, ("cap", "g", "A", None)],
    ),
    "one counter, two caps: the oldest waiter has none of the room": Case(
        Rule.LOOK_AT_THE_OWN_CAP,
        OWN_CAPS,
        [("add", F_A), ("add", F_A), ("add", G_A), ("add", G_A), LEASE, LEASE, LEASE, ("done", 0)],
    ),
    "one counter, two caps: the blind wake goes round in circles": Case(
        Rule.LOOK_AT_THE_OWN_CAP,
        TWO_SHARED,
        [
            ("add", F_AB),
            ("add", F_AB),
            LEASE,
            LEASE,
            ("cap", "g", "A", 2),
            ("cap", "f", "A", 2),
            ("cap", "f", "A", 1),
        ],
    ),
    "a lane with a scout inside is paused": Case(
        Rule.LANE_PASSES_ON_ITS_SCOUTS,
        TWO_SHARED,
        [("add", F_AB), ("add", F_AB), ("add", G_A), LEASE, LEASE, ("hold", "g", "st"), ("done", 0)],
    ),
    "a lane with a scout inside is paused after others have come to wait": Case(
        Rule.LANE_PASSES_ON_ITS_SCOUTS,
        Setup(
            [F_A, F_AB, G_START, G_A, H],
            {("f", "A"): 1, ("f", "B"): 1, ("g", "A"): 1, ("h", "c"): 9},
        ),
        [
            *[("add", F_A), LEASE, ("add", F_A), ("add", F_AB), LEASE, ("add", G_START), ("add", G_A)],
            ("add", H),
            *[("done", 0), LEASE, LEASE, ("done", 3), ("hold", "f", "st"), LEASE],
        ],
    ),
    "the first that is woken sits in a lane that cannot be served": Case(
        Rule.SKIP_LANES_THAT_CANNOT_BE_SERVED,
        LANE_AND_KEY,
        [
            *[("add", STEP_AB), ("cap", "f", "N", None), ("add", STEP_AB), LEASE, ("add", G_A), LEASE],
            *[("add", STEP_A), ("hold", "f", "st"), LEASE, ("done", 0)],
        ],
    ),
    "there is more room than the one who was woken takes": Case(
        Rule.PASS_ON_AFTER_A_LEASE,
        LANE_AND_KEY,
        [
            *[("add", G_A), ("add", STEP_AB), LEASE, ("add", STEP_A), LEASE],
            *[("cap", "f", "N", None), ("done", 0), ("cap", "f", "A", 2)],
        ],
    ),
    "a throttle gets slower while somebody waits": Case(
        Rule.REARM_THE_THROTTLE,
        SETUPS["the limits that every function has"],
        [
            *[("cap", "f", "c", None), ("add", "f\x01s"), ("add", "f\x01s"), ("add", "f\x01s")],
            *[LEASE, LEASE, LEASE, ("cap", "f", "t", 3, 2), ("tick", 1)],
        ],
    ),
    "a throttle gets faster while somebody waits": Case(
        Rule.FORGET_THE_OLD_PACE,
        THROTTLES,
        [
            *[
                ("cap", "f", "A", None),
                ("cap", "f", "tT", 1_000, 1),
                ("add", F_THROTTLED),
                ("add", F_THROTTLED),
            ],
            *[LEASE, LEASE, ("cap", "f", "tT", 2, 1)],
        ],
    ),
    "a throttle has got faster before anybody waits": Case(
        Rule.FORGET_THE_OLD_PACE,
        THROTTLES,
        [
            *[("cap", "f", "A", None), ("cap", "f", "tT", 1_000, 2), ("add", F_THROTTLED), LEASE],
            *[("cap", "f", "tT", 2, 1), ("tick", 3), ("add", F_THROTTLED), LEASE],
        ],
    ),
    "keys change while a limit is full": Case(
        Rule.STALE_LANES_HAVE_NO_LIMITS, OWN_CAPS, [("add", F_A), ("add", F_A), LEASE, ("sig", "f", "k")]
    ),
    "what waits at a full limit waits under old keys": Case(
        Rule.LET_OUT_ON_OTHER_KEYS, OWN_CAPS, [("add", F_A), ("add", F_A), LEASE, LEASE, ("sig", "f", "k")]
    ),
    "a lane that waits at a full limit has old keys": Case(
        Rule.LET_OUT_ON_OTHER_KEYS,
        LANE_AND_KEY,
        [("add", STEP_A), ("add", STEP_A), LEASE, LEASE, ("sig", "f", "k")],
    ),
    "the woken one has old keys, and its function has no such limit any more": Case(
        Rule.PASS_ON_AFTER_A_STALE_LEASE,
        OWN_CAPS,
        [
            *[("add", F_A), ("add", F_A), ("cap", "g", "A", 1), LEASE, LEASE, ("add", G_A), LEASE],
            *[("done", 0), ("cap", "f", "A", None), ("sig", "f", "k"), LEASE],
        ],
    ),
    "an item with a priority opens its partition": Case(Rule.JOIN_BY_PRIORITY, PRIORITIES, [("add", P_A, 3)]),
    "the next item of a partition has a priority": Case(
        Rule.JOIN_BY_PRIORITY,
        PRIORITIES,
        [("cap", "f", "A", None), ("add", P_A, 3), ("add", P_B), ("add", P_A, 3), LEASE],
    ),
    "an item with a priority comes to a partition that waits for its turn": Case(
        Rule.MOVE_UP, PRIORITIES, [("add", P_B), ("add", P_A), ("add", P_A, 3), LEASE]
    ),
    "an item comes to a partition whose first item has all the time": Case(
        Rule.MOVE_UP, PRIORITIES, [("add", P_A, -600), ("add", P_B, -3), ("add", P_A), LEASE]
    ),
}


def run_model(case: Case, left_out: list[Rule]) -> None:
    """The case on the model alone, checked after each event."""
    scheduler = Scheduler(dict(case.setup.caps), case.setup.first_signatures(), left_out=left_out)
    for op in case.ops:
        scheduler.do(op)
        check(scheduler)


@pytest.mark.parametrize("name", CASES)
def test_without_its_rule_the_case_ends_badly(name: str) -> None:
    """Otherwise the case would prove nothing about the store."""
    run_model(CASES[name], [])
    with pytest.raises(BrokenError):
        run_model(CASES[name], [CASES[name].rule])


@pytest.mark.parametrize("name", CASES)
async def test_the_store_serves_everybody(valkey: Address, name: str) -> None:
    """The same events on the real store: after each, nobody is forgotten; in the end all runs have ended."""
    case = CASES[name]
    lockstep, stores = await open_lockstep(valkey, case.setup)
    try:
        for op in case.ops:
            await lockstep.do(op)
        await lockstep.finish_everything()
    finally:
        for store in stores:
            await store.close()


def test_every_rule_has_a_case() -> None:
    """A rule without a counter-example could be left out."""
    assert {case.rule for case in CASES.values()} == set(Rule)
