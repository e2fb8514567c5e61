"""What a debounce or a batch starts that is due."""

from typing import Any, Literal

import pytest

from innkeeper_engine.decide.gathered import fire_gathered
from innkeeper_engine.limits import digest
from innkeeper_engine.model.clock import derived_ulid
from innkeeper_engine.model.effects import Effect, Once, Rate, Skip, Start
from innkeeper_engine.model.functions import Batch, Debounce, FunctionConfig, RateLimit, Throttle
from innkeeper_engine.model.functions import Cancel as CancelRule
from innkeeper_engine.model.state import Gathered, StoredEvent
from tests.engine.model_decide import KEY, NOW_MS, TRIGGERS, context, function, notes, registry, stored, told

LATER_MS = NOW_MS + 600_000
"""When it is due."""
BATCH = Batch(max_size=10, timeout_ms=60_000)
DEBOUNCE = Debounce(period_ms=60_000)


def event(n: int, **fields: Any) -> StoredEvent:
    """The n-th event, received n ms after the first; `n` and `k` are in its data."""
    body = {"data": {"n": n, "k": f"k{n}"}, "id": f"mine-{n}", "name": "x", **fields}
    return stored(body, seq=n, received_ms=NOW_MS + n)


def gone(n: int) -> StoredEvent:
    """The n-th event, which has expired."""
    return stored(b"", seq=n, received_ms=NOW_MS + n)


def fired(
    kind: Literal["debounce", "batch"], config: FunctionConfig, *events: StoredEvent, **app: Any
) -> list[Effect]:
    """What these events come to when they are due."""
    surroundings = context(registry=registry(config, **app), now_ms=LATER_MS)
    gathered = Gathered("g", kind, "env", config.slug, tuple(each.id for each in events))
    return fire_gathered(surroundings.registry.functions[config.slug], gathered, events, surroundings)


def run_of(kind: Literal["debounce", "batch"], *events: StoredEvent, **options: Any) -> Start:
    """The run that they start."""
    option: dict[str, Any] = {"debounce": DEBOUNCE} if kind == "debounce" else {"batch": BATCH}
    start = fired(kind, function(triggers=TRIGGERS, **{**option, **options}), *events)[0]
    assert isinstance(start, Start)
    return start


def test_a_batch_starts_one_run_with_its_events() -> None:
    """In the order of their arrival, their bodies copied by the store; it is as old as the moment in which it starts."""
    events = [event(n) for n in range(1, 4)]
    start = run_of("batch", *events)
    assert start.run == derived_ulid(NOW_MS + 1, "batch", events[0].id, "env/app-fn")
    assert start.events == tuple((each.id, b"") for each in events)
    assert (start.order, start.due_ms, start.parent, start.cron) == (LATER_MS, 0, "", "")


def test_a_debounce_starts_one_run_with_its_last_event() -> None:
    """Also where it is asked for with those before."""
    last = event(3)
    for events in ([last], [event(1), event(2), last]):
        start = run_of("debounce", *events)
        assert start.run == derived_ulid(NOW_MS + 3, "debounce", last.id, "env/app-fn")
        assert start.events == ((last.id, b""),)
        assert (start.order, start.due_ms) == (LATER_MS, 0)


def test_events_that_expired_are_left_out() -> None:
    """The run has what is left; with nothing left there is none."""
    config = function(triggers=TRIGGERS, batch=BATCH)
    assert fired("batch", config, gone(1), gone(2)) == []
    assert fired("batch", config) == []
    assert fired("debounce", function(triggers=TRIGGERS, debounce=DEBOUNCE), gone(1)) == []
    left = event(2)
    start = run_of("batch", gone(1), left, gone(3))
    assert start.events == ((left.id, b""),)
    assert start.run == derived_ulid(NOW_MS + 2, "batch", left.id, "env/app-fn")


@pytest.mark.parametrize(("ts", "due_ms"), [(LATER_MS + 5, LATER_MS + 5), (LATER_MS, 0), (NOW_MS, 0), (1, 0)])
def test_the_last_event_of_a_debounce_may_put_its_run_off(ts: int, due_ms: int) -> None:
    """To a time ahead when it is due; an event of a batch cannot hold up the others."""
    start = run_of("debounce", event(1, ts=ts))
    assert (start.due_ms, start.order) == (due_ms, due_ms or LATER_MS)
    assert run_of("batch", event(1, ts=ts), event(2)).due_ms == 0


def test_the_rights_of_a_debounce_are_those_of_its_last_event() -> None:
    """Taken when the run starts."""
    start = run_of("debounce", event(7), idempotency=KEY)
    (right,) = start.rights
    assert isinstance(right, Once)
    assert right.key == f"env/app-fn:k:{digest('k7')}"
    assert start.idempotency.startswith("env/app-fn:")


def test_a_batch_has_taken_its_events_rights_but_the_rate() -> None:
    """Which is counted once for a run, by its first event; and so are the keys of its queue."""
    rate = RateLimit(limit=1, period_ms=1_000, key=KEY)
    throttle = Throttle(limit=1, period_ms=1_000, key="event.data.n")
    start = run_of("batch", event(1), event(2), rate_limit=rate, throttle=throttle)
    (right,) = start.rights
    assert isinstance(right, Rate)
    assert right.key == f"env/app-fn|{digest('k1')}"
    assert start.start_partition.endswith(digest("1"))
    assert start.idempotency == ""
    assert run_of("batch", event(1), idempotency=KEY).rights == ()


def test_only_events_after_the_last_one_cancel() -> None:
    """And for as long as the rule says after the run started, not after the event came."""
    rule = CancelRule(event="stop", timeout_ms=1_000)
    for kind in ("debounce", "batch"):
        (cancel,) = run_of(kind, event(1), event(4), cancel=(rule,)).cancels
        assert (cancel.after, cancel.deadline_ms) == (4, LATER_MS + 1_000)


@pytest.mark.parametrize(
    ("kind", "options"), [("debounce", {"debounce": DEBOUNCE}), ("batch", {"batch": BATCH})]
)
def test_a_pause_counts_when_they_are_due(
    kind: Literal["debounce", "batch"], options: dict[str, Any]
) -> None:
    """What comes of them is recorded with its events, and a batch's events have taken the sender's ids themselves."""
    events = [event(1), event(2)]
    (skip,) = fired(kind, function(triggers=TRIGGERS, paused=True, **options), *events)
    assert isinstance(skip, Skip)
    assert told([skip]) == "skip paused"
    wanted = events if kind == "batch" else events[-1:]
    assert skip.events == tuple(each.id for each in wanted)
    assert bool(skip.idempotency) == (kind == "debounce")


def test_a_gathering_that_was_begun_under_an_option_that_is_gone_still_starts() -> None:
    """As what it was."""
    config = function(triggers=TRIGGERS)
    events = [event(1), event(2)]
    (batch,) = fired("batch", config, *events)
    (debounce,) = fired("debounce", config, *events)
    assert isinstance(batch, Start)
    assert isinstance(debounce, Start)
    assert (len(batch.events), len(debounce.events)) == (2, 1)


def test_the_run_s_history_says_what_gave_nothing_when_its_events_came() -> None:
    """There was no run then."""
    keyed = Batch(max_size=10, timeout_ms=60_000, key="event.data.none")
    config = function(triggers=TRIGGERS, batch=keyed, idempotency="event.data.k")
    effects = fired("batch", config, event(1, data={}), event(2), event(3, data={}))
    found = notes(effects)
    assert found.keys() == {"batchEvents.key", "idempotency"}
    assert "2 of 3 events" in found["idempotency"]
    assert notes(fired("batch", function(triggers=TRIGGERS, batch=BATCH, idempotency=KEY), event(1))) == {}


@pytest.mark.parametrize("body", [b"[1]", b"null", b"no JSON", b'{"data":[]}'])
@pytest.mark.parametrize("kind", ["debounce", "batch"])
def test_no_event_stops_a_gathering(kind: Literal["debounce", "batch"], body: bytes) -> None:
    """What is no object has no fields."""
    odd = stored(body, seq=1)
    assert run_of(kind, odd, idempotency=KEY).events == ((odd.id, b""),)
