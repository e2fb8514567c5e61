"""Specs that cannot be read: the error says where, what is wrong and what would be right."""

from typing import Any

import pytest

from innkeeper_operator.objects import Unreadable, read_app, read_function, read_webhook

REF = {"appRef": {"name": "shop"}, "id": "orders"}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"singleton": {"mode": "skp"}}, "spec.singleton.mode: 'skp' is none of cancel, skip"),
        ({"pausePolicy": {"newRuns": "q"}}, "spec.pausePolicy.newRuns: 'q' is none of Queue, Skip"),
        ({"concurrency": 5}, "spec.concurrency: is a whole number; write a list"),
        ({"concurrency": [{"limit": "5"}]}, "spec.concurrency[0].limit: is a text; write a whole number"),
        (
            {"concurrency": [{"limit": 5, "scope": "all"}]},
            "spec.concurrency[0].scope: 'all' is none of account, env, fn",
        ),
        ({"rateLimit": {"limit": 1}}, "spec.rateLimit.period: is missing"),
        ({"retries": "3"}, "spec.retries: is a text; write a whole number"),
    ],
)
def test_a_functions_spec(fields: dict[str, Any], says: str) -> None:
    read = read_function({"metadata": {"name": "x"}, "spec": REF | fields})
    assert isinstance(read, Unreadable)
    assert read.why == says


def test_what_may_be_unset_is_listed() -> None:
    read = read_function({"metadata": {"name": "x"}, "spec": REF | {"unset": ["foo"]}})
    assert isinstance(read, Unreadable)
    assert read.why.startswith("spec.unset[0]: 'foo' is none of batchEvents, cancelOn, concurrency")


def test_other_specs() -> None:
    app = read_app({"metadata": {"name": "x"}, "spec": {}})
    assert isinstance(app, Unreadable)
    assert app.why == "spec.endpoint: is missing"
    webhook = read_webhook({"metadata": {"name": "x"}, "spec": {"transform": 1}})
    assert isinstance(webhook, Unreadable)
    assert webhook.why == "spec.transform: is a whole number; write an object"
