"""Sleeps, future events and cron fire when they should, never early."""

import time

import pytest

from tests.sdk.harness import ALL, App, World, on, wait_until

pytestmark = pytest.mark.sdk


@on(*ALL)
def test_a_sleep_takes_its_time_and_steps_before_it_are_not_run_again(app: App) -> None:
    run = app.trigger("sleep")
    assert run.end()["output"] == "AFTER"
    assert run.bodies() == {"before": 1, "after": 1}
    before, after = run.effects("before")[0], run.effects("after")[0]
    slept_ms = after["at_ms"] - before["at_ms"]
    assert 1000 <= slept_ms < 4000


@on(*ALL)
def test_sleeping_until_a_date_in_the_past_goes_on_at_once(app: App) -> None:
    started = time.monotonic()
    run = app.trigger("sleep-until-past")
    assert run.end()["output"] == "AFTER"
    assert time.monotonic() - started < 5


@on(*ALL)
def test_an_event_of_the_future_starts_its_run_then(app: App) -> None:
    at_ms = time.time_ns() // 1_000_000 + 2000
    run = app.trigger("future", ts=at_ms)
    assert run.effects() == []
    assert run.end()["output"] == {"ts": at_ms}
    late_ms = run.effects()[0]["at_ms"] - at_ms
    assert 0 <= late_ms < 3000


@on(*ALL)
def test_a_run_of_the_future_can_be_cancelled(app: App) -> None:
    at_ms = time.time_ns() // 1_000_000 + 60_000
    run = app.trigger("cancel-on", {"key": "future"}, ts=at_ms)
    app.api.send(app.event("cancel"), {"key": "future"})
    run.end("Cancelled")
    assert run.effects() == []


def test_cron_fires_once_a_minute_on_every_sdk_beside_an_event_trigger(world: World) -> None:
    apps = [world.app(sdk) for sdk in ALL]
    by_event = [app.trigger("cron-mix", {}) for app in apps]
    for app, run in zip(apps, by_event, strict=True):
        assert run.end()["output"] == {"event": app.event("cron-mix")}

    def fired(app: App) -> list[dict[str, object]]:
        return app.effects(fn="cron-mix", event="inngest/scheduled.timer")

    wait_until(
        lambda: all(fired(app) for app in apps), "a cron run on each SDK", timeout_s=75, interval_s=0.5
    )
    for app in apps:
        slots = [int(str(e["at_ms"])) // 60_000 for e in fired(app)]
        assert len(slots) == len(set(slots)), f"{app.id}: a slot fired twice: {fired(app)}"
        for effect in fired(app):
            data = effect["data"]
            assert isinstance(data, dict)
            assert data["cron"] == "* * * * *"
            assert int(str(effect["at_ms"])) % 60_000 < 10_000, "late, or early by almost a minute"
            assert app.api.run(str(effect["run_id"]))["status"] in ("Running", "Completed")
