"""What an app says about itself: recorded registrations of three SDKs, their spellings, URLs and checksums."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_apps.wire.fields import Problem
from innkeeper_apps.wire.register import (
    Registration,
    RegistrationError,
    app_url,
    app_url_key,
    parse_in_band,
    parse_registration,
)
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

RECORDED: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "fixtures" / "registrations.json").read_text()
)

URL = "http://127.0.0.1:3000/api/inngest"


def function(name: str = "fn", **config: Any) -> dict[str, Any]:
    step = {
        "id": "step",
        "name": "step",
        "runtime": {"type": "http", "url": f"{URL}?fnId=app-{name}&stepId=step"},
    }
    plain = {
        "id": f"app-{name}",
        "name": name,
        "triggers": [{"event": f"app/{name}"}],
        "steps": {"step": step},
    }
    return plain | config


def body(*functions: Any, **fields: Any) -> dict[str, Any]:
    return {"appName": "app", "url": URL, "sdk": "js:v4.24.0", "functions": list(functions), **fields}


def register(content: Any) -> Registration:
    return parse_registration(json.dumps(content).encode())


def refused(content: Any) -> RegistrationError:
    with pytest.raises(RegistrationError) as raised:
        register(content)
    return raised.value


def recorded(name: str) -> Registration:
    raw = json.dumps(RECORDED[name]).encode()
    return parse_in_band(raw) if name.endswith("in-band") else parse_registration(raw)


@pytest.mark.parametrize(
    ("name", "app_id", "sdk"),
    [
        ("js3", "jsapp3", ("js", "3.54.2", "express", "4.5.6")),
        ("js4", "jsapp", ("js", "4.24.0", "express", "4.5.6")),
        ("py", "pyapp", ("py", "0.5.19", "fast_api", "1.2.3")),
        ("js4-signed-in-band", "jsprod", ("js", "4.24.0", "express", "4.5.6")),
        ("py-signed-in-band", "pyprod", ("py", "0.5.19", "fast_api", "1.2.3")),
    ],
)
def test_recorded_registrations_tell_app_and_sdk(name: str, app_id: str, sdk: tuple[str, ...]) -> None:
    app = recorded(name)
    assert app.app_id == app_id
    assert (app.sdk_language, app.sdk_version, app.framework, app.app_version) == sdk
    assert app.url == RECORDED[name]["url"]
    assert app.capabilities["trust_probe"] == "v1"
    assert [f.slug for f in app.functions] == [f["id"] for f in RECORDED[name]["functions"]]


@pytest.mark.parametrize("name", ["js3", "js4", "py"])
def test_a_function_with_every_option_is_read(name: str) -> None:
    app = recorded(name)
    prefix = {"js3": "js3", "js4": "js", "py": "py"}[name]
    slug = f"{app.app_id}-all-config"
    declared = next(f for f in RECORDED[name]["functions"] if f["id"] == slug)
    config = next(f for f in app.functions if f.slug == slug)
    assert config.name == "All Config"
    assert config.url == declared["steps"]["step"]["runtime"]["url"]
    assert config.retries == 3
    assert config.triggers[:2] == (
        Trigger(event=f"{prefix}/all", expression="event.data.x > 1"),
        Trigger(cron="TZ=Europe/Paris 0 12 * * 5"),
    )
    assert config.cancel[0] == Cancel(
        event=f"{prefix}/cancel", expression="event.data.id == async.data.id", timeout_ms=3_600_000
    )
    assert config.concurrency == (
        Concurrency(limit=5),
        Concurrency(limit=10, key="event.data.u", scope="account"),
    )
    assert config.throttle == Throttle(limit=5, period_ms=60_000, burst=2, key="event.data.k")
    assert config.debounce == Debounce(period_ms=10_000, timeout_ms=60_000, key="event.data.k")
    assert config.priority == "event.data.p"
    assert config.singleton == Singleton(mode="skip" if name == "py" else "cancel", key="event.data.k")
    assert config.idempotency == "event.data.id"
    assert config.timeouts == Timeouts(start_ms=30_000, finish_ms=300_000)
    others = {function.slug.removeprefix(f"{app.app_id}-"): function for function in app.functions}
    assert others["rl"].rate_limit == RateLimit(limit=1, period_ms=3_600_000, key="event.data.k")
    assert others["batcher"].batch == Batch(max_size=3, timeout_ms=3_000)
    assert json.loads(bytes(config.declared)) == declared
    assert app.warnings == ()


def test_the_jitter_of_a_cron_is_read() -> None:
    config = next(f for f in recorded("js4").functions if f.slug == "jsapp-all-config")
    assert config.triggers[2] == Trigger(cron="0 * * * *", jitter_ms=10_000)


@pytest.mark.parametrize(("name", "retries"), [("js3", 1), ("js4", 1), ("py", 0)])
def test_a_failure_handler_is_an_ordinary_function(name: str, retries: int) -> None:
    app = recorded(name)
    handler = next(f for f in app.functions if f.slug.endswith("-failure"))
    assert handler.triggers == (
        Trigger(
            event="inngest/function.failed",
            expression=f"event.data.function_id == '{app.app_id}-finalfail'",
        ),
    )
    assert handler.retries == retries


@pytest.mark.parametrize("sdk", ["js4", "py"])
def test_both_forms_of_a_sync_have_one_checksum(sdk: str) -> None:
    assert recorded(f"{sdk}-signed").checksum == recorded(f"{sdk}-signed-in-band").checksum


def test_a_deployment_id_is_no_change() -> None:
    plain, deployed = recorded("js4-signed"), recorded("js4-signed-deployed")
    assert "deployId" in RECORDED["js4-signed-deployed"]["url"]
    assert deployed.url == plain.url
    assert deployed.checksum == plain.checksum
    # The URL of a function is called as the SDK gave it.
    assert "deployId=abc123" in deployed.functions[0].url


def test_the_checksum_ignores_telemetry_order_nulls_and_the_name_of_this_machine() -> None:
    one, two = function("one"), function("two", retries=None)
    first = register(body(one, two, featureObservations={"sendEvents": {"a": 1}}))
    text = json.dumps(body(function("two"), one, featureObservations=None))
    for host in ("localhost", "0.0.0.0", "127.0.0.1"):
        again = parse_registration(text.replace("127.0.0.1", host).encode())
        assert again.checksum == first.checksum


@pytest.mark.parametrize(
    "changed",
    [
        body(function(retries=3)),
        body(function(name="other")),
        body(function(), function("two")),
        body(function(triggers=[])),
        body(function(concurrency={"limit": 1})),
        body(function(throttle={"limit": 1, "period": "1s"})),
        body(function(rateLimit={"limit": 1, "period": "1s"})),
        body(function(debounce={"period": "1s"})),
        body(function(batchEvents={"maxSize": 2, "timeout": "1s"})),
        body(function(priority={"run": "event.data.p"})),
        body(function(singleton={"mode": "skip"})),
        body(function(idempotency="event.data.id")),
        body(function(timeouts={"start": "1s"})),
        body(function(cancel=[{"event": "app/stop"}])),
        body(function(), url="http://127.0.0.1:3001/api/inngest"),
        body(function(), url="http://10.0.0.1:3000/api/inngest"),
        body(function(), appVersion="2"),
        body(function(), sdk="js:v4.25.0"),
        body(function(), appName="app2"),
        body(function(), capabilities={"connect": "v1"}),
    ],
)
def test_what_was_declared_changes_the_checksum(changed: dict[str, Any]) -> None:
    assert register(changed).checksum != register(body(function())).checksum


def test_so_does_what_a_reader_makes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that was taught an option takes it up when an app registers as it did before."""
    limited = body(function(throttle={"limit": 1, "period": "1s"}))
    known = register(limited)
    monkeypatch.setattr("innkeeper_apps.wire.function_config.read_throttle", lambda *_: None)
    unknown = register(limited)
    assert unknown.functions[0].declared == known.functions[0].declared
    assert unknown.checksum != known.checksum


def test_keys_are_read_in_any_case_and_spelling_and_unknown_ones_ignored() -> None:
    content = {
        "APPNAME": "app",
        "Deploy_Type": "ping",
        "url": URL,
        "SDK": "py:v0.5.19",
        "appversion": "7",
        "whatever": {"x": [1]},
        "Functions": [{**function(), "Batchevents": {"MAXSIZE": 5, "Timeout": "5s"}, "new": True}],
    }
    app = register(content)
    assert (app.app_id, app.deploy_type, app.app_version, app.sdk_language) == ("app", "ping", "7", "py")
    assert app.functions[0].batch == Batch(max_size=5, timeout_ms=5_000)


def test_null_is_the_same_as_absent() -> None:
    nothing = dict.fromkeys(
        [
            "retries",
            "cancel",
            "concurrency",
            "throttle",
            "rateLimit",
            "debounce",
            "batchEvents",
            "priority",
            "singleton",
            "idempotency",
            "timeouts",
        ]
    )
    triggers = [{"event": "app/fn", "expression": None, "cron": None, "jitter": None}]
    app = register(body(function(**nothing, triggers=triggers), framework=None, env=None, capabilities=None))
    assert app.checksum == register(body(function())).checksum
    assert app.functions[0].not_enforced == ()
    assert app.warnings == ()


def test_an_app_without_functions_is_accepted() -> None:
    assert register(body()).functions == ()
    assert register({"appName": "app", "url": URL, "functions": None}).functions == ()


def test_ids_may_hold_slashes_spaces_and_capitals() -> None:
    url = f"{URL}?fnId=My%20App-stripe%2Fcharge.updated&stepId=step"
    steps = {"step": {"runtime": {"type": "http", "url": url}}}
    app = register(body(function(id="My App-stripe/charge.updated", steps=steps), appName="My App"))
    assert app.app_id == "My App"
    assert app.functions[0].slug == "My App-stripe/charge.updated"
    assert app.functions[0].url == url


def test_a_registration_becomes_the_engines_app_and_can_be_stored() -> None:
    app = recorded("js4").as_app(synced_at_ms=5, version=3)
    assert (app.id, app.synced_at_ms, app.version, len(app.functions)) == ("jsapp", 5, 3, 7)
    assert msgspec.json.decode(msgspec.json.encode(app), type=App) == app


@pytest.mark.parametrize(
    ("given", "endpoint", "key"),
    [
        (URL, URL, "http://localhost:3000/api/inngest"),
        ("http://0.0.0.0:3000/x", "http://0.0.0.0:3000/x", "http://localhost:3000/x"),
        ("http://[::1]:3000/x", "http://[::1]:3000/x", "http://localhost:3000/x"),
        ("https://Shop.example:443/x#top", "https://Shop.example/x", "https://shop.example/x"),
        ("http://shop:80", "http://shop", "http://shop"),
        ("http://shop:443/x", "http://shop:443/x", "http://shop:443/x"),
        (f"{URL}?fnId=app-fn&stepId=step", URL, "http://localhost:3000/api/inngest"),
        ("http://a/x?k=1&fnId=f&b=%20&deployId=d", "http://a/x?k=1&b=%20", "http://a/x?k=1&b=%20"),
    ],
)
def test_the_endpoint_of_an_app_is_its_url_without_what_belongs_to_a_call(
    given: str, endpoint: str, key: str
) -> None:
    assert app_url(given) == endpoint
    assert app_url_key(given) == key
    assert register(body(url=given)).url == endpoint


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "Invalid request: body: "),
        (b"{", "Invalid request: body: "),
        (b"[]", "body: it is a list, an object is wanted"),
        (b"null", "body: it is null, an object is wanted"),
        (b"\xff\xfe", "Invalid request: body: "),
        (b'{"appName":' + b"[" * 100_000, "Invalid request: body: "),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(raw: bytes, says: str) -> None:
    with pytest.raises(RegistrationError) as raised:
        parse_registration(raw)
    assert says in str(raised.value)
    assert [problem.field for problem in raised.value.problems] == ["body"]


@pytest.mark.parametrize("depth", [100, 390, 2_000, 5_000])
def test_deep_nesting_is_read_or_refused(depth: int) -> None:
    deep = "[" * depth + "]" * depth
    raw = json.dumps(body(function(extra="@"))).replace('"@"', deep).encode()
    if depth > 390:
        with pytest.raises(RegistrationError) as raised:
            parse_registration(raw)
        assert [problem.field for problem in raised.value.problems] == ["body"]
    else:
        assert parse_registration(raw).functions[0].slug == "app-fn"


@pytest.mark.parametrize("app_name", ["", "  ", None, 5, "a" * 256, "a\nb", "\ud800"])
def test_an_app_needs_an_id(app_name: Any) -> None:
    error = refused(body(function(), appName=app_name))
    assert error.summary == "App ID required"
    assert [problem.field for problem in error.problems] == ["appName"]


def test_an_in_band_answer_names_the_app_differently() -> None:
    content = {**body(function()), "env": "feature/x"}
    with pytest.raises(RegistrationError, match="App ID required: app_id: is missing"):
        parse_in_band(json.dumps(content).encode())
    content["app_id"] = content.pop("appName")
    assert parse_in_band(json.dumps(content).encode()).env == "feature/x"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (None, "is missing"),
        ("", "is missing"),
        (5, "is the number 5, a text is wanted"),
        ("shop/api", "is no URL of an app"),
        ("ftp://shop/api", "is no URL of an app"),
        ("http:///api", "is no URL of an app"),
        ("http://shop:99999/api", "is no URL"),
        ("http://[::1/api", "is no URL"),
        ("http://shop/my api", "holds a space"),
        ("http://shop/a\nb", "holds a space or a control character"),
    ],
)
def test_an_app_needs_a_url_that_can_be_called(url: Any, says: str) -> None:
    error = refused(body(url=url))
    assert error.summary == "Invalid request"
    assert says in error.problems[0].message
    assert error.problems[0].field == "url"


def test_functions_must_be_a_list_of_objects() -> None:
    assert "is an object, a list is wanted" in str(refused(body() | {"functions": {}}))
    assert "functions[1]: is a text, an object is wanted" in str(refused(body(function(), "fn")))


def test_two_functions_cannot_have_one_id() -> None:
    error = refused(body(function(), function(), function("other")))
    assert error.problems == (
        Problem("app-fn", "id", "is the id of two functions: give each function an id of its own"),
    )


def test_all_problems_of_all_functions_are_told_at_once() -> None:
    error = refused(
        body(
            function("one", retries=21, triggers=[{"cron": "* * *"}, {}]),
            function("two", debounce={"period": "10"}, idempotency="event.data."),
            function("three"),
        )
    )
    assert error.summary == "At least one function is invalid"
    assert [(problem.function, problem.field) for problem in error.problems] == [
        ("app-one", "retries"),
        ("app-one", "triggers[0].cron"),
        ("app-one", "triggers[1]"),
        ("app-two", "debounce.period"),
        ("app-two", "idempotency"),
    ]
    assert "app-one: retries: 21 is too large: write 0 to 20" in str(error)


def test_a_very_long_list_of_problems_is_cut_in_the_message_only() -> None:
    error = refused(body(*(function(f"n{n}", retries=99) for n in range(30))))
    assert len(error.problems) == 30
    assert str(error).endswith("; and 10 more")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
OPTIONS = [
    "id",
    "name",
    "triggers",
    "steps",
    "retries",
    "concurrency",
    "throttle",
    "rateLimit",
    "debounce",
    "batchEvents",
    "priority",
    "singleton",
    "idempotency",
    "timeouts",
    "cancel",
]
INNER = [
    "event",
    "cron",
    "expression",
    "jitter",
    "if",
    "match",
    "timeout",
    "limit",
    "period",
    "burst",
    "key",
    "scope",
    "fn",
    "step",
    "maxSize",
    "run",
    "mode",
    "start",
    "finish",
    "runtime",
    "url",
    "attempts",
]


@given(
    st.dictionaries(
        st.sampled_from(OPTIONS), JSON | st.dictionaries(st.sampled_from(INNER), JSON, max_size=4)
    )
)
def test_whatever_a_function_declares_is_configuration_or_a_list_of_problems(config: dict[str, Any]) -> None:
    try:
        app = register(body(function() | config))
    except RegistrationError as error:
        found = error.problems
    else:
        found = app.warnings
        msgspec.json.encode(app.as_app(0, 1))
    assert all(problem.field and problem.message for problem in found)


@given(JSON)
def test_any_json_is_a_registration_or_refused(content: Any) -> None:
    with pytest.raises(RegistrationError):
        register(content)
