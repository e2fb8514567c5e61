"""Every option of a function is checked when it is registered, and a mistake is named with what would be right."""

import json
from typing import Any

import msgspec
import pytest

from innkeeper_apps.wire.fields import Problem
from innkeeper_apps.wire.register import Registration, RegistrationError, parse_registration
from innkeeper_engine.cel.nodes import Name
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

URL = "http://127.0.0.1:3000/api/inngest"
STEPS = {
    "step": {
        "id": "step",
        "name": "step",
        "runtime": {"type": "http", "url": f"{URL}?fnId=app-fn&stepId=step"},
    }
}
BATCH = {"maxSize": 10, "timeout": "5s"}


def registered(**config: Any) -> Registration:
    function = {"id": "app-fn", "name": "fn", "triggers": [{"event": "app/x"}], "steps": STEPS} | config
    content = {"appName": "app", "url": URL, "sdk": "js:v4.24.0", "functions": [function]}
    return parse_registration(json.dumps(content).encode())


def accepted(**config: Any) -> FunctionConfig:
    return registered(**config).functions[0]


def problems(**config: Any) -> list[Problem]:
    with pytest.raises(RegistrationError) as raised:
        registered(**config)
    return list(raised.value.problems)


def steps(**step: Any) -> dict[str, Any]:
    return {"step": STEPS["step"] | step}


@pytest.mark.parametrize(
    ("config", "field", "says"),
    [
        # triggers
        (
            {"triggers": [{"event": f"e{n}"} for n in range(11)]},
            "triggers",
            "has 11 triggers, 10 is the most",
        ),
        (
            {"triggers": [{}]},
            "triggers[0]",
            "a trigger needs either event or cron; `{ trigger: ... }` is not",
        ),
        ({"triggers": [{"trigger": "cart/done"}]}, "triggers[0]", "needs either event or cron"),
        ({"triggers": [{"event": "", "cron": ""}]}, "triggers[0]", "needs either event or cron"),
        ({"triggers": [{"event": "a", "cron": "* * * * *"}]}, "triggers[0]", "has both event and cron"),
        ({"triggers": [{"event": "a"}, {"event": "a"}]}, "triggers[1]", "is there twice"),
        (
            {"triggers": [{"cron": "0 * * * *"}, {"cron": "0 *  * * *", "jitter": "5s"}]},
            "triggers[1]",
            "twice",
        ),
        ({"triggers": [{"event": "x" * 256}]}, "triggers[0].event", "256 characters: 255 is the most"),
        ({"triggers": [{"event": " "}]}, "triggers[0].event", "the event name is empty"),
        ({"triggers": [{"event": 5}]}, "triggers[0].event", "is the number 5, a text is wanted"),
        ({"triggers": {"event": "a"}}, "triggers", "is an object, a list is wanted"),
        ({"triggers": ["a"]}, "triggers[0]", "is a text, an object is wanted"),
        ({"triggers": [{"cron": "* * *"}]}, "triggers[0].cron", "has 3 fields, a cron line has five"),
        ({"triggers": [{"cron": "0 0 30 2 *"}]}, "triggers[0].cron", "never fires"),
        (
            {"triggers": [{"cron": "TZ=Mars/X 0 0 * * *"}]},
            "triggers[0].cron",
            "there is no time zone 'Mars/X'",
        ),
        ({"triggers": [{"cron": "0 * * * *", "jitter": "6m"}]}, "triggers[0].jitter", "write 1s to 5m"),
        ({"triggers": [{"cron": "0 * * * *", "jitter": "1ms"}]}, "triggers[0].jitter", "write 1s to 5m"),
        (
            {"triggers": [{"event": "a", "expression": "event.data.x =="}]},
            "triggers[0].expression",
            "event.data.x == is no valid expression: line 1, column 16",
        ),
        (
            {"triggers": [{"event": "a", "expression": "async.data.x == 1"}]},
            "triggers[0].expression",
            "unknown name async",
        ),
        (
            {"triggers": [{"event": "a", "expression": "event.data.x + 'y'"}]},
            "triggers[0].expression",
            "gives neither true nor false: compare it with something",
        ),
        (
            {"triggers": [{"event": "a", "expression": "'event.data.x == 1'"}]},
            "triggers[0].expression",
            "it is a text in quotes; take the outer quotes away",
        ),
        # where and how to call
        ({"id": ""}, "functions[0].id", "is missing: write the app id"),
        ({"id": "a" * 256}, "functions[0].id", "256 characters"),
        ({"id": "a\tb"}, "functions[0].id", "control character"),
        ({"name": None}, "name", "is missing"),
        ({"steps": {}}, "steps", "must hold exactly one step"),
        ({"steps": None}, "steps", "must hold exactly one step"),
        ({"steps": STEPS | {"other": {}}}, "steps", "must hold exactly one step"),
        ({"steps": {"step": 1}}, "steps.step", "is the number 1, an object is wanted"),
        ({"steps": {"step": {}}}, "steps.step.runtime", "is missing"),
        ({"steps": steps(runtime={"type": "http"})}, "steps.step.runtime.url", "is missing"),
        (
            {"steps": steps(runtime={"url": "file:///etc/passwd"})},
            "steps.step.runtime.url",
            "is no URL of an app",
        ),
        ({"retries": 21}, "retries", "21 is too large: write 0 to 20"),
        ({"steps": steps(retries={"attempts": 21})}, "steps.step.retries.attempts", "21 is too large"),
        ({"steps": steps(retries={"attempts": -1})}, "steps.step.retries.attempts", "-1 is too small"),
        (
            {"steps": steps(retries={"attempts": "3"})},
            "steps.step.retries.attempts",
            "a whole number is wanted",
        ),
        ({"steps": steps(retries={"attempts": 1.5})}, "steps.step.retries.attempts", "is the number 1.5"),
        ({"retries": True}, "retries", "is true, a whole number is wanted"),
        # cancel
        ({"cancel": [{"event": f"e{n}"} for n in range(6)]}, "cancel", "has 6 entries, 5 is the most"),
        ({"cancel": [{}]}, "cancel[0].event", "is missing"),
        ({"cancel": [{"event": "x" * 256}]}, "cancel[0].event", "255 is the most"),
        ({"cancel": [{"event": "a", "if": "async.data.id == "}]}, "cancel[0].if", "is no valid expression"),
        ({"cancel": [{"event": "a", "if": "async.data.a - 1"}]}, "cancel[0].if", "neither true nor false"),
        (
            {"cancel": [{"event": "a", "match": "data.id"}]},
            "cancel[0].match",
            "event.data.id == async.data.id",
        ),
        ({"cancel": [{"event": "a", "timeout": "soon"}]}, "cancel[0].timeout", "no duration"),
        ({"cancel": [{"event": "a", "timeout": "367d"}]}, "cancel[0].timeout", "write 1ms to 366d"),
        # concurrency
        ({"concurrency": -1}, "concurrency", "-1 is too small"),
        ({"concurrency": "5"}, "concurrency", "is a text; write a number"),
        ({"concurrency": True}, "concurrency", "is true"),
        ({"concurrency": [{"limit": 1}] * 3}, "concurrency", "has 3 entries, 2 is the most"),
        ({"concurrency": [{"limit": 1}, "x"]}, "concurrency[1]", "is a text, an object is wanted"),
        ({"concurrency": {"limit": "1"}}, "concurrency.limit", "a whole number is wanted"),
        ({"concurrency": {"limit": 1, "scope": "env"}}, "concurrency.key", "a limit of scope env needs one"),
        ({"concurrency": {"limit": 1, "scope": "account", "key": ""}}, "concurrency.key", "needs one"),
        (
            {"concurrency": {"limit": 1, "scope": "app"}},
            "concurrency.scope",
            "write 'fn' or 'env' or 'account'",
        ),
        (
            {"concurrency": [{"limit": 60, "scope": "account", "key": "openai"}]},
            "concurrency.key",
            '"openai"',
        ),
        ({"concurrency": {"fn": [{"limit": 1}, {"limit": 2}]}}, "concurrency.fn", "1 is the most"),
        ({"concurrency": {"step": [{"limit": 1}] * 3}}, "concurrency.step", "2 is the most"),
        # rate limit, throttle
        ({"rateLimit": {"limit": 5}}, "rateLimit.period", "is missing"),
        ({"rateLimit": {"limit": 0, "period": "1h"}}, "rateLimit.limit", "write 1 or more"),
        ({"rateLimit": {"period": "1h"}}, "rateLimit.limit", "is missing"),
        ({"rateLimit": {"limit": 1, "period": "25h"}}, "rateLimit.period", "write 1s to 1d"),
        ({"rateLimit": 5}, "rateLimit", "is the number 5, an object is wanted"),
        ({"throttle": {"count": 5, "period": "1m"}}, "throttle.limit", "`count` is what old SDKs called it"),
        ({"throttle": {"limit": 1, "period": "8d"}}, "throttle.period", "write 1s to 7d"),
        ({"throttle": {"limit": 1, "period": "500ms"}}, "throttle.period", "is too short: write 1s to 7d"),
        ({"throttle": {"limit": 1, "period": 60}}, "throttle.period", 'a duration is a text such as "10s"'),
        ({"throttle": {"limit": 1, "period": "1m", "burst": -1}}, "throttle.burst", "-1 is too small"),
        (
            {"throttle": {"limit": 1, "period": "1m", "key": "event."}},
            "throttle.key",
            "is no valid expression",
        ),
        # debounce
        ({"debounce": {"key": "event.data.k"}}, "debounce.period", "is missing"),
        ({"debounce": {"period": ""}}, "debounce.period", "is missing"),
        ({"debounce": {"period": "8d"}}, "debounce.period", "write 1s to 7d"),
        ({"debounce": {"period": "1 parsec"}}, "debounce.period", "unknown unit 'parsec'"),
        ({"debounce": {"period": "1s", "timeout": "x"}}, "debounce.timeout", "no duration"),
        # batches
        (
            {"batchEvents": {"maxSize": 1, "timeout": "5s"}},
            "batchEvents.maxSize",
            "1 is too small: write 2 to 100",
        ),
        ({"batchEvents": {"maxSize": 101, "timeout": "5s"}}, "batchEvents.maxSize", "write 2 to 100"),
        ({"batchEvents": {"timeout": "5s"}}, "batchEvents.maxSize", "is missing"),
        ({"batchEvents": {"maxSize": 10}}, "batchEvents.timeout", "is missing"),
        ({"batchEvents": {"maxSize": 10, "timeout": "11m"}}, "batchEvents.timeout", "write 1s to 10m"),
        ({"batchEvents": BATCH | {"if": "event.data.n + 1"}}, "batchEvents.if", "neither true nor false"),
        ({"batchEvents": BATCH, "cancel": [{"event": "a"}]}, "batchEvents", "cannot be combined with cancel"),
        (
            {"batchEvents": BATCH, "debounce": {"period": "1s"}},
            "batchEvents",
            "cannot be combined with debounce",
        ),
        ({"batchEvents": BATCH, "singleton": {"mode": "skip"}}, "batchEvents", "combined with singleton"),
        ({"batchEvents": BATCH, "priority": {"run": "1"}}, "batchEvents", "combined with priority"),
        # the rest
        ({"priority": {"run": "event.data.p ?"}}, "priority.run", "is no valid expression"),
        (
            {"priority": {"run": "'event.data.p'"}},
            "priority.run",
            "it is a text in quotes; take the outer quotes",
        ),
        (
            {"priority": {"run": "event.data.n > 5"}},
            "priority.run",
            "never gives a number: write a whole number",
        ),
        ({"priority": {"run": "high"}}, "priority.run", 'if this is text, it needs quotes: "high"'),
        ({"priority": 120}, "priority", "is the number 120, an object is wanted"),
        ({"singleton": {"key": "event.data.k"}}, "singleton.mode", "is missing: write 'skip' or 'cancel'"),
        ({"singleton": {"mode": "stop"}}, "singleton.mode", "is 'stop'; write 'skip' or 'cancel'"),
        ({"idempotency": "cartId"}, "idempotency", "unknown name cartId"),
        ({"idempotency": 7}, "idempotency", "is the number 7, a text is wanted"),
        ({"timeouts": {"start": "18h30"}}, "timeouts.start", "30 has no unit"),
        ({"timeouts": {"finish": "0s"}}, "timeouts.finish", "is too short"),
    ],
)
def test_a_mistake_is_refused_at_its_field(config: dict[str, Any], field: str, says: str) -> None:
    found = problems(**config)
    assert [problem.field for problem in found] == [field]
    assert says in found[0].message
    assert found[0].function == ("app-fn" if not field.startswith("functions[") else None)


@pytest.mark.parametrize(
    ("declared", "config"),
    [
        (
            {"throttle": {"limit": 3, "period": "1min"}},
            {"throttle": Throttle(limit=3, period_ms=60_000, burst=1)},
        ),
        (
            {"throttle": {"limit": 1, "period": "5s", "burst": 2, "key": "event.data.user_id"}},
            {"throttle": Throttle(limit=1, period_ms=5_000, burst=2, key="event.data.user_id")},
        ),
        (
            {"throttle": {"limit": 0, "period": "7d", "burst": 0, "key": ""}},
            {"throttle": Throttle(limit=1, period_ms=604_800_000, burst=1)},
        ),
        (
            {"rateLimit": {"limit": 1, "period": "4 hours", "key": "event.data.company_id"}},
            {"rate_limit": RateLimit(limit=1, period_ms=14_400_000, key="event.data.company_id")},
        ),
        (
            {"rateLimit": {"limit": 10, "period": "24h", "key": 'event.data.u + "-" + event.data.s'}},
            {
                "rate_limit": RateLimit(
                    limit=10, period_ms=86_400_000, key='event.data.u + "-" + event.data.s'
                )
            },
        ),
        (
            {"debounce": {"period": "5 minutes", "timeout": "10m", "key": "event.data.account_id"}},
            {"debounce": Debounce(period_ms=300_000, timeout_ms=600_000, key="event.data.account_id")},
        ),
        (
            {"debounce": {"period": "7d", "timeout": "", "key": ""}},
            {"debounce": Debounce(period_ms=604_800_000)},
        ),
        (
            {"batchEvents": BATCH | {"key": "event.data.user_id", "if": 'event.data.kind == "free"'}},
            {
                "batch": Batch(
                    max_size=10,
                    timeout_ms=5_000,
                    key="event.data.user_id",
                    expression='event.data.kind == "free"',
                )
            },
        ),
        (
            {"batchEvents": {"maxSize": 100, "timeout": "10m"}},
            {"batch": Batch(max_size=100, timeout_ms=600_000)},
        ),
        (
            {"priority": {"run": "event.data.account_type == 'enterprise' ? 120 : 0"}},
            {"priority": "event.data.account_type == 'enterprise' ? 120 : 0"},
        ),
        ({"priority": {"run": "event.data.priority"}}, {"priority": "event.data.priority"}),
        ({"priority": {"run": "-600"}}, {"priority": "-600"}),
        ({"singleton": {"mode": "skip"}}, {"singleton": Singleton(mode="skip")}),
        (
            {"singleton": {"mode": "cancel", "key": "event.data.user_id"}},
            {"singleton": Singleton(mode="cancel", key="event.data.user_id")},
        ),
        (
            {"idempotency": 'event.data.promptHash + "-" + event.data.userId'},
            {"idempotency": 'event.data.promptHash + "-" + event.data.userId'},
        ),
        ({"timeouts": {"start": "10s"}}, {"timeouts": Timeouts(start_ms=10_000)}),
        (
            {"timeouts": {"start": "18h30m", "finish": "2.5d"}},
            {"timeouts": Timeouts(start_ms=66_600_000, finish_ms=216_000_000)},
        ),
    ],
)
def test_an_option_of_the_documentation_is_read(declared: dict[str, Any], config: dict[str, Any]) -> None:
    app = registered(**declared)
    (read,) = app.functions
    assert app.warnings == ()
    assert read == msgspec.structs.replace(registered().functions[0], declared=read.declared, **config)


def test_idempotency_takes_the_place_of_a_rate_limit() -> None:
    config = accepted(idempotency="event.data.id", rateLimit={"limit": 5, "period": "1m"})
    assert (config.idempotency, config.rate_limit) == ("event.data.id", None)


def test_a_rate_limit_beside_idempotency_is_checked_all_the_same() -> None:
    (found,) = problems(idempotency="event.data.id", rateLimit={"limit": 5})
    assert found.field == "rateLimit.period"


def test_a_limit_of_whole_runs_is_accepted_and_said_not_to_be_enforced() -> None:
    app = registered(concurrency={"fn": [{"limit": 3, "key": "event.data.k"}]})
    assert app.functions[0].not_enforced == ("concurrency.fn",)
    (warning,) = app.warnings
    assert (warning.function, warning.field) == ("app-fn", "concurrency.fn")
    assert "accepted but not enforced" in warning.message


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"retries": 10},
        {"triggers": [{"cron": "TZ=Europe/Paris 0 12 * * 5", "jitter": "30s"}]},
        {"triggers": [{"event": "a", "expression": "event.data.plan == 'free'"}]},
        {"cancel": [{"event": "a", "if": "async.data.id == event.data.id", "timeout": "2d12h"}]},
        {"concurrency": 10},
        {"concurrency": [{"limit": 10, "scope": "fn"}]},
        {"concurrency": {"step": [{"limit": 3}], "fn": []}},
        {"cancel": [], "concurrency": [], "timeouts": {}, "priority": {}},
        {"batchevents": None, "cancel": [{"event": "a"}]},
    ],
)
def test_what_needs_no_word_gives_no_warning(config: dict[str, Any]) -> None:
    app = registered(**config)
    assert app.functions[0].not_enforced == ()
    assert app.warnings == ()


@pytest.mark.parametrize(
    ("declared", "limits"),
    [
        (None, ()),
        ([], ()),
        (0, ()),
        (10, (Concurrency(limit=10),)),
        ({"limit": 5}, (Concurrency(limit=5),)),
        ({"limit": 0}, ()),
        ({"key": "event.data.k"}, ()),
        ([{"limit": 5, "key": "", "scope": "fn"}], (Concurrency(limit=5),)),
        ([5], (Concurrency(limit=5),)),
        (
            [{"limit": 5}, {"limit": 1, "key": "event.data.u"}],
            (Concurrency(limit=5), Concurrency(limit=1, key="event.data.u")),
        ),
        # A constant key is a queue of its own, and not the function's own cap.
        ({"limit": 5, "key": "'q'"}, (Concurrency(limit=5, key="'q'"),)),
        (
            {"limit": 5, "key": '"openai"', "scope": "account"},
            (Concurrency(limit=5, key='"openai"', scope="account"),),
        ),
        ({"step": [{"limit": 3}]}, (Concurrency(limit=3),)),
        ({"fn": [{"limit": 3}]}, ()),
        (
            {
                "FN": [{"limit": 3, "key": "event.data.k"}],
                "Step": [{"limit": 2, "key": "event.data.u", "scope": "env"}],
            },
            (Concurrency(limit=2, key="event.data.u", scope="env"),),
        ),
    ],
)
def test_every_form_of_concurrency_is_read(declared: Any, limits: tuple[Concurrency, ...]) -> None:
    assert accepted(concurrency=declared).concurrency == limits


@pytest.mark.parametrize(
    ("config", "retries"),
    [
        ({}, 4),
        ({"retries": 0}, 0),
        ({"retries": 20}, 20),
        ({"steps": steps(retries={"attempts": 0})}, 0),
        ({"steps": steps(retries={"attempts": 3}), "retries": 7}, 3),
        ({"steps": steps(retries={}), "retries": 7}, 7),
        ({"steps": steps(retries={"attempts": 2.0})}, 2),
    ],
)
def test_the_retries_of_the_step_count_before_those_of_the_function(
    config: dict[str, Any], retries: int
) -> None:
    assert accepted(**config).retries == retries


def test_triggers_of_both_kinds_are_read_in_order() -> None:
    declared = [
        {"event": "user.created"},
        {"event": "user.created", "expression": "event.data.n > 1"},
        {"event": "app/blog.post.*"},
        {"event": "*"},
        {"cron": "0 5 * * *", "jitter": ""},
        {"cron": "TZ=Europe/Paris 0 5 * * *", "jitter": "5m"},
    ]
    assert accepted(triggers=declared).triggers == (
        Trigger(event="user.created"),
        Trigger(event="user.created", expression="event.data.n > 1"),
        Trigger(event="app/blog.post.*"),
        Trigger(event="*"),
        Trigger(cron="0 5 * * *"),
        Trigger(cron="TZ=Europe/Paris 0 5 * * *", jitter_ms=300_000),
    )


def test_a_function_without_triggers_can_only_be_invoked() -> None:
    assert accepted(triggers=[]).triggers == ()
    assert accepted(triggers=None).triggers == ()


def test_cancellations_are_read_with_their_time_in_milliseconds() -> None:
    declared = [
        {"event": "app/user.deleted"},
        {
            "event": "app/*",
            "if": "async.data.userId == event.data.userId",
            "timeout": "2h",
            "match": "data.userId",
        },
    ]
    assert accepted(cancel=declared).cancel == (
        Cancel(event="app/user.deleted"),
        Cancel(event="app/*", expression="async.data.userId == event.data.userId", timeout_ms=7_200_000),
    )


@pytest.mark.parametrize(
    ("config", "field", "says"),
    [
        ({"triggers": [{"event": " app/user.login"}]}, "triggers[0].event", "begins or ends with a space"),
        ({"triggers": [{"event": "app/*.created"}]}, "triggers[0].event", "a * is a wildcard only"),
        ({"triggers": [{"event": "a", "jitter": "5s"}]}, "triggers[0].jitter", "no effect on an event"),
        ({"triggers": [{"cron": "0 0 * * *", "expression": "true"}]}, "triggers[0].expression", "on a cron"),
        ({"debounce": {"period": "1s", "key": "'event.data.id'"}}, "debounce.key", "is a text in quotes"),
        ({"concurrency": {"limit": 1, "key": "null"}}, "concurrency.key", "gives nothing for any event"),
        (
            {"idempotency": "event.data.userId + '-' + event.type"},
            "idempotency",
            "no event has a field event.type: there are id, name, data",
        ),
        ({"concurrency": {"limit": 1, "key": "event['foo'].x"}}, "concurrency.key", "event.foo"),
        (
            {"batchEvents": BATCH | {"key": '"event.data.id"'}},
            "batchEvents.key",
            "take the outer quotes away",
        ),
        (
            {"priority": {"run": "event.data.billingPlan == 'enterprise' ? 0 : 1800"}},
            "priority.run",
            "1800 counts as 600: -600 to 600 is the range",
        ),
        ({"debounce": {"period": "1m", "timeout": "5s"}}, "debounce.timeout", "is shorter than period"),
        ({"priority": {"run": "-601"}}, "priority.run", "-601 counts as -600"),
        (
            {"idempotency": "event.data.id", "rateLimit": {"limit": 1, "period": "1h"}},
            "rateLimit",
            "idempotency is a rate limit itself",
        ),
        ({"cancel": [{"event": "app/*"}]}, "cancel[0].event", "cancels nothing"),
    ],
)
def test_what_is_hardly_meant_is_accepted_with_a_warning(
    config: dict[str, Any], field: str, says: str
) -> None:
    warnings = registered(**config).warnings
    assert [(warning.function, warning.field) for warning in warnings] == [("app-fn", field)]
    assert says in warnings[0].message


def test_a_quoted_constant_is_an_ordinary_key() -> None:
    app = registered(concurrency={"limit": 5, "scope": "account", "key": "'openai'"})
    assert app.warnings == ()


def test_the_expression_checker_is_told_what_may_be_read() -> None:
    asked: list[tuple[str, frozenset[str]]] = []

    class Checked:
        node = Name("event")
        types = None
        references = frozenset({"event"})

        def yields_boolean(self) -> bool | None:
            return None

    def check(text: str, *, variables: frozenset[str]) -> Checked:
        asked.append((text, variables))
        return Checked()

    function = {
        "id": "app-fn",
        "name": "fn",
        "steps": STEPS,
        "triggers": [{"event": "a", "expression": "T"}],
        "cancel": [{"event": "b", "if": "C"}],
        "concurrency": {"limit": 1, "key": "K"},
        "priority": {"run": "P"},
    }
    content = {"appName": "app", "url": URL, "functions": [function]}
    parse_registration(json.dumps(content).encode(), check=check)
    event, both = frozenset({"event"}), frozenset({"event", "async"})
    assert sorted(asked) == [("C", both), ("K", event), ("P", event), ("T", event)]
