"""What functions declare about how they run."""

import time
import uuid

import pytest

from tests.sdk.harness import ALL, App, on

pytestmark = pytest.mark.sdk


@on(*ALL)
def test_a_concurrency_of_one_lets_one_in_at_a_time(app: App) -> None:
    batch = uuid.uuid4().hex
    runs = [app.trigger("one-at-a-time", {"batch": batch}) for _ in range(4)]
    for run in runs:
        run.end()
    steps = [e["step"] for e in app.effects(fn="one-at-a-time") if e["batch"] == batch]
    assert steps == ["enter", "leave"] * 4


@on(*ALL)
def test_a_freed_place_is_taken_at_once(app: App) -> None:
    """Four runs of 0.2 s each: waiting ones are woken, not found again by looking from time to time."""
    batch = uuid.uuid4().hex
    started = time.monotonic()
    runs = [app.trigger("one-at-a-time", {"batch": batch}) for _ in range(4)]
    for run in runs:
        run.end()
    assert time.monotonic() - started < 4


@on(*ALL)
def test_options_are_registered_without_a_word(app: App) -> None:
    assert app.trigger("options-warn", {"p": 1, "id": uuid.uuid4().hex}).end()["output"] == "ran"
    functions = {each["slug"]: each for each in app.api.http.get("/dev").json()["functions"]}
    assert functions[f"{app.id}-options-warn"]["not_enforced"] == []
