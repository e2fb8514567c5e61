"""A spec on top of what an SDK declared: what wins, what is taken away, and what is said when it cannot be."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_apps.wire.register import parse_in_band
from innkeeper_engine.model.functions import (
    App,
    Batch,
    Cancel,
    Concurrency,
    Debounce,
    RateLimit,
    Singleton,
    Throttle,
    Timeouts,
    Trigger,
)
from innkeeper_operator.effective import differences
from innkeeper_operator.overlay import OPTIONS, Merged, SpecProblem, check_spec, merge
from innkeeper_operator.specs import FunctionSpec
from tests.operator.plan_kit import SDK_URL, declared, registration

ENDPOINT = "https://shop.example.com/serve"


def spec(**fields: Any) -> FunctionSpec:
    return msgspec.convert({"appRef": {"name": "shop"}, "id": "orders"} | fields, FunctionSpec)


def sent(**config: Any) -> bytes:
    return json.dumps(declared("orders", **config)).encode()


def merged(sdk: dict[str, Any] | None = None, **fields: Any) -> Merged:
    found = merge(sent(**(sdk or {})), spec(**fields), endpoint=ENDPOINT)
    assert isinstance(found, Merged), found
    return found


def problems(sdk: dict[str, Any] | None = None, **fields: Any) -> tuple[SpecProblem, ...]:
    found = merge(sent(**(sdk or {})), spec(**fields), endpoint=ENDPOINT)
    assert not isinstance(found, Merged), found
    return found


# ---- what wins


def test_without_a_spec_it_runs_as_in_code() -> None:
    found = merge(sent(retries=3, concurrency=5), None)
    assert isinstance(found, Merged)
    assert found.config.retries == 3
    assert found.config.concurrency == (Concurrency(limit=5),)
    assert found.config.url == f"{SDK_URL}?fnId=shop-orders&stepId=step"
    assert found.overridden == ()


def test_an_empty_spec_changes_nothing_but_where_it_is_called() -> None:
    bare = merge(sent(retries=3), None)
    assert isinstance(bare, Merged)
    found = merged({"retries": 3})
    assert found.config.url == f"{ENDPOINT}?fnId=shop-orders&stepId=step"
    assert msgspec.structs.replace(found.config, url="") == msgspec.structs.replace(
        bare.config, url="", declared=found.config.declared
    )


def test_what_the_sdk_declared_is_kept_without_the_spec() -> None:
    body = sent(retries=3)
    found = merge(body, spec(retries=1))
    assert isinstance(found, Merged)
    assert bytes(found.config.declared) == body


@pytest.mark.parametrize(
    ("fields", "attribute", "value"),
    [
        ({"triggers": [{"event": "a", "if": "event.data.x == 1"}]}, "triggers",
         (Trigger(event="a", expression="event.data.x == 1"),)),
        ({"triggers": [{"cron": "0 * * * *", "jitter": "30s", "catchUp": "All"}]}, "triggers",
         (Trigger(cron="0 * * * *", jitter_ms=30_000, catch_up="All"),)),
        ({"triggers": []}, "triggers", ()),
        ({"concurrency": [{"limit": 2}]}, "concurrency", (Concurrency(limit=2),)),
        ({"concurrency": [{"limit": 5, "scope": "account", "key": '"ai"'}, {"limit": 1, "key": "event.data.id"}]},
         "concurrency",
         (Concurrency(limit=5, scope="account", key='"ai"'), Concurrency(limit=1, key="event.data.id"))),
        ({"retries": 0}, "retries", 0),
        ({"cancelOn": [{"event": "c", "if": "async.data.id == event.data.id", "timeout": "1h"}]}, "cancel",
         (Cancel(event="c", expression="async.data.id == event.data.id", timeout_ms=3_600_000),)),
        ({"cancelOn": [{"event": "c", "match": "data.id"}]}, "cancel",
         (Cancel(event="c", expression="event.data.id == async.data.id"),)),
        ({"throttle": {"limit": 3, "period": "1min", "burst": 4, "key": "event.data.a"}}, "throttle",
         Throttle(limit=3, period_ms=60_000, burst=4, key="event.data.a")),
        ({"rateLimit": {"limit": 3, "period": "4h", "key": "event.data.a"}}, "rate_limit",
         RateLimit(limit=3, period_ms=14_400_000, key="event.data.a")),
        ({"debounce": {"period": "30s", "timeout": "10m", "key": "event.data.a"}}, "debounce",
         Debounce(period_ms=30_000, timeout_ms=600_000, key="event.data.a")),
        ({"batchEvents": {"maxSize": 2, "timeout": "5s", "if": "event.data.x", "key": "event.data.a"}}, "batch",
         Batch(max_size=2, timeout_ms=5_000, expression="event.data.x", key="event.data.a")),
        ({"priority": {"run": "event.data.p"}}, "priority", "event.data.p"),
        ({"singleton": {"mode": "cancel", "key": "event.data.a"}}, "singleton",
         Singleton(mode="cancel", key="event.data.a")),
        ({"idempotency": "event.data.a"}, "idempotency", "event.data.a"),
        ({"timeouts": {"start": "10min", "finish": "1d12h"}}, "timeouts",
         Timeouts(start_ms=600_000, finish_ms=129_600_000)),
        ({"paused": True}, "paused", True),
        ({"pausePolicy": {"newRuns": "Queue"}}, "new_runs", "Queue"),
        ({"pausePolicy": {"running": "Hold"}}, "running", "Hold"),
    ],
)  # fmt: skip
def test_a_field_of_the_spec_wins(fields: dict[str, Any], attribute: str, value: object) -> None:
    sdk = {"triggers": [{"event": "sdk"}], "concurrency": [{"limit": 9}], "retries": 9}
    assert getattr(merged(sdk, **fields).config, attribute) == value


def test_fields_are_never_merged_inside() -> None:
    found = merged(
        {"throttle": {"limit": 5, "period": "1m", "key": "event.data.a"}},
        throttle={"limit": 1, "period": "2m"},
    )
    assert found.config.throttle == Throttle(limit=1, period_ms=120_000)


_SDK: dict[str, Any] = {
    "concurrency": [{"limit": 9, "key": "event.data.sdk"}],
    "throttle": {"limit": 9, "period": "9m", "burst": 9, "key": "event.data.sdk"},
    "rateLimit": {"limit": 9, "period": "9m", "key": "event.data.sdk"},
    "debounce": {"period": "9m", "timeout": "9h", "key": "event.data.sdk"},
    "batchEvents": {"maxSize": 9, "timeout": "9m", "key": "event.data.sdk", "if": "event.data.sdk"},
    "priority": {"run": "event.data.sdk"},
    "singleton": {"mode": "skip", "key": "event.data.sdk"},
    "idempotency": "event.data.sdk",
    "cancel": [{"event": "sdk"}],
    "timeouts": {"start": "9m", "finish": "9h"},
}
_SPEC: dict[str, Any] = {
    "concurrency": [{"limit": 1}],
    "throttle": {"limit": 1, "period": "1m"},
    "rateLimit": {"limit": 1, "period": "1m"},
    "debounce": {"period": "1m"},
    "batchEvents": {"maxSize": 2, "timeout": "1m"},
    "priority": {"run": "1"},
    "singleton": {"mode": "cancel"},
    "idempotency": "event.data.spec",
    "cancelOn": [{"event": "spec"}],
    "timeouts": {"start": "1m"},
}


@pytest.mark.parametrize("option", _SPEC)
def test_of_a_field_that_wins_nothing_of_the_sdks_is_left(option: str) -> None:
    name = "cancel" if option == "cancelOn" else option
    found, alone = merged({name: _SDK[name]}, **{option: _SPEC[option]}), merged(**{option: _SPEC[option]})
    assert msgspec.structs.replace(found.config, declared=alone.config.declared) == alone.config
    assert found.overridden == (option,)


@pytest.mark.parametrize("option", _SPEC)
def test_every_option_can_be_unset(option: str) -> None:
    name = "cancel" if option == "cancelOn" else option
    found, plain = merged({name: _SDK[name]}, unset=[option]), merged()
    assert differences(merged({name: _SDK[name]}).config, plain.config) == (option,)
    assert msgspec.structs.replace(found.config, declared=plain.config.declared) == plain.config
    assert found.overridden == (option,)


def test_a_limit_in_any_form_and_spelling_is_replaced() -> None:
    for sdk in ({"concurrency": 7}, {"Concurrency": {"limit": 7}}, {"con_currency": [{"limit": 7}]}):
        assert merged(sdk, concurrency=[{"limit": 1}]).config.concurrency == (Concurrency(limit=1),)


def test_a_limit_of_whole_runs_goes_with_the_others() -> None:
    sdk = {"concurrency": {"fn": [{"limit": 1}], "step": [{"limit": 7}]}}
    assert merged(sdk).config.not_enforced == ("concurrency.fn",)
    assert merged(sdk, concurrency=[{"limit": 1}]).config.not_enforced == ()
    assert merged(sdk, unset=["concurrency"]).config.not_enforced == ()


def test_retries_stand_over_those_that_sdks_write_beside_the_url() -> None:
    steps = declared("orders")["steps"]
    steps["step"]["retries"] = {"attempts": 7}
    assert merged({"steps": steps}).config.retries == 7
    assert merged({"steps": steps}, retries=1).config.retries == 1


def test_unset_takes_a_setting_away_and_tells_only_of_what_was_there() -> None:
    found = merged(
        {"debounce": {"period": "30s"}, "cancel": [{"event": "c"}]},
        unset=["debounce", "cancelOn", "throttle"],
    )
    assert found.config.debounce is None
    assert found.config.cancel == ()
    assert found.overridden == ("cancelOn", "debounce")


def test_the_names_of_what_is_overridden_are_sorted() -> None:
    found = merged(retries=1, concurrency=[{"limit": 1}], triggers=[], paused=True)
    assert found.overridden == ("concurrency", "retries", "triggers")


@given(st.sets(st.sampled_from(sorted(set(OPTIONS) - {"triggers", "retries", "batchEvents", "rateLimit"}))))
def test_whatever_is_unset_is_as_if_it_was_never_declared(unset: set[str]) -> None:
    sdk: dict[str, Any] = {
        "concurrency": [{"limit": 5}],
        "throttle": {"limit": 1, "period": "1m"},
        "debounce": {"period": "1m"},
        "priority": {"run": "1"},
        "singleton": {"mode": "skip"},
        "idempotency": "event.data.id",
        "cancelOn": [{"event": "c"}],
        "timeouts": {"start": "1m"},
    }
    wire = {"cancel" if name == "cancelOn" else name: value for name, value in sdk.items()}
    left = {"cancel" if name == "cancelOn" else name: sdk[name] for name in sdk if name not in unset}
    found, never = merged(wire, unset=sorted(unset)), merged(left)
    assert msgspec.structs.replace(found.config, declared=never.config.declared) == never.config


# ---- what is wrong


@pytest.mark.parametrize(
    ("fields", "reason", "field", "says"),
    [
        ({"triggers": [{"event": "a"}, {"event": "b", "if": "event.data.x =="}]},
         "InvalidExpression", "spec.triggers[1].if", "line 1, column 16"),
        ({"triggers": [{"event": "a", "if": "event.data.x + 'y'"}]},
         "InvalidExpression", "spec.triggers[0].if", "neither true nor false"),
        ({"triggers": [{"cron": "* * *"}]}, "InvalidCron", "spec.triggers[0].cron", "has 3 fields"),
        ({"triggers": [{"cron": "TZ=Mars/X 0 0 * * *"}]}, "InvalidCron", "spec.triggers[0].cron", "time zone 'Mars/X'"),
        ({"triggers": [{"cron": "0 * * * *", "jitter": "6m"}]}, "InvalidDuration", "spec.triggers[0].jitter", "too long"),
        ({"triggers": [{"event": "a"}, {"event": "a"}]}, "InvalidValue", "spec.triggers[1]", "is there twice"),
        ({"concurrency": [{"limit": 1, "key": "event.data."}]},
         "InvalidExpression", "spec.concurrency[0].key", "no valid expression"),
        ({"concurrency": [{"limit": 1}, {"limit": 2, "key": "("}]},
         "InvalidExpression", "spec.concurrency[1].key", "no valid expression"),
        ({"concurrency": [{"limit": 1, "scope": "env"}]}, "InvalidValue", "spec.concurrency[0].key", "is missing"),
        ({"throttle": {"limit": 1, "period": "8d"}}, "InvalidDuration", "spec.throttle.period", "write 1s to 7d"),
        ({"rateLimit": {"limit": 1, "period": "1h", "key": "x.y"}},
         "InvalidExpression", "spec.rateLimit.key", "unknown name x"),
        ({"debounce": {"period": "soon"}}, "InvalidDuration", "spec.debounce.period", "no duration"),
        ({"batchEvents": {"maxSize": 1, "timeout": "5s"}}, "InvalidValue", "spec.batchEvents.maxSize", "too small"),
        ({"priority": {"run": "1 +"}}, "InvalidExpression", "spec.priority.run", "no valid expression"),
        ({"priority": {"run": "'high'"}}, "InvalidExpression", "spec.priority.run", "never gives a number"),
        ({"concurrency": [{"limit": 1, "scope": "account", "key": "openai"}]},
         "InvalidExpression", "spec.concurrency[0].key", 'it needs quotes: "openai"'),
        ({"idempotency": "event.data."}, "InvalidExpression", "spec.idempotency", "no valid expression"),
        ({"cancelOn": [{"event": "c", "if": "async.data.x ="}]}, "InvalidExpression", "spec.cancelOn[0].if", "column 14"),
        ({"cancelOn": [{"event": "c", "match": "data.("}]}, "InvalidExpression", "spec.cancelOn[0].match", "no valid"),
        ({"cancelOn": [{"event": "b"}, {"event": "c", "match": "data.id", "if": "async.data.id == 1"}]},
         "InvalidValue", "spec.cancelOn[1].match", "excludes if: take one of the two away"),
        ({"cancelOn": [{"event": "c", "timeout": "2y"}]}, "InvalidDuration", "spec.cancelOn[0].timeout", "unknown unit"),
        ({"timeouts": {"start": "0s"}}, "InvalidDuration", "spec.timeouts.start", "too short"),
        ({"retries": 21}, "InvalidValue", "spec.retries", "too large"),
        ({"throttle": {"limit": 1, "period": "1m"}, "unset": ["throttle"]},
         "InvalidValue", "spec.unset", "throttle is set as well"),
        ({"batchEvents": {"maxSize": 2, "timeout": "1s"}, "priority": {"run": "1"}},
         "InvalidValue", "spec.batchEvents", "excludes spec.priority"),
    ],
)  # fmt: skip
def test_a_problem_is_told_at_the_field_of_the_spec(
    fields: dict[str, Any], reason: str, field: str, says: str
) -> None:
    (found,) = problems(**fields)
    assert (found.reason, found.field) == (reason, field)
    assert found.message.startswith(field)
    assert says in found.message
    assert check_spec(spec(**fields)) == (found,)


@pytest.mark.parametrize(
    ("sdk", "fields", "mine", "theirs"),
    [
        ({"debounce": {"period": "1m"}}, {"batchEvents": {"maxSize": 2, "timeout": "1s"}}, "batchEvents", "debounce"),
        ({"cancel": [{"event": "c"}]}, {"batchEvents": {"maxSize": 2, "timeout": "1s"}}, "batchEvents", "cancelOn"),
        ({"batchEvents": {"maxSize": 2, "timeout": "1s"}}, {"singleton": {"mode": "skip"}}, "singleton", "batchEvents"),
        ({"idempotency": "event.data.id"}, {"rateLimit": {"limit": 1, "period": "1m"}}, "rateLimit", "idempotency"),
        ({"rateLimit": {"limit": 1, "period": "1m"}}, {"idempotency": "event.data.id"}, "idempotency", "rateLimit"),
    ],
)  # fmt: skip
def test_an_exclusion_of_spec_and_code_says_what_to_unset(
    sdk: dict[str, Any], fields: dict[str, Any], mine: str, theirs: str
) -> None:
    (found,) = problems(sdk, **fields)
    assert found == SpecProblem(
        "Conflict",
        f"spec.{mine}",
        f"spec.{mine} excludes {theirs}, which the app declares: add unset: [{theirs}]",
    )
    assert check_spec(spec(**fields)) == ()
    assert mine in merged(sdk, **fields, unset=[theirs]).overridden


def test_an_empty_list_from_an_sdk_excludes_nothing() -> None:
    assert merged({"cancel": []}, batchEvents={"maxSize": 2, "timeout": "1s"}).config.cancel == ()


def test_a_conflict_does_not_hide_what_else_is_wrong() -> None:
    found = problems({"debounce": {"period": "1m"}}, batchEvents={"maxSize": 2, "timeout": "1h"})
    assert [each.reason for each in found] == ["Conflict", "InvalidDuration"]


def test_what_is_wrong_in_code_is_not_blamed_on_the_spec() -> None:
    (found,) = problems({"throttle": {"limit": 1, "period": "9d"}}, retries=1)
    assert found.reason == "InvalidFunction"
    assert found.message.startswith("throttle.period, as the app declares it: ")


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"{}", b'{"id": 5}'])
def test_a_declaration_that_cannot_be_read_is_a_problem(body: bytes) -> None:
    found = merge(body, spec(retries=1))
    assert not isinstance(found, Merged)
    assert {each.reason for each in found} == {"InvalidFunction"}


def test_half_a_character_in_a_spec_is_a_problem() -> None:
    (found,) = problems(concurrency=[{"limit": 1, "key": "\ud800"}])
    assert found.field == "spec.concurrency[0].key"


def test_what_is_probably_not_meant_is_a_warning() -> None:
    found = merged(concurrency=[{"limit": 1, "key": "'event.data.id'"}])
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith("spec.concurrency[0].key: ")
    assert "text in quotes" in found.warnings[0]
    assert merged(priority={"run": "event.data.p ? 0 : 1800"}).warnings == (
        "spec.priority.run: 1800 counts as 600: -600 to 600 is the range",
    )


def test_a_registry_can_be_read_whatever_an_sdk_declares() -> None:
    function = declared("a", note="\ud800") | {"\udfff": 1}
    body = {"app_id": "shop", "url": SDK_URL, "functions": [function]}
    app = parse_in_band(json.dumps(body).encode()).as_app(0, 1)
    read = msgspec.json.decode(msgspec.json.encode(app), type=App)
    assert json.loads(bytes(read.functions[0].declared))["note"] == "\ufffd"


@given(st.integers(1, 100), st.sampled_from(["1min", "90 s", "1h30m"]))
def test_an_sdk_and_a_spec_that_say_the_same_run_alike(limit: int, period: str) -> None:
    fields: dict[str, Any] = {
        "triggers": [{"event": "a"}, {"cron": "0 12 * * 5", "jitter": "30s"}],
        "concurrency": [{"limit": limit, "key": "event.data.id"}],
        "throttle": {"limit": limit, "period": period},
        "rateLimit": {"limit": limit, "period": period, "key": "event.data.id"},
        "debounce": {"period": "1s", "timeout": period},
        "priority": {"run": str(limit)},
        "singleton": {"mode": "cancel"},
        "timeouts": {"start": period},
        "retries": limit % 20,
    }
    by_spec = merged(**fields, cancelOn=[{"event": "c", "timeout": period}]).config
    sdk = fields | {"cancel": [{"event": "c", "timeout": period}]}
    (by_sdk,) = registration(declared("orders", **sdk)).functions
    same = {"declared": by_sdk.declared, "url": by_sdk.url}
    assert msgspec.structs.replace(by_spec, **same) == by_sdk
