"""What functions declare about how they run is taken whole, whichever SDK declares it."""

import time
import uuid

import pytest

from tests.sdk.harness import ALL, App, World, on

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
def test_every_option_is_enforced(app: App) -> None:
    """No function of the app declares anything that the server does not act on."""
    functions = app.api.http.get(f"/v1/apps/{app.id}/functions").json()
    declared = {option for function in functions for option in function["config"]}
    wanted = {"concurrency", "throttle", "rateLimit", "debounce", "batchEvents", "priority", "idempotency"}
    # Python 0.4 knows no others.
    wanted |= {"singleton", "timeouts"} if app.sdk != "py04" else set()
    assert wanted <= declared
    assert {f["id"]: f["not_enforced"] for f in functions if f["not_enforced"]} == {}


@on(*ALL)
def test_options_together_let_a_run_through(app: App, world: World) -> None:
    """A throttle, a priority and idempotency on one function: one run for an id."""
    data = {"p": 1, "id": uuid.uuid4().hex}
    assert app.trigger("options-warn", data).end()["output"] == "ran"
    app.trigger("options-warn", data).end("Skipped")
    assert f"function={app.id}-options-warn" not in world.server.proc.log_text()
