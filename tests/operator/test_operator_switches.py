"""Pauses and wishes over the API, as the operator hears of them: statuses say who and why, and apps are asked at once."""

import time
from typing import Any

from innkeeper_engine.model.switches import Switch
from innkeeper_engine.store.asks import Asks, Wish
from innkeeper_engine.switching import switch_off, switch_on
from tests.operator.house import PATIENCE_S, House, StartOperator, condition

Json = dict[str, Any]


def pause(house: House, env: str, slug: str = "", **fields: Any) -> None:
    """What the gateway does for `POST .../pause`."""
    switch = Switch(app_id="shop", slug=slug, who="ann", since_ms=1_795_000_000_000, **fields)
    house.store_run(lambda store: switch_on(store, env, switch, tell=True))


def resume(house: House, env: str, slug: str = "") -> None:
    """What the gateway does for `POST .../resume`."""
    house.store_run(lambda store: switch_off(store, env, "shop", slug, tell=True))


def wish(house: House, env: str, token: str, app_id: str = "shop") -> None:
    """What the gateway does for `POST .../sync`."""
    house.store_run(lambda store: Asks(store).leave(Wish("sync", env, app_id, token)))


def until_granted(house: House) -> None:
    """Wait until nothing is wished for any more."""
    deadline_s = time.monotonic() + PATIENCE_S
    while left := house.store_run(lambda store: Asks(store).left()):
        assert time.monotonic() < deadline_s, left
        time.sleep(0.02)


def paused(obj: Json) -> Any:
    """What the status of an object says of a pause."""
    return (obj.get("status") or {}).get("paused")


def set_up(house: House, *functions: str, **spec: Any) -> tuple[str, Any]:
    """A namespace with an app that is ready."""
    namespace = house.namespace()
    app = house.app(namespace, *functions)
    house.deploy(namespace, app)
    house.declare(namespace, **spec)
    house.until_ready(namespace)
    return namespace, app


def test_the_status_of_a_function_says_who_switched_it_off_and_the_spec_stays(
    house: House, start_settled: StartOperator
) -> None:
    operator = start_settled()
    namespace, _ = set_up(house, "charge", "refund")
    pause(house, namespace, "shop-charge", reason="it spams", new_runs="Queue")
    name = "shop-charge"
    shown = house.until("Function", namespace, name, paused)
    by_ann = {"by": "switch", "who": "ann", "since": "2026-11-18T11:06:40Z", "reason": "it spams"}
    assert paused(shown) == by_ann
    assert "paused" not in shown["spec"]
    assert (shown["status"]["effective"]["paused"], shown["status"]["effective"]["pausePolicy"]) == (
        True,
        {"newRuns": "Queue", "running": "Continue"},
    )
    ready = condition(shown, "Ready")
    assert (ready["status"], ready["reason"]) == ("True", "Paused")
    assert ready["message"].startswith("paused over the API by ann (it spams): new runs are kept")
    assert house.registered(namespace, "shop-charge").paused is False  # type: ignore[union-attr]
    house.declare_function(namespace, "mine", "charge", paused=True)
    both = house.until("Function", namespace, "mine", paused)
    assert paused(both) == by_ann | {"by": "both"}
    resume(house, namespace, "shop-charge")
    spec = house.until("Function", namespace, "mine", lambda obj: paused(obj).get("by") == "spec")
    assert paused(spec)["who"] == "kubectl"
    assert paused(spec)["since"] > by_ann["since"]
    house.declare_function(namespace, "mine", "charge", paused=False)
    house.until("Function", namespace, "mine", lambda obj: paused(obj) is None)
    until_granted(house)
    operator.idle()


def test_an_app_that_is_switched_off_is_not_asked_until_it_is_resumed(
    house: House, start_settled: StartOperator
) -> None:
    operator = start_settled()
    namespace, app = set_up(house, "charge")
    pause(house, namespace)
    shown = house.until("InngestApp", namespace, "shop", paused)
    assert paused(shown) == {"by": "switch", "who": "ann", "since": "2026-11-18T11:06:40Z"}
    ready = condition(shown, "Ready")
    assert (ready["reason"], "paused over the API by ann" in ready["message"]) == ("Paused", True)
    operator.idle()
    asked = app.asked
    house.cluster.apply(
        {
            "apiVersion": "innkeeper.dev/v1alpha1",
            "kind": "InngestApp",
            "metadata": {
                "name": "shop",
                "namespace": namespace,
                "annotations": {"innkeeper.dev/sync-requested-at": "now"},
            },
        },
        "somebody",
    )
    operator.skip(60_000)
    operator.idle()
    assert app.asked == asked
    resume(house, namespace)
    house.until("InngestApp", namespace, "shop", lambda obj: obj["status"]["sync"].get("requested") == "now")
    assert paused(house.cluster.get("InngestApp", namespace, "shop") or {}) is None


def test_a_pause_is_still_known_to_the_next_operator(house: House, start_settled: StartOperator) -> None:
    first = start_settled()
    namespace, app = set_up(house, "charge")
    first.stop()
    pause(house, namespace, "shop-charge")
    app.declare({**app.functions[0], "name": "Other"})
    second = start_settled()
    house.until("Function", namespace, "shop-charge", paused)
    wish(house, namespace, "1")
    second.skip(60_000)
    until_granted(house)
    second.idle()
    held = house.store_run(lambda store: store.switches(namespace))
    assert list(held) == ["f:shop-charge"]
    assert paused(house.cluster.get("Function", namespace, "shop-charge") or {})["who"] == "ann"


def test_an_app_is_asked_at_once_when_somebody_wants_that(house: House, start_settled: StartOperator) -> None:
    operator = start_settled()
    namespace, app = set_up(house, "charge")
    operator.idle()
    app.declare("charge", "fresh")
    asked = app.asked
    wish(house, namespace, "1")
    # Not sooner than ten seconds after the last time.
    operator.skip(10_000)
    house.until("InngestApp", namespace, "shop", lambda obj: obj["status"]["functions"] == 2)
    until_granted(house)
    operator.idle()
    assert app.asked == asked + 1


def test_a_wish_that_was_left_while_no_operator_ran_is_granted(
    house: House, start_settled: StartOperator
) -> None:
    first = start_settled()
    namespace, app = set_up(house, "charge")
    first.stop()
    app.declare("charge", "fresh")
    wish(house, namespace, "1")
    wish(house, namespace, "2", app_id="nobody")
    start_settled()
    house.until("InngestApp", namespace, "shop", lambda obj: obj["status"]["functions"] == 2)
    until_granted(house)


def test_a_wish_is_met_by_an_app_that_fails_and_asked_without_its_backoff(
    house: House, start_settled: StartOperator
) -> None:
    operator = start_settled()
    namespace, app = set_up(house, "charge")
    operator.idle()
    app.status = 500
    wish(house, namespace, "1")
    operator.skip(10_000)
    house.until_app(namespace, "shop", "Synced", "False", "InternalServerError")
    until_granted(house)
    app.status = None
    wish(house, namespace, "2")
    operator.skip(10_000)
    house.until_ready(namespace)
    until_granted(house)
