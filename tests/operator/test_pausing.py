"""What statuses and Events say of pauses: by whom, since when, and that a spec and a switch are two things."""

from typing import Any

import msgspec
import pytest

from innkeeper_engine.model.switches import Switch
from innkeeper_operator.asking import next_ask, told
from innkeeper_operator.conditions import time_text
from innkeeper_operator.views import Answered, Ask, Attempts, Later, SyncMemory
from tests.operator.plan_kit import NOW_MS, House, registration
from tests.operator.timeline import Timeline, pods

SWITCHED_MS = NOW_MS - 1_000


def switch(house: House, function_id: str = "", **fields: Any) -> None:
    """Somebody switches the app or a function of it off."""
    slug = f"shop-{function_id}" if function_id else ""
    made = Switch(app_id="shop", slug=slug, who="ann", since_ms=SWITCHED_MS, **fields)
    house.switches = house.switches | {made.name: made}


def settled(**spec: Any) -> House:
    house = House(**spec)
    house.settle(house.answered("orders"))
    house.events.clear()
    return house


def test_a_switch_is_told_once_and_written_nowhere_but_in_statuses() -> None:
    house = settled()
    registry = house.registry
    switch(house, "orders", reason="it spams", running="Hold")
    house.settle()
    assert house.by_id("orders")["status"]["paused"] == {
        "by": "switch",
        "who": "ann",
        "since": time_text(SWITCHED_MS),
        "reason": "it spams",
    }
    message = "paused over the API by ann (it spams): new runs are recorded as Skipped; runs that have begun are held"
    assert house.condition("Ready", "orders") == ("True", "Paused", message)
    assert house.told("FunctionPaused") == [f"orders: {message}"]
    house.switches = {}
    house.settle()
    assert "paused" not in house.by_id("orders")["status"]
    assert house.told("FunctionResumed") == ["the pause of orders over the API is lifted: it runs again"]
    assert house.registry is registry


def test_a_spec_says_since_when_and_by_whom_it_pauses() -> None:
    house = settled()
    house.person("orders", "mine", paused=True)
    house.settle()
    by_spec = {"by": "spec", "who": "argocd", "since": time_text(NOW_MS)}
    assert house.by_id("orders")["status"]["paused"] == by_spec
    house.now_ms += 60_000
    house.patch("mine", retries=2)
    switch(house, "orders")
    house.settle()
    both = house.by_id("orders")["status"]["paused"]
    assert (both["by"], both["who"], both["since"]) == ("both", "ann", time_text(SWITCHED_MS))
    house.switches = {}
    house.settle()
    assert house.by_id("orders")["status"]["paused"] == by_spec
    assert house.told("FunctionResumed") == ["the pause of orders over the API is lifted: its spec pauses it"]
    house.patch("mine", paused=False)
    house.settle()
    assert house.registered()["shop-orders"].paused_by == ""
    assert house.registered()["shop-orders"].paused_since_ms == 0


def test_a_paused_app_says_by_what() -> None:
    house = settled()
    switch(house, reason="a migration")
    house.settle()
    assert house.app["status"]["paused"]["by"] == "switch"
    assert house.condition("Ready")[1:] == (
        "Paused",
        "paused over the API by ann (a migration): nobody calls the app: what it has to do waits in the queue",
    )
    house.patch_app(paused=True)
    house.settle(house.answered("orders"))
    assert house.app["status"]["paused"]["by"] == "both"
    house.switches = {}
    house.settle()
    assert house.app["status"]["paused"] == {"by": "spec", "since": time_text(NOW_MS)}
    assert house.registry is not None
    assert house.registry.object_name == "shop"


def test_an_app_that_nothing_is_known_of_says_that_its_spec_pauses_it() -> None:
    house = House(paused=True)
    house.settle()
    assert house.app["status"]["paused"] == {"by": "spec"}


# ---- asking


def asked(app: Timeline, attempts: Attempts, *, after_s: float, paused: bool = False) -> tuple[Any, Attempts]:
    """What is decided so long after the timeline's end."""
    return next_ask(
        app.app,
        app.live,
        app.memory,
        attempts,
        registry=app.registry,
        keys=app.keys,
        now_ms=app.now_ms + round(after_s * 1000),
        paused=paused,
    )


def test_a_wish_asks_the_app_once_and_a_paused_one_when_it_goes_on() -> None:
    app = Timeline(pods(r1=1)).synced()
    wished = msgspec.structs.replace(app.attempts, demanded="1")
    later, seen = asked(app, wished, after_s=20, paused=True)
    assert later == Later(None)
    ask, seen = asked(app, seen, after_s=20)
    assert (ask.why, seen.met) == ("Requested", "1")
    answer = Answered(registration=registration("orders"), time_ms=app.now_ms)
    again, _ = asked(app, told(seen, ask, answer, app.now_ms), after_s=60)
    assert isinstance(again, Later)


@pytest.mark.parametrize(("wished", "expected"), [("", Later), ("2", Ask)])
def test_a_wish_does_not_wait_for_a_failing_app_to_be_tried_again(wished: str, expected: type) -> None:
    app = Timeline(pods(r1=1)).synced()
    app.memory = SyncMemory()
    failing = msgspec.structs.replace(app.attempts, failures=9, failed_ms=app.now_ms, demanded=wished)
    found, _ = asked(app, failing, after_s=30)
    assert isinstance(found, expected)
