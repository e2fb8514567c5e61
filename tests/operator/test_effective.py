"""How statuses show configuration: in one form, in the words of a spec, and never too large."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innkeeper_engine.durations import parse_duration_ms
from innkeeper_operator.effective import (
    MAX_SHOWN_BYTES,
    differences,
    duration_text,
    effective,
    listed,
    show_declared,
    shown,
)
from innkeeper_operator.overlay import Merged, merge
from innkeeper_operator.specs import FunctionSpec
from tests.crds.schemas import load_crds, schema_of, structural_errors
from tests.operator.plan_kit import declared


def merged(sdk: dict[str, Any], **fields: Any) -> Merged:
    spec = msgspec.convert({"appRef": {"name": "shop"}, "id": "orders"} | fields, FunctionSpec)
    found = merge(json.dumps(declared("orders", **sdk)).encode(), spec)
    assert isinstance(found, Merged), found
    return found


def test_everything_is_shown_as_a_spec_would_say_it() -> None:
    sdk = {
        "concurrency": {"limit": 5, "key": "event.data.a"},
        "rate_limit": {"limit": 2, "period": "90 seconds"},
        "throttle": {"limit": 3, "period": "1 min", "key": "event.data.t"},
        "debounce": {"period": "1d", "timeout": "1w", "key": ""},
        "cancel": [{"event": "c", "if": "event.data.id == async.data.id", "timeout": "1.5h"}],
        "timeouts": {"start": "10s", "finish": None},
        "priority": {"run": "120"},
        "singleton": {"key": "event.data.b", "mode": "skip"},
    }
    found = merged(sdk, triggers=[{"event": "a"}, {"cron": "0 * * * *", "jitter": "1m 30s"}], paused=True,
                   pausePolicy={"running": "Hold"})  # fmt: skip
    assert effective(found.config) == {
        "triggers": [{"event": "a"}, {"cron": "0 * * * *", "jitter": "1m30s", "catchUp": "Latest"}],
        "retries": 4,
        "paused": True,
        "pausePolicy": {"newRuns": "Skip", "running": "Hold"},
        "concurrency": [{"limit": 5, "key": "event.data.a", "scope": "fn"}],
        "cancelOn": [{"event": "c", "if": "event.data.id == async.data.id", "timeout": "1h30m"}],
        "throttle": {"limit": 3, "period": "1m", "burst": 1, "key": "event.data.t"},
        "rateLimit": {"limit": 2, "period": "1m30s"},
        "debounce": {"period": "24h", "timeout": "168h"},
        "timeouts": {"start": "10s"},
        "priority": {"run": "120"},
        "singleton": {"key": "event.data.b", "mode": "skip"},
    }


@pytest.mark.parametrize(
    "sdk",
    [
        {"batchEvents": {"maxSize": 10, "timeout": "5s", "if": "event.data.x", "key": "event.data.y"},
         "idempotency": "event.data.id", "concurrency": [{"limit": 1}, {"limit": 2, "key": "'q'", "scope": "env"}]},
        {"throttle": {"limit": 0, "period": "2.5d"}, "debounce": {"period": "1s", "timeout": "90s", "key": "event.id"},
         "priority": {"run": "event.data.p"}, "singleton": {"mode": "cancel"}, "timeouts": {"finish": "1w"},
         "rateLimit": {"limit": 2, "period": "1h", "key": "event.data.z"}, "cancel": [{"event": "c", "timeout": "1h"}]},
    ],
)  # fmt: skip
def test_what_is_shown_could_be_applied_as_a_spec(sdk: dict[str, Any]) -> None:
    found = merged(sdk, triggers=[{"cron": "0 * * * *", "catchUp": "All"}])
    spec = effective(found.config) | {"appRef": {"name": "shop"}, "id": "orders"}
    schema = schema_of(load_crds()["Function"])["properties"]["spec"]
    assert structural_errors(schema, spec) == []
    again = merge(json.dumps(declared("orders")).encode(), msgspec.convert(spec, FunctionSpec))
    assert isinstance(again, Merged)
    assert msgspec.structs.replace(again.config, declared=found.config.declared) == found.config


def test_idempotency_takes_the_place_of_a_rate_limit() -> None:
    found = merged({"idempotency": "event.data.id", "rateLimit": {"limit": 1, "period": "1m"}})
    shown_ = effective(found.config)
    assert shown_["idempotency"] == "event.data.id"
    assert "rateLimit" not in shown_


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0s"), (90_000, "1m30s"), (86_400_000, "24h"), (1_500, "1s500ms"), (9_000_000, "2h30m")],
)
def test_durations_have_one_form(ms: int, text: str) -> None:
    assert duration_text(ms) == text


@given(st.integers(0, 2**50))
def test_durations_mean_what_they_did(ms: int) -> None:
    assert parse_duration_ms(duration_text(ms)) == ms


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=40)
@given(st.dictionaries(st.text(), _JSON, max_size=5))
def test_anything_is_shown_as_an_api_server_gives_it_back(value: dict[str, Any]) -> None:
    found = show_declared(json.dumps(value).encode())
    text = json.dumps(found).encode()
    assert json.loads(text.decode()) == found
    text.decode().encode("utf-8")
    assert not _null_in_objects(found)
    assert len(msgspec.json.encode(found)) <= MAX_SHOWN_BYTES


def _null_in_objects(value: Any) -> bool:
    if isinstance(value, dict):
        return any(item is None or _null_in_objects(item) for item in value.values())
    return isinstance(value, list) and any(map(_null_in_objects, value))


def test_what_is_too_large_says_so_and_is_not_a_part_of_the_truth() -> None:
    assert shown({"a": "x" * 20_000}) == {"truncated": True, "bytes": 20_008}
    assert shown({"a": "x" * 16_000}) == {"a": "x" * 16_000}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff"])
def test_what_is_no_json_is_said_to_be_none(body: bytes) -> None:
    assert show_declared(body) == {"unreadable": True, "bytes": len(body)}


def test_differences_name_the_fields_of_the_spec() -> None:
    one = merged({}).config
    other = merged({}, triggers=[], retries=1, concurrency=[{"limit": 1, "key": "event.data.a"}], paused=True,
                   pausePolicy={"newRuns": "Queue"}, throttle={"limit": 1, "period": "1m"},
                   cancelOn=[{"event": "c"}]).config  # fmt: skip
    assert differences(one, one) == ()
    assert differences(one, other) == (
        "cancelOn",
        "concurrency",
        "pausePolicy",
        "paused",
        "retries",
        "throttle",
        "triggers",
    )


@pytest.mark.parametrize(
    ("option", "one", "other"),
    [
        ("concurrency", [{"limit": 1}], [{"limit": 2}]),
        ("throttle", {"limit": 1, "period": "1m"}, {"limit": 1, "period": "1m", "burst": 2}),
        ("rateLimit", {"limit": 1, "period": "1m"}, {"limit": 1, "period": "2m"}),
        ("debounce", {"period": "1m"}, {"period": "1m", "key": "event.data.a"}),
        ("batchEvents", {"maxSize": 2, "timeout": "1s"}, {"maxSize": 3, "timeout": "1s"}),
        ("priority", {"run": "1"}, {"run": "2"}),
        ("singleton", {"mode": "skip"}, {"mode": "cancel"}),
        ("idempotency", "event.data.a", "event.data.b"),
        ("cancelOn", [{"event": "a"}], [{"event": "b"}]),
        ("timeouts", {"start": "1m"}, {"start": "1m", "finish": "1h"}),
        ("retries", 1, 2),
    ],
)
def test_an_option_differs_by_its_value(option: str, one: Any, other: Any) -> None:
    first, second = merged({}, **{option: one}).config, merged({}, **{option: other}).config
    assert differences(first, second) == (option,)
    assert differences(first, first) == ()


def test_a_setting_says_the_same_however_it_is_written() -> None:
    one = merged({"throttle": {"limit": 0, "period": "60s"}}).config
    other = merged({"throttle": {"limit": 1, "period": "1min", "burst": 1, "key": ""}}).config
    assert differences(one, other) == ()


def test_what_an_older_version_did_nothing_about_is_no_difference() -> None:
    now = merged({"throttle": {"limit": 1, "period": "1m"}, "retries": 1}).config
    then = msgspec.structs.replace(now, throttle=None, retries=2, not_enforced=("throttle",))
    assert differences(then, now) == ("retries",)


def test_lists_in_sentences_end() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(map(str, range(12)), 3) == "0, 1, 2 and 9 more"
