"""What becomes of one request to a webhook's URL."""

import hashlib
import hmac
import ipaddress
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from innkeeper_apps.sandbox.pool import Sandbox
from innkeeper_engine.model.webhooks import DeadLetter, Proof, Webhook
from innkeeper_gateway.ingest import Seed
from innkeeper_gateway.settings import Limits
from innkeeper_gateway.webhooks.handling import (
    Busy,
    Challenged,
    Failed,
    Outcome,
    Refused,
    Taken,
    WebhookRequest,
    handle,
    replay,
)
from tests.gateway.webhooks.conftest import MakeSandbox, limits

NOW_MS = 1_795_343_330_026
SEED = Seed(NOW_MS, b"0123456789")
ECHO = "function transform(evt, headers, queryParams, raw) { return {name: 'a', data: {evt, headers, queryParams}} }"
SECRET = b"the-secret"
GITHUB = Proof(kind="github", secrets=(b"sealed",))


def hook(transform: str = ECHO, **settings: Any) -> Webhook:
    return Webhook(name="prod/acme", env="production", digest="d", transform=transform, **settings)


def request(body: bytes = b"{}", headers: dict[str, str] | None = None, **more: Any) -> WebhookRequest:
    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    return WebhookRequest(env="production~x", received_ms=NOW_MS, headers=raw, body=body, **more)


def signed(body: bytes) -> dict[str, str]:
    return {"x-hub-signature-256": "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest()}


async def outcome_of(
    sandbox: Sandbox, webhook: Webhook, asked: WebhookRequest, limits: Limits | None = None
) -> Outcome:
    return await handle(webhook, (SECRET,), asked, sandbox, limits or Limits(), SEED)


async def data_of(sandbox: Sandbox, webhook: Webhook, asked: WebhookRequest) -> Any:
    outcome = await outcome_of(sandbox, webhook, asked)
    assert isinstance(outcome, Taken)
    ((_, _, stored),) = outcome.events
    return orjson.loads(stored)["data"]


async def letter_of(sandbox: Sandbox, webhook: Webhook, asked: WebhookRequest) -> DeadLetter:
    outcome = await outcome_of(sandbox, webhook, asked)
    assert isinstance(outcome, Failed)
    return outcome.letter


# ---- what is taken


async def test_a_request_becomes_an_event_with_the_time_it_came(sandbox: Sandbox) -> None:
    outcome = await outcome_of(
        sandbox, hook("const transform = (evt) => ({name: 'a', data: evt})"), request(b'{"n":1}')
    )
    assert isinstance(outcome, Taken)
    ((event_id, name, stored),) = outcome.events
    assert name == "a"
    event = orjson.loads(stored)
    assert event == {"name": "a", "data": {"n": 1}, "id": event_id, "ts": NOW_MS, "user": {}}


async def test_headers_and_query_reach_the_transform(sandbox: Sandbox) -> None:
    asked = request(b'{"n":1}', {"x-a": "b"}, query=b"k=v%20w")
    assert await data_of(sandbox, hook(), asked) == {
        **{"evt": {"n": 1}, "headers": {"X-A": "b"}, "queryParams": {"k": "v w"}}
    }


async def test_forms_and_empty_bodies_are_taken(sandbox: Sandbox) -> None:
    form = request(b"a=1&b=2&b=3", {"content-type": "application/x-www-form-urlencoded"})
    assert (await data_of(sandbox, hook(), form))["evt"] == {"a": "1", "b": ["2", "3"]}
    assert (await data_of(sandbox, hook(), request(b"")))["evt"] == {}


async def test_xml_is_left_to_the_transform(sandbox: Sandbox) -> None:
    source = "function transform(evt, h, q, raw) { return {name: 'a', data: {evt, id: /<id>(.*)<\\/id>/.exec(raw)[1]}} }"
    asked = request(b"<x><id>7</id></x>", {"content-type": "text/xml"})
    assert await data_of(sandbox, hook(source), asked) == {"evt": None, "id": "7"}


async def test_a_transform_may_return_several_events_or_none(sandbox: Sandbox) -> None:
    three = "function transform() { return [{name: 'a'}, {name: 'b'}, {name: 'c', ts: 1700000000000}] }"
    outcome = await outcome_of(sandbox, hook(three), request())
    assert isinstance(outcome, Taken)
    assert [name for _, name, _ in outcome.events] == ["a", "b", "c"]
    assert len({event_id for event_id, _, _ in outcome.events}) == 3
    for none in ("return null", "return []", ""):
        outcome = await outcome_of(sandbox, hook(f"function transform() {{ {none} }}"), request())
        assert outcome == Taken([])


# ---- who may send


async def test_a_proved_request_is_taken_and_another_one_not_run(sandbox: Sandbox) -> None:
    webhook = hook("function transform() { return {name: 'a'} }", proof=GITHUB)
    assert isinstance(await outcome_of(sandbox, webhook, request(b"{}", signed(b"{}"))), Taken)
    pids = sandbox.worker_pids
    await sandbox.close()
    for headers, code in (
        ({}, "missing"),
        (signed(b"{ }"), "wrong"),
        ({"x-hub-signature-256": "x"}, "malformed"),
    ):
        outcome = await outcome_of(sandbox, webhook, request(b"{}", headers))
        assert isinstance(outcome, Refused)
        assert (outcome.status, outcome.code) == (401, code)
    assert pids


async def test_a_proof_whose_secrets_are_gone_lets_nobody_in(sandbox: Sandbox) -> None:
    asked = request(b"{}", signed(b"{}"))
    outcome = await handle(hook(proof=GITHUB), (), asked, sandbox, Limits(), SEED)
    assert isinstance(outcome, Refused)
    assert outcome.status == 401


async def test_a_secret_that_cannot_be_used_is_told_without_it(sandbox: Sandbox) -> None:
    webhook = hook(proof=Proof(kind="standardWebhooks", secrets=(b"",)))
    headers = {"webhook-id": "1", "webhook-timestamp": str(NOW_MS // 1000), "webhook-signature": "v1,AAAA"}
    outcome = await handle(webhook, (b"whsec_~hidden",), request(headers=headers), sandbox, Limits(), SEED)
    assert isinstance(outcome, Refused)
    assert (outcome.status, outcome.code) == (401, "secret")
    assert "hidden" not in outcome.message


@pytest.mark.parametrize(
    ("address", "taken"), [("140.82.112.7", True), ("2a0a:a440::1", True), ("10.0.0.1", False), (None, False)]
)
async def test_a_webhook_may_be_bound_to_networks(sandbox: Sandbox, address: str | None, taken: bool) -> None:
    webhook = hook(cidrs=("140.82.112.0/20", "2a0a:a440::/29"))
    asked = request(address=None if address is None else ipaddress.ip_address(address))
    outcome = await outcome_of(sandbox, webhook, asked)
    assert (
        isinstance(outcome, Taken)
        if taken
        else outcome == Refused(403, "address", "this webhook takes no requests from this address")
    )


@pytest.mark.parametrize("kind", ["bearer", "basic"])
async def test_a_password_reaches_neither_events_nor_letters(sandbox: Sandbox, kind: Any) -> None:
    header = {"bearer": "Bearer the-secret", "basic": "Basic dGhlLXNlY3JldA=="}[kind]
    webhook = hook(proof=Proof(kind=kind, secrets=(b"",)))
    asked = request(headers={"authorization": header, "x-a": "b"})
    assert (await data_of(sandbox, webhook, asked))["headers"] == {"X-A": "b"}
    letter = await letter_of(sandbox, msgspec.structs.replace(webhook, transform="throw 1"), asked)
    assert letter.headers == (("x-a", "b"),)


async def test_without_proof_at_the_edge_a_transform_may_look_itself(sandbox: Sandbox) -> None:
    asked = request(headers={"authorization": "Bearer x"})
    assert (await data_of(sandbox, hook(), asked))["headers"] == {"Authorization": "Bearer x"}


# ---- Slack asks


def slack(body: bytes) -> WebhookRequest:
    signature = hmac.new(SECRET, f"v0:{NOW_MS // 1000}:".encode() + body, hashlib.sha256).hexdigest()
    return request(
        body,
        {"x-slack-request-timestamp": str(NOW_MS // 1000), "x-slack-signature": f"v0={signature}"},
    )


async def test_slack_s_question_whether_somebody_is_there_is_answered(sandbox: Sandbox) -> None:
    """docs.slack.dev, "url_verification event"."""
    webhook = hook(proof=Proof(kind="slack", secrets=(b"",)))
    body = (
        b'{"token":"Jhj5dZrVaK7ZwHHjRyZWjbDl","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P",'
        b'"type":"url_verification"}'
    )
    assert await outcome_of(sandbox, webhook, slack(body)) == Challenged(
        "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"
    )
    unsigned = await outcome_of(sandbox, webhook, request(body))
    assert isinstance(unsigned, Refused)


@pytest.mark.parametrize(
    "body",
    [
        b'{"type":"event_callback","text":"url_verification","challenge":"x"}',
        b'{"type":"url_verification"}',
        b'["url_verification"]',
    ],
)
async def test_what_only_looks_like_it_is_an_event(sandbox: Sandbox, body: bytes) -> None:
    webhook = hook(proof=Proof(kind="slack", secrets=(b"",)))
    assert isinstance(await outcome_of(sandbox, webhook, slack(body)), Taken)


# ---- what cannot be read


@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        (b"{no", "", "not JSON"),
        (b"no", "application/json", "not JSON"),
        (b'"\xff"', "application/json", "byte 1 is not UTF-8"),
        (b"a&" * 1_001, "application/x-www-form-urlencoded", "more than 1000 fields"),
    ],
)
async def test_a_body_that_cannot_be_read_is_the_sender_s_fault(
    sandbox: Sandbox, body: bytes, content_type: str, said: str
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    outcome = await outcome_of(sandbox, hook(), request(body, headers))
    assert isinstance(outcome, Refused)
    assert (outcome.status, outcome.code) == (400, "body")
    assert said in outcome.message


async def test_what_is_too_large_for_the_sandbox_is_refused(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(limits(input_bytes=1_000))
    outcome = await outcome_of(sandbox, hook(), request(b'"' + b"x" * 1_000 + b'"'))
    assert isinstance(outcome, Refused)
    assert (outcome.status, outcome.code) == (413, "size")


async def test_a_busy_sandbox_asks_for_patience(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(limits())
    await sandbox.close()
    outcome = await outcome_of(sandbox, hook(), request())
    assert outcome == Busy("the server is stopping", 5)


# ---- transforms that fail


@pytest.mark.parametrize(
    ("source", "code", "said"),
    [
        ("function transform(evt) { return evt.a.b.c }", "threw", "cannot read property"),
        ("function transform(evt) { return {", "syntax", "line 1, column 35"),
        ("function transform() { while (true) {} }", "timeout", "CPU time"),
        ("function transform() { return 'text' }", "event", "transform returned a text: return {name, data}"),
        ("function transform() { return 42 }", "event", "returned a number"),
        ("function transform() { return false }", "event", "returned false"),
        ("function transform() { return {} }", "event", "event name is empty"),
        ("function transform() { return {name: 5} }", "event", "event name is a number"),
        ("function transform() { return {name: 'inngest/x'} }", "event", "reserved"),
        ("function transform() { return {name: 'a', data: [1]} }", "event", "data is an array"),
        ("function transform() { return {name: 'a', ts: 1.5} }", "event", "whole number of milliseconds"),
        ("function transform() { return {name: 'a', ts: 1654012591} }", "event", "before Jan 1, 1980"),
        ("function transform() { return {name: 'a', id: 5} }", "event", "event id is a number"),
        ("function transform() { return [{name: 'a'}, 'b'] }", "event", "events[1]"),
        ("function transform() { return {name: 'a', data: {x: 'y'.repeat(600000)}} }", "event", "max size"),
        ("function transform() { return Array(5001).fill({name: 'a'}) }", "event", "5001 events"),
    ],
)
async def test_a_failing_transform_leaves_a_letter(
    sandbox: Sandbox, source: str, code: str, said: str
) -> None:
    body = b'{ "odd":  "bytes" }'
    asked = request(body, {"x-a": "b", "content-type": "application/json"}, query=b"k=v")
    letter = await letter_of(sandbox, hook(source), asked)
    assert letter.code == code
    assert said in letter.message
    assert letter.body == body
    assert (letter.webhook, letter.env, letter.received_ms) == ("prod/acme", "production~x", NOW_MS)
    assert letter.headers == (("x-a", "b"), ("content-type", "application/json"))
    assert letter.query == "k=v"


async def test_a_letter_says_where_and_survives_the_store(sandbox: Sandbox) -> None:
    letter = await letter_of(
        sandbox, hook("function transform(evt) {\n return evt.a.b }"), request(b'{"x":"\xc3\xa9"}')
    )
    assert (letter.line, letter.column) == (2, 9)
    for codec in (msgspec.json, msgspec.msgpack):
        assert codec.decode(codec.encode(letter), type=DeadLetter) == letter


async def test_a_letter_is_replayed_with_the_mended_transform(sandbox: Sandbox) -> None:
    asked = request(
        b"a=1", {"content-type": "application/x-www-form-urlencoded", **signed(b"a=1")}, query=b"k=v"
    )
    letter = await letter_of(sandbox, hook("throw 1", proof=GITHUB), asked)
    again = await replay(hook("throw 2", proof=GITHUB), letter, sandbox, Limits(), SEED)
    assert isinstance(again, Failed)
    assert again.letter == msgspec.structs.replace(letter, message="the transform threw 2")
    outcome = await replay(hook(proof=GITHUB), letter, sandbox, Limits(), SEED)
    assert isinstance(outcome, Taken)
    event = orjson.loads(outcome.events[0][2])
    assert event["ts"] == NOW_MS
    assert event["data"]["evt"] == {"a": "1"}
    assert event["data"]["queryParams"] == {"k": "v"}


# ---- anything may come

HEADER = st.sampled_from(["content-type", "x-hub-signature-256", "authorization", "cookie", "__proto__"])
VALUE = st.one_of(
    st.sampled_from(["application/json", "application/x-www-form-urlencoded", "text/plain; charset=x"]),
    st.text(st.characters(max_codepoint=126, min_codepoint=32), max_size=30),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    body=st.one_of(st.binary(max_size=60), st.from_regex(rb"[\[\]{}\",:0-9a-z\\]{0,30}", fullmatch=True)),
    headers=st.lists(st.tuples(HEADER, VALUE), max_size=4),
    query=st.binary(max_size=30),
    proof=st.sampled_from([None, None, GITHUB, Proof(kind="bearer", secrets=())]),
)
async def test_any_request_has_an_outcome(
    sandbox: Sandbox, body: bytes, headers: list[tuple[str, str]], query: bytes, proof: Proof | None
) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    asked = WebhookRequest(env="e", received_ms=NOW_MS, headers=raw, query=query, body=body)
    outcome = await outcome_of(sandbox, hook(proof=proof), asked)
    assert isinstance(outcome, Taken | Refused)
