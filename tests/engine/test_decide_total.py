"""Every event through every combination of options: one outcome, and no error that stops anybody."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_engine.compiled import Registry
from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.flow import Occasion, decide
from innkeeper_engine.decide.gathered import fire_gathered
from innkeeper_engine.decide.route import Arrival, Skipped, start_effects
from innkeeper_engine.model.cancellations import Cancellation
from innkeeper_engine.model.effects import Cancel, Effect, Gather, Note, Skip, Start
from innkeeper_engine.model.functions import (
    App,
    Batch,
    Concurrency,
    Debounce,
    FunctionConfig,
    RateLimit,
    Singleton,
    Throttle,
    Timeouts,
)
from innkeeper_engine.model.state import Gathered
from tests.engine.model_decide import (
    KEY,
    NOW_MS,
    RUN,
    TRIGGERS,
    bulk,
    context,
    function,
    notes,
    queued,
    stored,
    told,
)


class Broken:
    """An expression that raises what no expression may."""

    is_constant = False

    def _fail(self, variables: object) -> Any:
        raise RuntimeError("broken")

    key = evaluate = matches = integer = _fail


def test_an_error_in_one_function_stops_no_other() -> None:
    """It is left out, and somebody is told."""
    functions = [function("app-a", triggers=TRIGGERS, idempotency=KEY), function("app-b", triggers=TRIGGERS)]
    surroundings = context(*functions)
    known = surroundings.registry
    broken = msgspec.structs.replace(known.functions["app-a"], idempotency=Broken())
    pairs = [
        (broken if entry.config.slug == "app-a" else entry, trigger)
        for entry, trigger in known.triggered_by("x")
    ]
    known._by_name["x"] = pairs
    skipped: list[Skipped] = []
    effects = start_effects(Arrival(queued("x")), surroundings, skipped)
    assert [effect.fn for effect in effects if isinstance(effect, Start)] == ["env/app-b"]
    assert [each.what for each in skipped] == ["function app-a"]
    with pytest.raises(RuntimeError, match="broken"):
        start_effects(Arrival(queued("x")), surroundings)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("kn"), inner, max_size=2),
    max_leaves=6,
)
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "data": st.dictionaries(st.sampled_from("kn"), JSON) | JSON,
        "id": SCALARS,
        "ts": SCALARS | st.integers(NOW_MS - 5, NOW_MS + 5),
        "name": st.just("x"),
    },
)
KEYS = st.sampled_from(
    [None, KEY, "event.data.n", "'constant'", "event.data.k + 1", "event.data.k[0]", "event.id"]
)
CONDITIONS = st.sampled_from([None, "event.data.k == event.data.n", "event.data.k > 1", "event.data.k"])
CONFIGS = st.builds(
    function,
    triggers=st.just(TRIGGERS),
    concurrency=st.lists(st.builds(Concurrency, limit=st.integers(0, 2), key=KEYS), max_size=2).map(tuple),
    throttle=st.none() | st.builds(Throttle, limit=st.just(1), period_ms=st.just(1_000), key=KEYS),
    rate_limit=st.none() | st.builds(RateLimit, limit=st.just(1), period_ms=st.just(1_000), key=KEYS),
    debounce=st.none() | st.builds(Debounce, period_ms=st.just(1_000), key=KEYS),
    batch=st.none() | st.builds(Batch, max_size=st.just(2), timeout_ms=st.just(1_000), key=KEYS, expression=CONDITIONS),
    singleton=st.none() | st.builds(Singleton, mode=st.sampled_from(["skip", "cancel"]), key=KEYS),
    idempotency=KEYS,
    priority=KEYS,
    timeouts=st.none() | st.builds(Timeouts, start_ms=st.none() | st.just(1), finish_ms=st.none() | st.just(1)),
    paused=st.booleans(),
    new_runs=st.sampled_from(["Skip", "Queue"]),
)  # fmt: skip
BULK = st.lists(st.builds(bulk, expression=CONDITIONS, after_ms=st.sampled_from([0, NOW_MS + 1])), max_size=2)


@given(CONFIGS, EVENTS, BULK, st.booleans(), st.sampled_from(["event", "invoke", "debounce", "batch"]))
def test_every_event_has_one_outcome_in_every_function(
    config: FunctionConfig,
    event: dict[str, Any],
    cancellations: list[Cancellation],
    app_paused: bool,
    origin: str,
) -> None:
    """One of Skip, Gather and Start, whatever it holds and whatever is set; nothing raises."""
    app = App(id="app", url="", functions=(config,), paused=app_paused)
    known = Registry("env", 1, [app], cancellations=cancellations)
    surroundings = context(registry=known)
    run = (surroundings, known, event)
    effects = _outcome(origin, *run)
    first, *others = effects
    assert isinstance(first, Start | Gather | Skip)
    assert all(isinstance(effect, Cancel | Note) for effect in others)
    assert not others or isinstance(first, Start)
    assert isinstance(first, Skip) == (config.paused and config.new_runs == "Skip" and not app_paused)
    if isinstance(first, Gather):
        assert origin == "event"
        assert config.batch or config.debounce
    if isinstance(first, Start):
        assert abs(first.boost_ms) <= 600_000
        assert first.order == max(NOW_MS, first.due_ms) - first.boost_ms
        assert {effect.run for effect in others if isinstance(effect, Cancel | Note)} <= {first.run}
        assert len(notes(effects)) == sum(isinstance(effect, Note) for effect in others)
    # Whoever decides again decides alike.
    assert told(_outcome(origin, *run)) == told(effects)
    assert len(_outcome(origin, *run)) == len(effects)


def _outcome(origin: str, surroundings: Context, known: Registry, event: dict[str, Any]) -> list[Effect]:
    entry = known.functions["app-fn"]
    if origin == "event":
        return start_effects(Arrival(queued("x", event)), surroundings)
    if origin == "invoke":
        occasion = Occasion("invoke", RUN, event, ((queued().id, b""),), 5, NOW_MS, parent="parent.step")
        return decide(entry, occasion, surroundings)
    gathered = Gathered("g", origin, "env", "app-fn", (queued().id,))  # type: ignore[arg-type]
    return fire_gathered(entry, gathered, [stored(event)], surroundings)
