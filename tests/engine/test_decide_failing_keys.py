"""Keys and conditions that give nothing for an event: what it comes to, and what the run's history says."""

from typing import Any

import pytest

from innkeeper_engine.limits import FALLBACK
from innkeeper_engine.model.effects import Gather, Note, Start
from innkeeper_engine.model.functions import Batch, Concurrency, Debounce, RateLimit, Singleton, Throttle
from tests.engine.model_decide import KEY, RUN, TRIGGERS, function, meets, notes, started, told

BOTH = {"debounce": Debounce(period_ms=60_000, key=KEY), "idempotency": KEY}
FAILING: list[tuple[str, dict[str, Any], str, dict[str, str]]] = [
    (
        "concurrency",
        {"concurrency": (Concurrency(limit=1), Concurrency(limit=2, key=KEY, scope="env"))},
        "start",
        {"concurrency[1].key": "counts with all others"},
    ),
    (
        "throttle",
        {"throttle": Throttle(limit=1, period_ms=1_000, key=KEY)},
        "start",
        {"throttle.key": "throttled with all others"},
    ),
    ("priority", {"priority": KEY}, "start", {"priority.run": "no priority"}),
    (
        "rateLimit",
        {"rate_limit": RateLimit(limit=1, period_ms=1_000, key=KEY)},
        "start",
        {"rateLimit.key": "not counted"},
    ),
    ("singleton", {"singleton": Singleton(mode="skip", key=KEY)}, "start", {"singleton.key": "beside"}),
    ("singleton cancel", {"singleton": Singleton(mode="cancel", key=KEY)}, "start", {"singleton.key": "beside"}),
    ("idempotency", {"idempotency": KEY}, "start", {"idempotency": "made whether or not"}),
    ("debounce", {"debounce": Debounce(period_ms=60_000, key=KEY)}, "start", {"debounce.key": "not debounced"}),
    ("batch", {"batch": Batch(max_size=2, timeout_ms=1_000, key=KEY)}, "gather batch", {}),
    (
        "batch if",
        {"batch": Batch(max_size=2, timeout_ms=1_000, expression=f"{KEY} == 'v'")},
        "start",
        {"batchEvents.if": "not batched"},
    ),
    ("two", BOTH, "start", {"debounce.key": "not debounced", "idempotency": "made whether or not"}),
    # What rateLimit says beside idempotency is of no interest.
    (
        "beside",
        {"rate_limit": RateLimit(limit=1, period_ms=1_000, key="event.data.none"), "idempotency": "event.name"},
        "start once",
        {},
    ),
]  # fmt: skip
NOTHING: list[dict[str, Any]] = [{}, {"k": None}]


@pytest.mark.parametrize("data", NOTHING)
@pytest.mark.parametrize(
    ("options", "expected", "said"), [row[1:] for row in FAILING], ids=[r[0] for r in FAILING]
)
def test_a_key_that_gives_nothing_drops_and_holds_up_nothing(
    options: dict[str, Any], expected: str, said: dict[str, str], data: dict[str, Any]
) -> None:
    """The run's history says so, once for each option."""
    effects = meets("event", function(triggers=TRIGGERS, **options), data=data)
    if data and "batch" in options:
        # null == 'v' is no error, it is false.
        said = {}
    assert told(effects) == expected
    found = notes(effects, RUN)
    assert found.keys() == said.keys()
    for option, words in said.items():
        assert words in found[option]
    assert len([effect for effect in effects if isinstance(effect, Note)]) == len(said)


@pytest.mark.parametrize(("options", "expected"), [row[1:3] for row in FAILING], ids=[r[0] for r in FAILING])
def test_a_key_that_gives_a_value_says_nothing(options: dict[str, Any], expected: str) -> None:
    """The counterpart: no notes."""
    effects = meets(
        "event", function(triggers=TRIGGERS, **options), data={"k": 7 if "priority" in options else "v"}
    )
    assert notes(effects) == {}
    assert [type(effect) for effect in effects] in ([Start], [Gather])


@pytest.mark.parametrize("text", ["event.data.k", "1", "'true'", "event.data.k.k"])
def test_a_batch_takes_what_its_condition_is_true_for(text: str) -> None:
    """Anything but true, and false, is said to be neither."""
    config = function(triggers=TRIGGERS, batch=Batch(max_size=2, timeout_ms=1_000, expression=text))
    effects = meets("event", config, data={"k": "v"})
    assert told(effects) == "start"
    assert list(notes(effects)) == ["batchEvents.if"]


def test_runs_without_a_value_share_one_place_in_the_queue() -> None:
    """And nobody else's."""
    config = function(triggers=TRIGGERS, concurrency=(Concurrency(limit=2, key=KEY),))
    missing, null, other = (started(config, data=data) for data in ({}, {"k": None}, {"k": FALLBACK}))
    assert missing.start_partition == null.start_partition != other.start_partition
