"""What becomes of an event that meets a function: every option, every origin, every state, in one table."""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from innkeeper_engine.compiled import Registry
from innkeeper_engine.decide.context import DAY_MS
from innkeeper_engine.decide.route import Arrival, start_effects
from innkeeper_engine.limits import FALLBACK, digest
from innkeeper_engine.model.cancellations import Cancellation
from innkeeper_engine.model.effects import (
    Arm,
    Cancel,
    Effect,
    Gather,
    Keep,
    Note,
    Once,
    Rate,
    Resolve,
    Single,
    Skip,
    Start,
)
from innkeeper_engine.model.functions import (
    App,
    Batch,
    Concurrency,
    Debounce,
    RateLimit,
    Singleton,
    Throttle,
    Timeouts,
)
from tests.engine.model_decide import (
    DATA,
    KEY,
    NOW_MS,
    RUN,
    TRIGGERS,
    bulk,
    context,
    function,
    meets,
    queued,
    registry,
    started,
    stored,
    told,
)

BATCH = Batch(max_size=10, timeout_ms=5_000)
DEBOUNCE = Debounce(period_ms=60_000)
RATE = RateLimit(limit=3, period_ms=60_000)
OPTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "concurrency": {"concurrency": (Concurrency(limit=2, key=KEY),)},
    "throttle": {"throttle": Throttle(limit=1, period_ms=1_000, key=KEY)},
    "priority": {"priority": "event.data.n"},
    "timeouts": {"timeouts": Timeouts(start_ms=1_000, finish_ms=2_000)},
    "idempotency": {"idempotency": KEY},
    "rateLimit": {"rate_limit": RATE},
    "singleton": {"singleton": Singleton(mode="skip")},
    "singleton cancel": {"singleton": Singleton(mode="cancel")},
    "debounce": {"debounce": DEBOUNCE},
    "batch": {"batch": BATCH},
    "batch, if true": {"batch": Batch(max_size=10, timeout_ms=5_000, expression="true")},
    "batch, if false": {"batch": Batch(max_size=10, timeout_ms=5_000, expression="false")},
}

#    options, and what they make of: an event, an invocation, a cron, a gathering that is due
TABLE: list[tuple[str, str, str, str, str]] = [
    ("nothing", "start", "start", "start", "start"),
    ("concurrency", "start", "start", "start", "start"),
    ("throttle", "start", "start", "start", "start"),
    ("priority", "start", "start", "start", "start"),
    ("timeouts", "start", "start", "start", "start"),
    ("idempotency", "start once", "start once", "start", "start once"),
    ("rateLimit", "start rate", "start rate", "start rate", "start rate"),
    ("singleton", "start single", "start single", "start single", "start single"),
    ("singleton cancel", "start replace", "start replace", "start replace", "start replace"),
    ("debounce", "gather debounce", "start", "start", "start"),
    ("batch", "gather batch", "start", "start", "start"),
    ("batch, if true", "gather batch", "start", "start", "start"),
    ("batch, if false", "start", "start", "start", "start"),
    # Together.
    ("idempotency + rateLimit", "start once", "start once", "start", "start once"),
    ("idempotency + singleton", "start once single", "start once single", "start single", "start once single"),
    ("rateLimit + singleton", "start rate single", "start rate single", "start rate single", "start rate single"),
    ("rateLimit + throttle + concurrency + priority", "start rate", "start rate", "start rate", "start rate"),
    ("idempotency + debounce", "gather debounce", "start once", "start", "start once"),
    ("rateLimit + debounce", "gather debounce", "start rate", "start rate", "start rate"),
    ("singleton + debounce", "gather debounce", "start single", "start single", "start single"),
    ("singleton cancel + debounce", "gather debounce", "start replace", "start replace", "start replace"),
    # The right of idempotency was taken for each event of a batch as it came.
    ("idempotency + batch", "gather batch", "start once", "start", "start"),
    ("rateLimit + batch", "gather batch", "start rate", "start rate", "start rate"),
    ("idempotency + batch, if false", "start once", "start once", "start", "start"),
    ("rateLimit + batch, if false", "start rate", "start rate", "start rate", "start rate"),
    # A registration refuses these two together: the batch counts.
    ("debounce + batch", "gather batch", "start", "start", "start"),
    ("debounce + batch, if false", "start", "start", "start", "start"),
]  # fmt: skip
ORIGINS = ("event", "invoke", "cron", "gathered")


def options_of(names: str) -> dict[str, Any]:
    """The options that a row of the table names."""
    found: dict[str, Any] = {}
    for name in names.split(" + "):
        found |= OPTIONS[name]
    return found


CASES = [(row[0], origin, cell) for row in TABLE for origin, cell in zip(ORIGINS, row[1:], strict=True)]


@pytest.mark.parametrize(("names", "origin", "expected"), CASES)
def test_what_becomes_of_it(names: str, origin: str, expected: str) -> None:
    """By the options of the function and by what it comes from."""
    config = function(triggers=TRIGGERS, **options_of(names))
    assert told(meets(origin, config)) == expected


@pytest.mark.parametrize(("names", "origin", "expected"), CASES)
def test_a_pause_comes_before_all_options_or_not_at_all(names: str, origin: str, expected: str) -> None:
    """With new runs Skip nothing is touched, where the app is not paused too; otherwise it is as ever, and waits."""
    options = {"triggers": TRIGGERS, **options_of(names)}
    skips = function(paused=True, new_runs="Skip", **options)
    queues = function(paused=True, new_runs="Queue", **options)
    assert told(meets(origin, skips)) == "skip paused"
    assert told(meets(origin, queues)) == expected
    assert told(meets(origin, skips, paused=True)) == expected
    assert told(meets(origin, function(**options), paused=True)) == expected


@pytest.mark.parametrize("names", [row[0] for row in TABLE])
def test_an_app_that_is_about_to_go_starts_nothing(names: str) -> None:
    """Events do not meet it, invocations are answered, crons are gone; what it has gathered is recorded."""
    config = function(triggers=TRIGGERS, **options_of(names))
    assert meets("event", config, draining=True) == []
    (answer,) = meets("invoke", config, draining=True)
    assert isinstance(answer, Resolve)
    assert registry(config, draining=True).crons == {}
    assert told(meets("cron", config, draining=True)) == "skip draining"
    (skip,) = meets("gathered", config, draining=True)
    assert told([skip]) == "skip draining"
    assert isinstance(skip, Skip)
    assert skip.events == (stored().id,)


# ---- rights

SENDERS = "env/app-fn:" + hashlib.sha256(b"mine").hexdigest()[:32]


def reply(why: str) -> bytes:
    """What the invoking step gets of a run that was not made."""
    return msgspec.json.encode(
        {"error": {"message": f"invoked function was skipped: {why}", "name": "Error"}}
    )


def skipped(why: str) -> bytes:
    """The line of its history."""
    return msgspec.json.encode({"t": NOW_MS, "type": "skipped", "why": why})


def test_idempotency_is_a_right_for_a_day() -> None:
    """Beside the sender's own id, which says nothing where it is repeated."""
    start = started(function(triggers=TRIGGERS, idempotency=KEY))
    words = "it had a run of the same idempotency key in the last 24 hours"
    assert start.idempotency == SENDERS
    assert start.rights == (
        Once(f"env/app-fn:k:{digest('v')}", DAY_MS, skipped("idempotency"), reply(words)),
    )


@pytest.mark.parametrize(("key", "shown"), [(None, ""), (KEY, digest("v")), ("'all'", digest("all"))])
def test_a_rate_limit_is_counted_per_function_and_value(key: str | None, shown: str) -> None:
    """Without a key all runs of the function are counted together."""
    start = started(function(triggers=TRIGGERS, rate_limit=RateLimit(limit=3, period_ms=60_000, key=key)))
    words = "its rate limit is reached"
    assert start.rights == (Rate(f"env/app-fn|{shown}", 3, 60_000, skipped("rateLimit"), reply(words)),)


@pytest.mark.parametrize(("key", "shown"), [(None, ""), (KEY, digest("v"))])
def test_a_singleton_is_skipped_or_takes_the_place(key: str | None, shown: str) -> None:
    """Only the second needs what the end of the other one is told with."""
    words = "it is a singleton, and another run of it goes on"
    skips = Single(f"env/app-fn|{shown}", skipped("singleton"), reply(words))
    options: dict[str, Any] = {"triggers": TRIGGERS}
    assert started(function(**options, singleton=Singleton(mode="skip", key=key))).rights == (skips,)
    (right,) = started(function(**options, singleton=Singleton(mode="cancel", key=key))).rights
    assert isinstance(right, Single)
    assert right[:3] == skips[:3]
    assert len(set(right.ids)) == 2
    line = {"t": NOW_MS, "type": "cancelled", "why": "singleton", "run": RUN}
    assert msgspec.json.decode(right.cancel_note) == line


@pytest.mark.parametrize(
    "options",
    [
        {"idempotency": "event.data.k"},
        {"rate_limit": RateLimit(limit=1, period_ms=1_000, key="event.data.k")},
        {"singleton": Singleton(mode="skip", key="event.data.k")},
        {"singleton": Singleton(mode="cancel", key="event.data.k")},
    ],
)
def test_a_right_whose_key_is_false_is_not_asked_for(options: dict[str, Any]) -> None:
    """So an expression can leave events out, and no history says that something is wrong; a text is a value."""
    config = function(triggers=TRIGGERS, **options)
    (start,) = meets("event", config, data={"k": False})
    assert isinstance(start, Start)
    assert start.rights == ()
    for value in ("false", True, 0, ""):
        assert len(started(config, data={"k": value}).rights) == 1
    keyed = gather_of({"k": False}, debounce=DEBOUNCE, idempotency=KEY)
    assert (keyed.once, keyed.refused) == ("", ())


def test_the_keys_of_an_invocation_see_the_event_as_the_function_does() -> None:
    """With what the engine wrote into it."""
    config = function(triggers=TRIGGERS, idempotency="event.data._inngest.correlation_id")
    (right,) = started(config, "invoke").rights
    assert isinstance(right, Once)
    assert right.key == f"env/app-fn:k:{digest('parent.step')}"
    assert meets("event", config)[0].rights == ()  # type: ignore[union-attr]


# ---- gathering


def gather_of(data: Mapping[str, Any] = DATA, **options: Any) -> Gather:
    """What an event is gathered by."""
    (gather,) = meets("event", function(triggers=TRIGGERS, **options), data=data)
    assert isinstance(gather, Gather)
    return gather


@pytest.mark.parametrize(
    ("options", "group"),
    [
        ({"debounce": DEBOUNCE}, "d"),
        ({"debounce": Debounce(period_ms=60_000, key=KEY)}, "d" + digest("v")),
        ({"batch": BATCH}, "b"),
        ({"batch": Batch(max_size=10, timeout_ms=5_000, key=KEY)}, "b" + digest("v")),
        ({"batch": Batch(max_size=10, timeout_ms=5_000, key="event.data.none")}, "b" + FALLBACK),
    ],
)
def test_events_are_gathered_by_function_and_key(options: dict[str, Any], group: str) -> None:
    """A debounce and a batch of one key are not the same."""
    gather = gather_of(**options)
    assert gather.group == f"env/app-fn|{group}"
    assert (gather.env, gather.fn, gather.event) == ("env", "env/app-fn", queued().id)


def test_a_gathering_knows_its_times() -> None:
    """A debounce its period and ceiling, a batch its time and size."""
    plain = gather_of(debounce=DEBOUNCE)
    assert (plain.period_ms, plain.ceiling_ms, plain.most) == (60_000, 0, 0)
    ceiling = gather_of(debounce=Debounce(period_ms=60_000, timeout_ms=300_000))
    assert (ceiling.period_ms, ceiling.ceiling_ms, ceiling.most) == (60_000, 300_000, 0)
    batch = gather_of(batch=BATCH)
    assert (batch.period_ms, batch.ceiling_ms, batch.most) == (5_000, 0, 10)


@pytest.mark.parametrize("options", [{"debounce": DEBOUNCE}, {"batch": BATCH}])
def test_an_event_that_had_its_run_is_not_gathered(options: dict[str, Any]) -> None:
    """The sender's repeated id is silent; a repeated key is recorded as the run that it would have been."""
    plain = gather_of(**options)
    assert (plain.idempotency, plain.once, plain.refused) == (SENDERS, "", ())
    keyed = gather_of(**options, idempotency=KEY)
    assert (keyed.idempotency, keyed.once) == (SENDERS, f"env/app-fn:k:{digest('v')}")
    (skip,) = keyed.refused
    assert isinstance(skip, Skip)
    assert (skip.run, skip.events, skip.note) == (RUN, (queued().id,), skipped("idempotency"))
    # It was looked at already, and a batch has taken it.
    assert skip.idempotency == ""
    failing = gather_of({}, **options, idempotency=KEY)
    assert (failing.once, failing.refused) == ("", ())


# ---- the queue


def test_a_run_queues_by_its_keys_and_priority() -> None:
    """Its age is the later of receipt and due time, less the boost."""
    config = function(
        triggers=TRIGGERS,
        concurrency=(Concurrency(limit=2, key=KEY),),
        throttle=Throttle(limit=1, period_ms=1_000, key="event.data.n"),
        priority="event.data.n",
    )
    start = started(config)
    assert digest("v") in start.start_partition
    assert digest("60") in start.start_partition
    assert digest("60") not in start.step_partition
    assert (start.boost_ms, start.order, start.due_ms) == (60_000, NOW_MS - 60_000, 0)
    body = {"data": {"n": -10_000}, "ts": NOW_MS + 5_000}
    (later, *_) = start_effects(Arrival(queued("x", body)), context(config))
    assert isinstance(later, Start)
    assert (later.boost_ms, later.order) == (-600_000, NOW_MS + 5_000 + 600_000)
    assert later.due_ms == NOW_MS + 5_000


@pytest.mark.parametrize("ts", [float(10**300), 10**17, True, "2030", None, -1, NOW_MS, {}])
def test_no_ts_puts_a_run_off_for_ever(ts: Any) -> None:
    """Beyond the year 2100, and what is no time: at once."""
    (start,) = start_effects(
        Arrival(queued("x", {"data": {}, "ts": ts})), context(function(triggers=TRIGGERS))
    )
    assert isinstance(start, Start)
    assert (start.due_ms, start.order) == (0, NOW_MS)


@pytest.mark.parametrize(
    ("timeouts", "expected"),
    [
        (None, (0, 0)),
        (Timeouts(start_ms=1_000), (1_000, 0)),
        (Timeouts(finish_ms=2_000), (0, 2_000)),
        (Timeouts(start_ms=1_000, finish_ms=2_000), (1_000, 2_000)),
    ],
)
@pytest.mark.parametrize("origin", ORIGINS)
def test_a_run_knows_its_timeouts(timeouts: Timeouts | None, expected: tuple[int, int], origin: str) -> None:
    """With ids for the events of its end, drawn only where there is one."""
    start = started(function(triggers=TRIGGERS, timeouts=timeouts), origin)
    assert (start.start_timeout_ms, start.finish_timeout_ms) == expected
    assert len(set(start.ids)) == 2 if timeouts else start.ids == ("", "")


# ---- cancellations of many runs


def cancelled(origin: str, *cancellations: Cancellation, **options: Any) -> list[Effect]:
    """What is done where such cancellations are in force."""
    app = App(id="app", url="", functions=(function(triggers=TRIGGERS, **options),))
    with_them = Registry("env", 1, [app], cancellations=cancellations)
    return meets(origin, app.functions[0], context_=context(registry=with_them))


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_run_that_somebody_cancels_is_cancelled_as_it_starts(origin: str) -> None:
    """Right after its start, in the same script; once, however many cancellations cover it."""
    effects = cancelled(origin, bulk(), bulk(id="C2", expression=None), priority="event.data.none")
    assert told(effects) == "start, cancel"
    start, cancel, note = (effect for effect in effects if not isinstance(effect, Keep | Arm))
    assert isinstance(start, Start)
    assert isinstance(cancel, Cancel)
    assert isinstance(note, Note)
    assert (cancel.run, cancel.pause, len(set(cancel.ids))) == (start.run, "", 2)
    line = {"t": NOW_MS, "type": "cancelled", "why": "bulk", "cancellation": "C1"}
    assert msgspec.json.decode(cancel.note) == line


@pytest.mark.parametrize(
    "options",
    [
        {"after_ms": NOW_MS + 1, "before_ms": NOW_MS + 2},
        {"after_ms": 0, "before_ms": NOW_MS},
        {"expression": "event.data.k == 'other'"},
        {"expression": "event.data.none == 'v'"},
        {"slug": "app-other"},
        {"why": "function"},
    ],
)
@pytest.mark.parametrize("origin", ORIGINS)
def test_what_a_cancellation_does_not_cover_starts(origin: str, options: dict[str, Any]) -> None:
    """Other times, conditions and functions; and one for a function that was gone says nothing once it is back."""
    assert told(cancelled(origin, bulk(**options))) == "start"


def test_what_is_not_started_needs_no_cancellation() -> None:
    """It is held against cancellations when it starts."""
    assert told(cancelled("event", bulk(), debounce=DEBOUNCE)) == "gather debounce"
    assert told(cancelled("event", bulk(), paused=True)) == "skip paused"


def test_a_run_is_held_against_the_time_at_which_its_event_was_received() -> None:
    """Two routers that decide on one event at two times find as many effects: the cursor's position counts them."""
    app = App(id="app", url="", functions=(function(triggers=TRIGGERS),))
    with_it = Registry("env", 1, [app], cancellations=[bulk()])
    for late_ms in (0, 10, 1_000_000):
        found = start_effects(Arrival(queued("x")), context(registry=with_it, now_ms=NOW_MS + late_ms))
        assert told(found) == "start, cancel"
