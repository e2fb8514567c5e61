"""When a step began and ended, as its note says: by the app's clock where that fits ours."""

from typing import Any

import orjson
import pytest

from innkeeper_engine.decide.notes import request_began_ms, step_line
from innkeeper_engine.model.calls import Op, OpKind
from innkeeper_engine.model.clock import encode_ulid

ASKED_MS = 1_795_407_869_000
NOW_MS = ASKED_MS + 1_000
MS = 1_000_000


def times(kind: OpKind, timing: tuple[int, int] | None, asked_ms: int | None = ASKED_MS) -> dict[str, Any]:
    op = Op(kind=kind, id="a", name="a", timing=timing)
    line = orjson.loads(step_line("run", op, "Completed", NOW_MS, asked_ms=asked_ms).text)
    return {name: line[name] - ASKED_MS for name in ("started", "ended") if name in line}


@pytest.mark.parametrize(
    ("timing", "expected"),
    [
        (None, {"started": 0}),
        (((ASKED_MS + 200) * MS, 300 * MS), {"started": 200, "ended": 500}),
        # The app's clock is late, or ahead.
        (((ASKED_MS - 5_000) * MS, 300 * MS), {"started": 700}),
        (((ASKED_MS + 5_000) * MS, 300 * MS), {"started": 700}),
        (((ASKED_MS - 5_000) * MS, 3_000 * MS), {"started": 0}),
    ],
)
def test_a_step_began_within_its_request(timing: tuple[int, int] | None, expected: dict[str, int]) -> None:
    assert times(OpKind.STEP_RUN, timing) == expected


def test_a_wait_begins_when_it_is_told_of() -> None:
    assert times(OpKind.SLEEP, None) == {}


def test_without_a_request_only_the_app_knows() -> None:
    assert times(OpKind.STEP_RUN, None, None) == {}
    assert times(OpKind.STEP_RUN, ((ASKED_MS + 200) * MS, 300 * MS), None) == {"started": 200, "ended": 500}


def test_a_request_began_when_its_token_was_made() -> None:
    assert request_began_ms(encode_ulid(ASKED_MS, 7)) == ASKED_MS
    assert request_began_ms("t") is None
