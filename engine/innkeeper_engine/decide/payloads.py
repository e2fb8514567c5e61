"""What lies among a run's payloads beside events and results, by the field's name."""

from collections.abc import Mapping

import msgspec

from innkeeper_engine.model.calls import OpKind
from innkeeper_engine.model.replays import EditedInput

ORDER = ":k"
"""Of a run that has ended: its steps in the order in which they got their results, as a JSON array."""
EDITED = ":i"
"""What a step is given instead of its own input, an `EditedInput`."""


def is_result(field: str) -> bool:
    """Whether a payload is a step's result: no step's id is `o` or `x`, or has a colon, as `e:<n>` of events has."""
    return field not in ("o", "x") and ":" not in field


def edited_input(payload: Mapping[str, bytes]) -> EditedInput | None:
    """The edited input among a run's payloads."""
    stored = payload.get(EDITED)
    return None if stored is None else msgspec.json.decode(stored, type=EditedInput)


def input_to_send(payload: Mapping[str, bytes]) -> dict[str, bytes]:
    """The state by which an SDK gives a step other input: step id -> `{"input": [...]}`; empty where there is none."""
    edited = edited_input(payload)
    if edited is None or edited.op != OpKind.STEP_RUN:
        return {}
    return {edited.step: b'{"input":%b}' % bytes(edited.input)}
