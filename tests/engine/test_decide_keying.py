"""Items that queue under keys that their function does not have any more: where they go."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_engine.decide.keying import rekey
from innkeeper_engine.decide.route import Arrival, start_effects
from innkeeper_engine.model.effects import Note, Rekey, Start
from innkeeper_engine.model.functions import Concurrency, FunctionConfig, Throttle
from tests.engine.model_decide import KEY, NOW_MS, TRIGGERS, context, function, lease, notes, queued, registry

LATER_MS = NOW_MS + 90_000


def keyed(config: FunctionConfig, event: Any, **options: Any) -> tuple[Rekey, dict[str, str]]:
    """Where an item of a run with this first event goes, and what its history says."""
    entry = registry(config).functions["app-fn"]
    payload = {"e:0": event if isinstance(event, bytes) else msgspec.json.encode(event)}
    back, *rest = rekey(lease(rekey=True, payload=payload, **options), entry, LATER_MS)
    assert isinstance(back, Rekey)
    assert all(isinstance(note, Note) and note.run == back.run for note in rest)
    return back, notes(rest)


CONFIGS = [
    function(triggers=TRIGGERS),
    function(triggers=TRIGGERS, concurrency=(Concurrency(limit=1, key=KEY),)),
    function(triggers=TRIGGERS, concurrency=(Concurrency(limit=1, key="'all'", scope="account"),)),
    function(
        triggers=TRIGGERS, throttle=Throttle(limit=1, period_ms=1_000, key=KEY), priority="event.data.n"
    ),
]


@given(
    st.sampled_from(CONFIGS),
    st.fixed_dictionaries(
        {},
        optional={"k": st.sampled_from(["a", "b", None]), "n": st.integers(-700, 700)},
    ),
    st.sampled_from([0, NOW_MS + 5]),
)
def test_an_item_queues_as_if_its_run_were_made_now(
    config: FunctionConfig, data: dict[str, Any], ts: int
) -> None:
    """Under the same keys, with the same boost and age, and with the same words about keys that give nothing."""
    event = {"data": data, "ts": ts}
    start, *rest = start_effects(Arrival(queued("x", event)), context(config))
    assert isinstance(start, Start)
    back, said = keyed(config, event, wanted_ms=start.order + start.boost_ms)
    assert (back.item, back.run) == ("run.0", "run")
    assert back[2:] == (start.start_partition, start.step_partition, start.order, start.boost_ms)
    assert said == notes(rest)


def test_an_item_keeps_its_age() -> None:
    """Since when its run is wanted, however long it has waited, and whatever its event says of a time."""
    config = function(triggers=TRIGGERS, priority="30")
    for event in ({"data": {}}, {"data": {}, "ts": LATER_MS + 5}):
        assert keyed(config, event, wanted_ms=NOW_MS - 7)[0].order == NOW_MS - 7 - 30_000


@pytest.mark.parametrize("event", [b"", b"[]", b"no JSON"])
def test_a_run_whose_event_cannot_be_read_goes_where_all_such_runs_go(event: bytes) -> None:
    """It is not lost."""
    config = CONFIGS[1]
    assert keyed(config, event) == keyed(config, {})
    assert list(keyed(config, event)[1]) == ["concurrency[0].key"]


def test_an_item_without_a_payload_is_keyed_all_the_same() -> None:
    """As one without an event."""
    entry = registry(CONFIGS[1]).functions["app-fn"]
    back = rekey(lease(payload=None), entry, LATER_MS)[0]
    assert back == keyed(CONFIGS[1], {})[0]
