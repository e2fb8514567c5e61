"""What the schemas themselves refuse: forms, bounds, patterns, unknown fields; and what they fill in."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_engine.durations import parse_duration_ms
from tests.crds.cases import DURATIONS, NOT_DURATIONS, key, manifest
from tests.crds.rules import Json, load_crds, schema_of, structural_errors, validate, with_defaults
from tests.crds.schemas import fields

_PERIOD = {"limit": 1, "period": "1m"}

REFUSED: tuple[tuple[str, Json, str | re.Pattern[str]], ...] = (
    ("Function", {"concurency": [{"limit": 1}]}, 'unknown field "spec.concurency"'),
    ("Function", {"throttle": {**_PERIOD, "count": 1}}, 'unknown field "spec.throttle.count"'),
    ("Function", {"steps": []}, 'unknown field "spec.steps"'),
    ("InngestApp", {"endpoint": {"connect": {}}}, 'unknown field "spec.endpoint.connect"'),
    ("InngestApp", {"environment": "prod"}, 'unknown field "spec.environment"'),
    ("Function", {"appRef": {}}, "spec.appRef.name: Required value"),
    ("Function", {"throttle": {"limit": 1}}, "spec.throttle.period: Required value"),
    ("Function", {"batchEvents": {"timeout": "5s"}}, "spec.batchEvents.maxSize: Required value"),
    ("Function", {"singleton": {"key": "event.data.id"}}, "spec.singleton.mode: Required value"),
    ("InngestApp", {"signingKey": {}}, "spec.signingKey.secretRef: Required value"),
    ("Webhook", {"verify": {"hmac": key("a")}}, "spec.verify.hmac.header: Required value"),
    (
        "Function",
        {"pausePolicy": {"newRuns": "skip"}},
        'spec.pausePolicy.newRuns: Unsupported value: "skip": supported values: "Skip", "Queue"',
    ),
    (
        "Function",
        {"concurrency": [{"limit": 1, "scope": "app", "key": "a"}]},
        'spec.concurrency[0].scope: Unsupported value: "app": supported values: "fn", "env", "account"',
    ),
    (
        "InngestApp",
        {"deletionPolicy": "Delete"},
        'spec.deletionPolicy: Unsupported value: "Delete": supported values: "Drain", "Cancel", "Orphan"',
    ),
    ("Function", {"unset": ["triggers"]}, re.compile(r'spec\.unset\[0\]: Unsupported value: "triggers": .*')),
    ("Function", {"retries": 21}, re.compile(r"spec\.retries: .*greater than the maximum of 20.*")),
    ("Function", {"retries": -1}, re.compile(r"spec\.retries: .*less than the minimum of 0.*")),
    ("Function", {"retries": "4"}, re.compile(r"spec\.retries: .*not of type 'integer'.*")),
    ("Function", {"paused": "true"}, re.compile(r"spec\.paused: .*not of type 'boolean'.*")),
    (
        "Function",
        {"batchEvents": {"maxSize": 1, "timeout": "5s"}},
        re.compile(r"spec\.batchEvents\.maxSize: .*"),
    ),
    (
        "Function",
        {"batchEvents": {"maxSize": 101, "timeout": "5s"}},
        re.compile(r"spec\.batchEvents\.maxSize: .*"),
    ),
    ("Function", {"concurrency": []}, re.compile(r"spec\.concurrency: .*\(minItems\)")),
    (
        "Function",
        {"concurrency": [{"limit": n} for n in (1, 2, 3)]},
        re.compile(r"spec\.concurrency: .*\(maxItems\)"),
    ),
    ("Function", {"concurrency": 10}, re.compile(r"spec\.concurrency: .*not of type 'array'.*")),
    (
        "Function",
        {"concurrency": [{"limit": 0}]},
        re.compile(r"spec\.concurrency\[0\]\.limit: .*\(minimum\)"),
    ),
    (
        "Function",
        {"triggers": [{"event": f"e{n}"} for n in range(11)]},
        re.compile(r"spec\.triggers: .*\(maxItems\)"),
    ),
    (
        "Function",
        {"cancelOn": [{"event": f"e{n}"} for n in range(6)]},
        re.compile(r"spec\.cancelOn: .*\(maxItems\)"),
    ),
    ("Function", {"idempotency": "e" * 1025}, re.compile(r"spec\.idempotency: .*\(maxLength\)")),
    ("Function", {"id": ""}, re.compile(r"spec\.id: .*\(minLength\)")),
    (
        "InngestApp",
        {"endpoint": {"service": {"name": "../shop", "port": 1}}},
        re.compile(r'spec\.endpoint\.service\.name: Invalid value: "\.\./shop": .* should match .*'),
    ),
    (
        "InngestApp",
        {"endpoint": {"service": {"name": "shop", "port": 1, "path": "api/inngest?a=b"}}},
        re.compile(r'spec\.endpoint\.service\.path: Invalid value: "api/inngest\?a=b": .*'),
    ),
    (
        "InngestApp",
        {"endpoint": {"service": {"name": "shop", "port": True}}},
        re.compile(r"spec\.endpoint\.service\.port: .*"),
    ),
)


@pytest.mark.parametrize(
    ("kind", "spec", "wanted"), REFUSED, ids=[f"{kind}-{index}" for index, (kind, _, _) in enumerate(REFUSED)]
)
def test_the_schema_refuses(kind: str, spec: Json, wanted: str | re.Pattern[str]) -> None:
    (error,) = validate(manifest(kind, spec))
    assert wanted == error if isinstance(wanted, str) else wanted.fullmatch(error)


def test_a_kind_or_version_that_is_not_there_is_refused() -> None:
    app = manifest("InngestApp", {})
    assert validate({**app, "kind": "App"}) == [
        'no matches for kind "App" in version "innkeeper.dev/v1alpha1"'
    ]
    assert validate({**app, "apiVersion": "innkeeper.dev/v1"}) == [
        'no matches for kind "InngestApp" in version "innkeeper.dev/v1"'
    ]


def test_an_object_without_a_spec_is_refused() -> None:
    function = manifest("Function", {})
    del function["spec"]
    assert validate(function) == ["spec: Required value"]


def _with_duration(kind: str, path: str, text: str) -> Json:
    """An object that is valid but for the duration at a path."""
    around: dict[str, Any] = {
        "spec.triggers[].jitter": lambda: {"triggers": [{"cron": "* * * * *", "jitter": text}]},
        "spec.throttle.period": lambda: {"throttle": {"limit": 1, "period": text}},
        "spec.rateLimit.period": lambda: {"rateLimit": {"limit": 1, "period": text}},
        "spec.debounce.period": lambda: {"debounce": {"period": text}},
        "spec.debounce.timeout": lambda: {"debounce": {"period": "1s", "timeout": text}},
        "spec.batchEvents.timeout": lambda: {"batchEvents": {"maxSize": 2, "timeout": text}},
        "spec.cancelOn[].timeout": lambda: {"cancelOn": [{"event": "a", "timeout": text}]},
        "spec.timeouts.start": lambda: {"timeouts": {"start": text}},
        "spec.timeouts.finish": lambda: {"timeouts": {"finish": text}},
        "spec.sync.interval": lambda: {"sync": {"interval": text}},
        "spec.drainTimeout": lambda: {"drainTimeout": text},
        "spec.verify.tolerance": lambda: {"verify": {"slack": key("slack"), "tolerance": text}},
    }
    return manifest(kind, around[path]())


DURATION_FIELDS = [
    (kind, field.path)
    for kind, crd in load_crds().items()
    for field in fields(schema_of(crd))
    if field.schema.get("format") == "duration"
]


@pytest.mark.parametrize("text", DURATIONS)
def test_durations_as_people_write_them_are_accepted(text: str) -> None:
    assert validate(_with_duration("Function", "spec.timeouts.finish", text)) == []


@pytest.mark.parametrize(("kind", "path"), DURATION_FIELDS)
def test_every_duration_field_refuses_what_api_servers_misread(kind: str, path: str) -> None:
    place = path.replace("[]", "[0]")
    for text in NOT_DURATIONS:
        (error,) = validate(_with_duration(kind, path, text))
        assert error.startswith(f"{place}: Invalid value: "), text
        assert "should match" in error


@given(
    st.from_regex(
        next(
            field.schema["pattern"]
            for field in fields(schema_of(load_crds()["Function"]))
            if field.path == "spec.timeouts.finish"
        ),
        fullmatch=True,
    ).filter(lambda text: len(text) <= 32)
)
def test_the_engine_reads_every_duration_that_the_schemas_let_through(text: str) -> None:
    assert parse_duration_ms(text) >= 0


def test_defaults_are_there_where_no_sdk_speaks() -> None:
    schema = schema_of(load_crds()["InngestApp"])
    stored = with_defaults(
        schema, manifest("InngestApp", {"endpoint": {"service": {"name": "shop", "port": "http"}}})
    )
    assert stored["spec"] == {
        "endpoint": {"service": {"name": "shop", "port": "http", "path": "/api/inngest", "scheme": "http"}},
        "sync": {"onRollout": True, "interval": "1h"},
        "deletionPolicy": "Drain",
        "drainTimeout": "10m",
    }
    assert structural_errors(schema, stored) == []


def test_a_bare_function_stays_bare() -> None:
    function = manifest("Function", {})
    assert with_defaults(schema_of(load_crds()["Function"]), function) == function


def test_null_is_dropped_and_takes_nothing_away() -> None:
    schema = schema_of(load_crds()["Function"])
    spec = with_defaults(schema, manifest("Function", {"throttle": None, "triggers": []}))["spec"]
    assert spec == {"appRef": {"name": "shop"}, "id": "process-order", "triggers": []}


def test_an_invalid_declaration_can_be_shown_in_the_status() -> None:
    declared = {"id": "shop-a", "concurrency": {"limit": "ten", "deep": [{"a": None}]}}
    status = {"declared": declared, "effective": {"retries": "many"}}
    function = {**manifest("Function", {}), "status": status}
    assert validate(function) == []
    assert with_defaults(schema_of(load_crds()["Function"]), function)["status"] == status


def test_a_status_as_the_operator_writes_it_is_valid() -> None:
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": "InvalidFunction",
        "message": "",
        "lastTransitionTime": "2024-01-31T16:30:00Z",
        "observedGeneration": 3,
    }
    app = {
        "conditions": [condition],
        "observedGeneration": 3,
        "appId": "shop",
        "appVersion": "1.4.2",
        "sdk": {"language": "js", "version": "4.24.0", "framework": "express"},
        "functions": 12,
        "environment": "prod",
        "branch": "feature/x",
        "url": "http://shop.prod.svc:3000/api/inngest",
        "sync": {
            "time": "2024-01-31T16:30:00.123456+00:00",
            "configHash": "sha256:" + "0" * 64,
            "registry": "01HNGF4T5C0000000000000000",
            "revisions": [{"name": "8dfcc9c49", "ready": 4, "synced": True}],
            "addresses": ["192.0.2.7:3000", "[2001:db8::1]:3000"],
        },
    }
    function = {
        "slug": "shop-process-order",
        "source": "SDK",
        "overridden": ["concurrency"],
        "notEnforced": ["concurrency.fn"],
        "conditions": [condition],
        "observedGeneration": 1,
        "runs": {
            "queued": 3,
            "running": 2,
            "completed24h": 120,
            "failed24h": 1,
            "lastRunTime": "2024-01-31T16:30:00Z",
        },
    }
    webhook = {
        "url": "https://hooks.example.com/e/github",
        "urlSecretRef": {"name": "github-webhook-url", "key": "url"},
        "conditions": [condition],
        "lastReceivedTime": "2024-01-31T16:30:00Z",
        "observedGeneration": 1,
    }
    for kind, status in (("InngestApp", app), ("Function", function), ("Webhook", webhook)):
        assert validate({**manifest(kind, {}), "status": status}) == []


def test_a_status_with_a_time_that_is_none_is_refused() -> None:
    (error,) = validate({**manifest("Webhook", {}), "status": {"lastReceivedTime": "yesterday"}})
    assert error.startswith("status.lastReceivedTime: Invalid value: ")
