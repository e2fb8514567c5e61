"""Expressions as people write them in triggers, waits, cancellations, keys and priorities."""

from typing import Any

import pytest

from innkeeper_engine.cel import ExpressionError, bind, compile_expression

ABSENT: dict[str, Any] = {}

USER_MATCH = "event.data.userId == async.data.userId"
PRO_MATCH = "event.data.userId == async.data.userId && async.data.billing_plan == 'pro'"
UUID = "4ef9a417-02e9-4d39-ad75-9611e0fcc33c"


def event(data: dict[str, Any] | None = None, **rest: Any) -> dict[str, Any]:
    return {"name": "shop/order.placed", "data": data or {}, "ts": 1700000000000.0, **rest}


ON_THE_EVENT = [
    ('event.data.account_type == "free"', event({"account_type": "free"}), True),
    ('event.data.account_type == "free"', event({"account_type": "pro"}), False),
    ('event.data.account_type == "free"', event(), False),
    ("event.data.plan == 'free'", event({"plan": "free"}), True),
    ("event.data.plan == 'free'", event({"plan": None}), False),
    ('event.data.action == "published"', event({"action": "published"}), True),
    ('event.data.action == "published"', event({"action": "draft"}), False),
    ("event.data.userId == 'user_o9235hf84hf'", event({"userId": "user_o9235hf84hf"}), True),
    ("event.data.userId == 'user_o9235hf84hf'", event({"userId": "user_1"}), False),
    ("event.data.billingPlan == 'enterprise'", event({"billingPlan": "enterprise"}), True),
    ("event.data.billingPlan == 'enterprise'", event({"billingPlan": "pro"}), False),
    ("event.data.amount > 1000", event({"amount": 1001}), True),
    ("event.data.amount > 1000", event({"amount": 1000}), False),
    ("event.data.amount > 1000", event({"amount": 1000.5}), True),
    ("event.data.amount > 1000", event({"amount": "1001"}), False),
    (
        "event.data.billingPlan == 'enterprise' && event.data.amount > 1000",
        event({"billingPlan": "enterprise", "amount": 1000.5}),
        True,
    ),
    (
        "event.data.billingPlan == 'enterprise' && event.data.amount > 1000",
        event({"billingPlan": "enterprise", "amount": 1000}),
        False,
    ),
    (
        "event.data.billingPlan != 'pro' || event.data.amount < 300",
        event({"billingPlan": "pro", "amount": 299}),
        True,
    ),
    (
        "event.data.billingPlan != 'pro' || event.data.amount < 300",
        event({"billingPlan": "pro", "amount": 300}),
        False,
    ),
    ("event.data.billingPlan != 'pro' || event.data.amount < 300", event({"billingPlan": "free"}), True),
    ('event.data.hello == "world"', event({"hello": "world"}), True),
    ('event.data.hello == "world"', event({"hello": "there"}), False),
    ('event.name != "billing"', event(), True),
    ('event.name != "billing"', event(name="billing"), False),
    (
        'event.id == "evt_abc123"\n&& event.data.user.id > 1000',
        event({"user": {"id": 1001}}, id="evt_abc123"),
        True,
    ),
    (
        'event.id == "evt_abc123"\n&& event.data.user.id > 1000',
        event({"user": {"id": 1000}}, id="evt_abc123"),
        False,
    ),
    ("event.data.function_id == 'my-app-fail'", event({"function_id": "my-app-fail"}), True),
    ("event.data.function_id == 'my-app-fail'", event({"function_id": "my-app-other"}), False),
    # Quoted once too often: legal, but a text and not a condition.
    ("'event.data.account_type == \"free\"'", event({"account_type": "free"}), False),
]


@pytest.mark.parametrize(("text", "data", "expected"), ON_THE_EVENT)
def test_condition_on_the_event(text: str, data: dict[str, Any], expected: bool) -> None:
    assert compile_expression(text).matches({"event": data}) is expected


TWO_EVENTS = [
    (USER_MATCH, {"userId": "u1"}, {"userId": "u1"}, True),
    (USER_MATCH, {"userId": "u1"}, {"userId": "u2"}, False),
    (USER_MATCH, {}, {"userId": "u1"}, False),
    (USER_MATCH, {"userId": "u1"}, {}, False),
    (USER_MATCH, {}, {}, False),
    (USER_MATCH, {"userId": None}, {"userId": None}, True),
    (USER_MATCH, {"userId": None}, {}, False),
    ("async.data.userId == event.data.userId", {"userId": "u1"}, {"userId": "u1"}, True),
    ("async.data.userId == event.data.userId", {}, {}, False),
    (PRO_MATCH, {"userId": "u1"}, {"userId": "u1", "billing_plan": "pro"}, True),
    (PRO_MATCH, {"userId": "u1"}, {"userId": "u1", "billing_plan": "basic"}, False),
    (PRO_MATCH, {"userId": "u1"}, {"userId": "u2", "billing_plan": "pro"}, False),
    (
        "async.data.reminderId == event.data.reminderId",
        {"reminderId": "reminder_0987654321"},
        {"reminderId": "reminder_0987654321"},
        True,
    ),
    ("event.data.id == async.data.id", {"id": "a"}, {"id": "a"}, True),
    ("event.data.id == async.data.id", {"id": "a"}, {"id": "b"}, False),
    ("event.data.height == async.data.height", {"height": 180}, {"height": 180}, True),
    ("event.data.height == async.data.height", {"height": 180}, {"height": 180.0}, True),
    ("event.data.height == async.data.height", {"height": 180}, {"height": "180"}, False),
    ("event.data.height == async.data.height", {"height": 1}, {"height": True}, False),
    (f'async.data.confirmationUUid == "{UUID}"', {}, {"confirmationUUid": UUID}, True),
    (f'async.data.confirmationUUid == "{UUID}"', {}, {"confirmationUUid": "other"}, False),
    (f'async.data.completionId == "{UUID}"', {}, {"completionId": UUID}, True),
    (f"async.data.email_id == '{UUID}'", {}, {"email_id": UUID}, True),
    (f"async.data.email_id == '{UUID}'", {}, {}, False),
    ("event.data.invoiceId == async.data.invoiceId", {"invoiceId": 7}, {"invoiceId": 7}, True),
    ("event.data.user.id == async.data.user.id", {"user": {"id": 7}}, {"user": {"id": 7}}, True),
    ("event.data.user.id == async.data.user.id", {"user": {"id": 7}}, {"user": 7}, False),
]


@pytest.mark.parametrize(("text", "first", "later", "expected"), TWO_EVENTS)
def test_condition_on_two_events(
    text: str, first: dict[str, Any], later: dict[str, Any], expected: bool
) -> None:
    expression = compile_expression(text)
    assert expression.matches({"event": event(first), "async": event(later)}) is expected
    assert bind(expression, event(first)).matches(event(later)) is expected


def test_a_search_over_runs_reads_output() -> None:
    expression = compile_expression(
        'output.name == "NonRetriableError" && output.message == "Failed to import data"',
        variables=frozenset({"event", "output"}),
    )
    error = {"name": "NonRetriableError", "message": "Failed to import data"}
    assert expression.matches({"output": error})
    assert not expression.matches({"output": error | {"name": "Error"}})
    assert not expression.matches({"output": None})


KEYS = [
    ("event.data.company_id", event({"company_id": "123456789"}), "123456789"),
    (
        'event.data.user_id + "-" + event.data.service_id',
        event({"user_id": "user_1", "service_id": "01HB9Q2E"}),
        "user_1-01HB9Q2E",
    ),
    ("event.data.user_id", event({"user_id": "u"}), "u"),
    ("event.data.account_id", event({"account_id": 17}), "17"),
    ("event.data.accountId", event({"accountId": 17.0}), "17"),
    ("event.data.customer_id", event({"customer_id": 17.5}), "17.5"),
    ("event.data.customerId", event({"customerId": True}), "true"),
    ("event.data.customerId", event({"customerId": None}), None),
    ("event.data.customerId", event(), None),
    (
        'event.data.user_id + "-" + event.data.import_id',
        event({"user_id": "u", "import_id": "i"}),
        "u-i",
    ),
    # A number and a text do not add.
    ('event.data.user_id + "-" + event.data.import_id', event({"user_id": "u", "import_id": 1}), None),
    (
        'event.data.user_id + "-" + string(event.data.import_id)',
        event({"user_id": "u", "import_id": 1}),
        "u-1",
    ),
    (
        'event.data.account_id + "-" + event.user.email',
        event({"account_id": "a"}, user={"email": "x@example.com"}),
        "a-x@example.com",
    ),
    (
        'event.data.promptHash + "-" + event.data.userId',
        event({"promptHash": "f00", "userId": "u"}),
        "f00-u",
    ),
    ("event.data.cartId", event({"cartId": "s6CIMNqIaxt503I1gVEICfwp"}), "s6CIMNqIaxt503I1gVEICfwp"),
    ("event.data.id", event({"id": "1234"}), "1234"),
    # Events have no `type`.
    ('event.data.userId + "-" + event.type', event({"userId": "user_1234"}), None),
    ('"global-task-queue"', event(), "global-task-queue"),
    ('"openai"', event(), "openai"),
    ("'openai'", event(), "openai"),
    ("'global-quoted-key'", event(), "global-quoted-key"),
    ("'event.data.customer_id'", event({"customer_id": "c"}), "event.data.customer_id"),
    (
        "'event.data.account_id + \"-\" + event.user.email'",
        event(),
        'event.data.account_id + "-" + event.user.email',
    ),
    ("event.data.tags", event({"tags": ["b", 1.0]}), '["b",1]'),
    ("event.data.who", event({"who": {"b": None, "a": 2}}), '{"a":2,"b":null}'),
]


@pytest.mark.parametrize(("text", "data", "expected"), KEYS)
def test_key(text: str, data: dict[str, Any], expected: str | None) -> None:
    assert compile_expression(text).key({"event": data}) == expected


PRIORITIES = [
    ("event.data.account_type == 'enterprise' ? 120 : 0", event({"account_type": "enterprise"}), 120),
    ("event.data.account_type == 'enterprise' ? 120 : 0", event({"account_type": "free"}), 0),
    ("event.data.account_type == 'enterprise' ? 120 : 0", event(), None),
    ("event.data.plan == 'enterprise' ? 180 : 0", event({"plan": "enterprise"}), 180),
    ("event.data.plan == 'enterprise' ? 180 : 0", event({"plan": "pro"}), 0),
    ("event.data.priority", event({"priority": 42}), 42),
    ("event.data.priority", event({"priority": -42.9}), -42),
    ("event.data.priority", event({"priority": "42"}), None),
    ("event.data.priority", event({"priority": True}), None),
    ("event.data.priority", event({"priority": 1e300}), None),
    ("event.data.priority", event(), None),
    ("event.data.billingPlan == 'enterprise' ? 0 : 1800", event({"billingPlan": "enterprise"}), 0),
    ("event.data.billingPlan == 'enterprise' ? 0 : 1800", event({"billingPlan": "pro"}), 1800),
    (
        "event.data.billingPlan == 'enterprise' && event.data.requestNumber < 10 ? 0 : 1800",
        event({"billingPlan": "enterprise", "requestNumber": 9}),
        0,
    ),
    (
        "event.data.billingPlan == 'enterprise' && event.data.requestNumber < 10 ? 0 : 1800",
        event({"billingPlan": "enterprise", "requestNumber": 10}),
        1800,
    ),
    (
        "event.data.billingPlan == 'enterprise' && event.data.requestNumber < 10 ? 0 : 1800",
        event({"billingPlan": "pro", "requestNumber": 1}),
        1800,
    ),
]


@pytest.mark.parametrize(("text", "data", "expected"), PRIORITIES)
def test_priority(text: str, data: dict[str, Any], expected: int | None) -> None:
    assert compile_expression(text).integer({"event": data}) == expected


@pytest.mark.parametrize(
    ("text", "column", "hint"),
    [
        (f"async.data.email_id == {UUID}", 24, f'"{UUID}"'),
        (
            "async.data.email_id == f47ac10b-58cc-4372-a567-0e02b2c3d479",
            33,
            '"f47ac10b-58cc-4372-a567-0e02b2c3d479"',
        ),
        ("user_1234 == async.data.userId", 1, '"user_1234"'),
        ("openai", 1, '"openai"'),
        ("event.data.email == jane@example.com", 25, '"jane@example.com"'),
    ],
)
def test_text_without_quotes_is_refused_with_the_quoted_form(text: str, column: int, hint: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text)
    assert (caught.value.line, caught.value.column) == (1, column)
    assert hint in caught.value.message


@pytest.mark.parametrize(
    ("text", "boolean"),
    [
        ("'event.data.account_type == \"free\"'", False),
        ('"openai"', False),
        ("event.data.plan == 'free'", True),
        ("event.data.enabled", None),
        ("event.data.enabled && true", True),
        ("!event.data.enabled", True),
        ("event.data.a + event.data.b", False),
        ("event.data.a * 2", False),
        ("-event.data.a", False),
        ("event.data.x ? 120 : 'none'", False),
        ("event.data.x ? true : 'none'", None),
        ("event.data.x ? true : event.data.y", None),
        ("event.data.x ? has(event.data.z) : 1 in [1]", True),
        ("size(event.data.l)", False),
        ("dyn(event.data.l)", None),
        ("event.data.l.exists(x, x == 1)", True),
        ("event.data.l.map(x, x == 1)", False),
        ("event.data.s.matches('a')", True),
        ("event.data['x']", None),
        ("[true]", False),
        ("{'a': true}", False),
        ("null", False),
    ],
)
def test_whether_a_condition_can_be_one_is_known_without_data(text: str, boolean: bool | None) -> None:
    assert compile_expression(text).yields_boolean() is boolean


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("'openai'", set()),
        ("1 + 2 == 3", set()),
        ("event.data.id", {"event"}),
        (PRO_MATCH, {"event", "async"}),
        ("async.data.l.exists(x, x == 1)", {"async"}),
        ("[1].exists(x, x == event.data.id)", {"event"}),
    ],
)
def test_references_tell_a_constant_from_an_expression(text: str, names: set[str]) -> None:
    expression = compile_expression(text)
    assert expression.references == names
    assert expression.is_constant is (not names)
