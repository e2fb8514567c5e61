"""What crons do: each slot fires once, in its time; and what becomes of slots that nobody was there for."""

from typing import Any

import msgspec
import orjson
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_engine.compiled import CompiledCron, FunctionEntry
from innkeeper_engine.decide.crons import MISSED_MS, MOST_AT_ONCE, fire, first_slot
from innkeeper_engine.model.clock import derived_ulid, ulid_ms
from innkeeper_engine.model.effects import MAX_EFFECTS, Arm, Keep, Note, Skip, Start
from innkeeper_engine.model.functions import (
    App,
    CatchUp,
    Concurrency,
    FunctionConfig,
    RateLimit,
    Singleton,
    Throttle,
    Trigger,
)
from tests.engine.model_decide import NOW_MS, context, function, registry

MINUTE_MS = 60_000
LINE = "* * * * *"
SLOT = NOW_MS - NOW_MS % MINUTE_MS
POLICIES: list[CatchUp] = ["None", "Latest", "All"]

Cron = tuple[FunctionEntry, CompiledCron]


def cron(line: str = LINE, *, jitter_ms: int = 0, catch_up: CatchUp = "Latest", **options: Any) -> Cron:
    """A function with a cron, and the cron."""
    trigger = Trigger(cron=line, jitter_ms=jitter_ms, catch_up=catch_up)
    entry = registry(function(triggers=(trigger,), **options)).functions["app-fn"]
    return entry, entry.crons[0]


def fired(which: Cron, slot_ms: int, now_ms: int) -> tuple[list[int], Arm]:
    """The slots whose runs a cron starts, and what it arms."""
    *runs, arm = fire(*which, slot_ms, context(now_ms=now_ms))
    assert isinstance(arm, Arm)
    assert len(runs) < MAX_EFFECTS
    slots = []
    for keep, start in zip(runs[::2], runs[1::2], strict=True):
        assert isinstance(keep, Keep)
        assert isinstance(start, Start)
        slots.append(ulid_ms(start.run))
        assert start.run == derived_ulid(slots[-1], "cron", "env/app-fn", which[1].text)
        assert start.events == ((keep.id, keep.body),)
    return slots, arm


def lived(which: Cron, slot_ms: int, wakes: list[int]) -> list[tuple[int, int]]:
    """When which slot fired: (time, slot) for a life in which somebody looks at these times."""
    found: list[tuple[int, int]] = []
    armed, due_ms = first_slot(*which, slot_ms - 1)
    for now_ms in wakes:
        while due_ms <= now_ms:
            slots, arm = fired(which, armed, now_ms)
            found += [(now_ms, slot) for slot in slots]
            assert arm.slot_ms > armed
            armed, due_ms = arm.slot_ms, arm.due_ms
    return found


@pytest.mark.parametrize("catch_up", POLICIES)
def test_a_cron_starts_a_run_with_its_event_and_arms_the_next_slot(catch_up: CatchUp) -> None:
    """The event can be looked up; the same slot is always the same run."""
    entry, line = cron(catch_up=catch_up)
    keep, run, arm = fire(entry, line, SLOT, context(now_ms=SLOT + 5))
    assert isinstance(keep, Keep)
    assert isinstance(run, Start)
    event = orjson.loads(keep.body)
    assert keep.body == rfc8785.dumps(event)
    assert (event["name"], event["ts"], event["data"]["cron"]) == ("inngest/scheduled.timer", SLOT + 5, LINE)
    assert event["id"] == event["data"]["scheduledAt"]
    assert (run.run, run.cron) == (derived_ulid(SLOT, "cron", "env/app-fn", LINE), LINE)
    assert run.events == ((keep.id, keep.body),)
    assert arm == Arm("env/app-fn#* * * * *", SLOT + MINUTE_MS, SLOT + MINUTE_MS)
    assert fire(entry, line, SLOT, context(now_ms=SLOT + 9))[1].run == run.run  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("catch_up", "missed", "expected"),
    [
        ("Latest", 1, [1]),
        ("Latest", 50, [50]),
        ("All", 1, [1]),
        ("All", 50, list(range(1, 51))),
        ("All", 250, list(range(151, 251))),
        ("None", 1, []),
        ("None", 250, []),
    ],
)
def test_the_policy_says_what_missed_slots_become(
    catch_up: CatchUp, missed: int, expected: list[int]
) -> None:
    """Hourly slots, the last of them ten minutes ago. What is armed next is the first that has not come yet."""
    which = cron("0 * * * *", catch_up=catch_up)
    hour_ms = 60 * MINUTE_MS
    begin = NOW_MS - NOW_MS % hour_ms
    slots, arm = fired(which, begin + hour_ms, begin + missed * hour_ms + 10 * MINUTE_MS)
    assert slots == [begin + n * hour_ms for n in expected]
    assert arm.slot_ms == begin + (missed + 1) * hour_ms


@pytest.mark.parametrize(("late_ms", "fires"), [(0, True), (MISSED_MS - 1, True), (MISSED_MS, False)])
def test_a_slot_that_comes_a_little_late_was_not_missed(late_ms: int, fires: bool) -> None:
    """Executors that are busy, or one that died deciding, are no downtime."""
    slots, _ = fired(
        cron("0 * * * *", catch_up="None"),
        SLOT - SLOT % (60 * MINUTE_MS),
        SLOT - SLOT % (60 * MINUTE_MS) + late_ms,
    )
    assert bool(slots) == fires


def test_more_slots_than_go_together_come_one_portion_after_the_other() -> None:
    """Jitter of an hour on a cron of every second: 3,600 slots may be under way; each fires once."""
    which = cron("* * * * * *", jitter_ms=3_600_000)
    found = lived(which, SLOT, [SLOT + 3_600_000])
    assert len(found) > MOST_AT_ONCE
    assert len({slot for _, slot in found}) == len(found)


def test_a_slot_is_due_when_the_store_says_so() -> None:
    """An executor whose clock is behind would be asked again and again, and decide nothing."""
    for catch_up in POLICIES:
        slots, arm = fired(cron(catch_up=catch_up), SLOT, SLOT - 5_000)
        assert (slots, arm.slot_ms) == ([SLOT], SLOT + MINUTE_MS)


def test_slots_whose_runs_have_much_to_say_come_in_portions_of_one_script() -> None:
    """Keys never find anything in a cron's event, and each says so; what is left is due at once, and none is lost."""
    key = "event.data.none"
    which = cron(
        catch_up="All",
        concurrency=(Concurrency(limit=1, key=key), Concurrency(limit=1, key=key, scope="env")),
        throttle=Throttle(limit=1, period_ms=1_000, key=key),
        rate_limit=RateLimit(limit=1, period_ms=1_000, key=key),
        singleton=Singleton(mode="skip", key=key),
        priority=key,
    )
    slot_ms, now_ms = SLOT, SLOT + 99 * MINUTE_MS
    started: list[int] = []
    while slot_ms <= now_ms:
        *effects, arm = fire(*which, slot_ms, context(now_ms=now_ms))
        assert isinstance(arm, Arm)
        assert len(effects) + 1 <= MAX_EFFECTS
        runs = [ulid_ms(effect.run) for effect in effects if isinstance(effect, Start)]
        assert len([effect for effect in effects if isinstance(effect, Note)]) == 6 * len(runs)
        started += runs
        assert runs
        assert arm.slot_ms == runs[-1] + MINUTE_MS
        slot_ms = arm.slot_ms
    assert started == [SLOT + n * MINUTE_MS for n in range(100)]


@given(
    st.sampled_from(POLICIES),
    st.sampled_from(["* * * * *", "*/7 * * * *", "*/20 * * * * *"]),
    st.sampled_from([0, 1_000, 90_000, 300_000]),
    st.lists(st.integers(1, 40_000), max_size=40),
)
def test_with_somebody_there_every_slot_fires_once_in_its_time(
    catch_up: CatchUp, line: str, jitter_ms: int, pauses: list[int]
) -> None:
    """Whatever the policy and the jitter, also one that is longer than the slots are apart."""
    which = cron(line, jitter_ms=jitter_ms, catch_up=catch_up)
    due = {
        slot: first_slot(*which, slot - 1)[1]
        for slot in which[1].line.slots_between(SLOT - 1, SLOT + 1_600_000, 500)
    }
    # Looking at every due time and some others: nobody is ever away.
    wakes = sorted({*due.values(), *(SLOT + sum(pauses[:n]) for n in range(len(pauses)))})
    end_ms = wakes[-1] - jitter_ms
    found = [(at_ms, slot) for at_ms, slot in lived(which, SLOT, wakes) if slot <= end_ms]
    assert [slot for _, slot in found] == [slot for slot in due if slot <= end_ms]
    for at_ms, slot in found:
        assert due[slot] <= at_ms <= slot + jitter_ms


@given(
    st.sampled_from(POLICIES),
    st.sampled_from([0, 1_000, 90_000, 300_000]),
    st.lists(st.integers(1, 6_000_000), min_size=1, max_size=8),
)
def test_a_life_with_gaps_never_fires_a_slot_twice_or_early(
    catch_up: CatchUp, jitter_ms: int, gaps: list[int]
) -> None:
    """All loses none; Latest has at most one late run for each time that somebody came back; None has none."""
    which = cron(jitter_ms=jitter_ms, catch_up=catch_up)
    wakes = [SLOT + sum(gaps[: n + 1]) for n in range(len(gaps))]
    found = lived(which, SLOT, wakes)
    slots = [slot for _, slot in found]
    assert slots == sorted(set(slots))
    for at_ms, slot in found:
        assert first_slot(*which, slot - 1)[1] <= at_ms
    for wake in wakes:
        missed = [slot for at_ms, slot in found if at_ms == wake and wake - slot - jitter_ms >= MISSED_MS]
        assert len(missed) <= {"None": 0, "Latest": 1, "All": MOST_AT_ONCE}[catch_up]
    if catch_up == "All" and slots and max(gaps) < MOST_AT_ONCE * MINUTE_MS:
        assert slots == list(which[1].line.slots_between(SLOT - 1, slots[-1], 10_000))


def test_a_cron_begins_with_the_next_slot() -> None:
    """Put off by its jitter, the same whenever it is asked."""
    assert first_slot(*cron(), NOW_MS) == (SLOT + MINUTE_MS, SLOT + MINUTE_MS)
    slot_ms, due_ms = first_slot(*cron(jitter_ms=30_000), NOW_MS)
    assert slot_ms == SLOT + MINUTE_MS
    assert slot_ms <= due_ms <= slot_ms + 30_000
    assert first_slot(*cron(jitter_ms=30_000), NOW_MS + 1) == (slot_ms, due_ms)


def test_the_slots_of_a_paused_function_are_skipped() -> None:
    """Recorded, with the event that they would have had; the cron goes on."""
    keep, skip, arm = fire(*cron(paused=True), SLOT, context(now_ms=SLOT))
    assert isinstance(keep, Keep)
    assert isinstance(skip, Skip)
    assert isinstance(arm, Arm)
    assert (skip.run, skip.cron) == (derived_ulid(SLOT, "cron", "env/app-fn", LINE), LINE)
    assert (skip.events, skip.parent) == ((keep.id,), "")
    assert arm.slot_ms == SLOT + MINUTE_MS


def test_a_registration_of_the_version_before_has_the_usual_policy() -> None:
    """It says nothing of it."""
    trigger = msgspec.json.decode(b'{"cron":"* * * * *"}', type=Trigger)
    config = FunctionConfig(slug="app-fn", name="f", url="http://app/", triggers=(trigger,))
    (found,) = registry(config).functions["app-fn"].crons
    assert found.catch_up == "Latest"
    assert b"catch_up" not in msgspec.json.encode(App(id="app", url="", functions=(config,)))
