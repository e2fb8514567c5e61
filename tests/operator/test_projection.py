"""The registration that is written for an app: what makes it worth a write, and what does not."""

from typing import Any

import msgspec
import pytest

from innkeeper_engine.model.functions import App, Concurrency, Throttle
from innkeeper_operator.projection import changed, keys_mark, with_checksum
from tests.operator.plan_kit import SDK_URL, House, declared


def registered(*functions: Any, **spec: Any) -> tuple[House, App]:
    house = House(**spec)
    house.settle(house.answered(*(functions or (declared("orders"),))))
    assert house.registry is not None
    return house, house.registry


def again(app: App) -> App:
    return with_checksum(app, keys_mark(app))


@pytest.mark.parametrize(
    "change",
    [
        {"url": "http://other/api/inngest"},
        {"sdk_version": "5"},
        {"app_version": "2"},
        {"capabilities": {"connect": "v1"}},
        {"paused": True},
        {"draining": True},
        {"orphaned": True},
        {"public_only": True},
        {"functions": ()},
    ],
)
def test_whatever_matters_is_in_the_checksum(change: dict[str, Any]) -> None:
    _, app = registered()
    assert again(app).checksum == app.checksum
    assert changed(again(msgspec.structs.replace(app, **change)), app)


@pytest.mark.parametrize(
    "change",
    [
        {"retries": 1},
        {"paused": True},
        {"new_runs": "Queue"},
        {"running": "Hold"},
        {"triggers": ()},
        {"concurrency": (Concurrency(limit=1),)},
        {"name": "other"},
        {"url": "http://shop.prod.svc:3000/api/inngest?fnId=other"},
        {"throttle": Throttle(limit=1, period_ms=1000)},
        {"not_enforced": ("concurrency.fn",)},
    ],
)
def test_so_is_whatever_matters_of_a_function(change: dict[str, Any]) -> None:
    _, app = registered()
    functions = (msgspec.structs.replace(app.functions[0], **change),)
    assert changed(again(msgspec.structs.replace(app, functions=functions)), app)


def test_what_a_sync_says_of_itself_is_not() -> None:
    _, app = registered("a", "b")
    other = msgspec.structs.replace(
        app, synced_at_ms=5, version=9, signing_keys=(b"other bytes",), functions=app.functions[::-1]
    )
    assert not changed(again(other), app)


def test_the_id_of_a_deployment_writes_nothing() -> None:
    house, _ = registered()
    function = declared("orders")
    url = f"{SDK_URL}?deployId=dpl_2&fnId=shop-orders&stepId=step"
    function["steps"]["step"]["runtime"]["url"] = url
    assert house.plan(house.answered(function)).write is None


def test_functions_are_in_one_order_whatever_the_sdk_sends() -> None:
    _, one = registered("b", "a")
    _, other = registered("a", "b")
    assert [each.slug for each in one.functions] == ["shop-a", "shop-b"]
    assert one.checksum == other.checksum


@pytest.mark.parametrize(
    ("option", "one", "other"),
    [
        ("concurrency", [{"limit": 1, "key": "event.data.a"}], [{"limit": 1, "key": "event.data.b"}]),
        ("throttle", {"limit": 1, "period": "1m"}, {"limit": 2, "period": "1m"}),
        ("rateLimit", {"limit": 1, "period": "1m"}, {"limit": 1, "period": "2m"}),
        ("debounce", {"period": "1m"}, {"period": "1m", "timeout": "1h"}),
        (
            "batchEvents",
            {"maxSize": 2, "timeout": "1s"},
            {"maxSize": 2, "timeout": "1s", "if": "event.data.a"},
        ),
        ("priority", {"run": "1"}, {"run": "event.data.p"}),
        ("singleton", {"mode": "skip"}, {"mode": "cancel"}),
        ("idempotency", "event.data.a", "event.data.b"),
        ("cancelOn", [{"event": "a"}], [{"event": "a", "timeout": "1h"}]),
        ("timeouts", {"start": "1m"}, {"finish": "1m"}),
        ("retries", 1, 2),
    ],
)
def test_an_option_is_written_when_its_value_changes(option: str, one: Any, other: Any) -> None:
    house, _ = registered()
    for value in (one, other, None):
        house.patch("shop-orders", **{option: value})
        assert house.plan().write is not None
        house.settle()
        assert house.plan().write is None


def test_an_option_that_says_the_same_in_other_words_is_not_written() -> None:
    house, _ = registered()
    house.patch("shop-orders", throttle={"limit": 1, "period": "60s"})
    house.settle()
    house.patch("shop-orders", throttle={"limit": 1, "period": "1min", "burst": 1})
    assert house.plan().write is None


def test_a_registration_of_another_kind_is_written_anew() -> None:
    house, app = registered()
    house.registry = msgspec.structs.replace(app, checksum="sha256:by-the-gateway")
    assert house.plan().write is not None
