"""What manifests of a folder make of what an app declares, on a laptop as in a cluster."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from innkeeper_cli.declared import app_of, complaints, plan_for
from innkeeper_cli.manifests import load
from innkeeper_engine.model.functions import (
    Batch,
    Cancel,
    Concurrency,
    Debounce,
    FunctionConfig,
    RateLimit,
    Singleton,
    Throttle,
    Timeouts,
    Trigger,
)
from innkeeper_operator.views import AppPlan
from tests.operator.plan_kit import NOW_MS, declared, registration

URL = "http://localhost:3000/api/inngest"


def plan(folder: Path, sdk: dict[str, Any], **spec: Any) -> AppPlan:
    """The plan for an app `shop` with one function `orders`, under an InngestApp and a Function of this spec."""
    api = {"apiVersion": "innkeeper.dev/v1alpha1"}
    app = {
        "kind": "InngestApp",
        "metadata": {"name": "shop"},
        "spec": {"endpoint": {"url": URL}, "appId": "shop"},
    }
    function = {
        "kind": "Function",
        "metadata": {"name": "mine"},
        "spec": {"appRef": {"name": "shop"}, "id": "orders"} | spec,
    }
    (folder / "all.yaml").write_text(yaml.safe_dump_all([api | app, api | function]))
    manifests = load(folder)
    said = registration(declared("orders", **sdk))
    found = app_of(manifests, said)
    assert found is not None
    url, known = found
    return plan_for(manifests, known, url, said, "dev", {}, NOW_MS)


def function_of(made: AppPlan) -> FunctionConfig:
    assert made.write is not None
    (config,) = made.write.functions
    return config


@pytest.mark.parametrize(
    ("spec", "attribute", "value"),
    [
        ({"triggers": [{"event": "a"}]}, "triggers", (Trigger(event="a"),)),
        ({"concurrency": [{"limit": 2, "key": "'ai'", "scope": "account"}]}, "concurrency",
         (Concurrency(limit=2, key="'ai'", scope="account"),)),
        ({"throttle": {"limit": 1, "period": "1min", "burst": 2, "key": "event.data.k"}}, "throttle",
         Throttle(limit=1, period_ms=60_000, burst=2, key="event.data.k")),
        ({"rateLimit": {"limit": 1, "period": "4h", "key": "event.data.k"}}, "rate_limit",
         RateLimit(limit=1, period_ms=14_400_000, key="event.data.k")),
        ({"debounce": {"period": "30s", "timeout": "10m", "key": "event.data.k"}}, "debounce",
         Debounce(period_ms=30_000, timeout_ms=600_000, key="event.data.k")),
        ({"batchEvents": {"maxSize": 9, "timeout": "5s", "key": "event.data.k", "if": "event.data.x"}}, "batch",
         Batch(max_size=9, timeout_ms=5_000, key="event.data.k", expression="event.data.x")),
        ({"priority": {"run": "event.data.p"}}, "priority", "event.data.p"),
        ({"singleton": {"mode": "skip", "key": "event.data.k"}}, "singleton",
         Singleton(mode="skip", key="event.data.k")),
        ({"idempotency": "event.data.k"}, "idempotency", "event.data.k"),
        ({"cancelOn": [{"event": "c", "timeout": "1h"}]}, "cancel", (Cancel(event="c", timeout_ms=3_600_000),)),
        ({"timeouts": {"start": "10s", "finish": "1h"}}, "timeouts", Timeouts(start_ms=10_000, finish_ms=3_600_000)),
        ({"retries": 2}, "retries", 2),
    ],
)  # fmt: skip
def test_every_option_of_a_manifest_reaches_the_function(
    tmp_path: Path, spec: dict[str, Any], attribute: str, value: object
) -> None:
    made = plan(tmp_path, {}, **spec)
    assert getattr(function_of(made), attribute) == value
    assert complaints(made) == []


def test_a_manifest_takes_an_option_of_the_code_away(tmp_path: Path) -> None:
    made = plan(tmp_path, {"debounce": {"period": "1m"}}, unset=["debounce"])
    assert function_of(made).debounce is None


@pytest.mark.parametrize(
    ("sdk", "spec", "says"),
    [
        (
            {},
            {"throttle": {"limit": 1, "period": "9d"}},
            "Function mine: InvalidDuration: spec.throttle.period: '9d'",
        ),
        ({}, {"priority": {"run": "1800"}}, "Function mine: Accepted: spec.priority.run: 1800 counts as 600"),
        (
            {"concurrency": {"fn": [{"limit": 1}]}},
            {},
            "Function mine: NotEnforced: accepted, but this server",
        ),
    ],
)
def test_what_is_wrong_or_odd_is_told(
    tmp_path: Path, sdk: dict[str, Any], spec: dict[str, Any], says: str
) -> None:
    (told,) = complaints(plan(tmp_path, sdk, **spec))
    assert told.startswith(says)
