"""Requests that the server makes for functions."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from innkeeper_apps.egress import EgressPolicy, Resolver
from innkeeper_apps.fetch import (
    FetchOutcome,
    OutboundOptionsError,
    OutboundRequest,
    perform,
    prepare,
)
from innkeeper_apps.transport import Transport
from innkeeper_engine.model.calls import Op, OpKind
from tests.apps.rawserver import http, replies, serving

SECRET = "sk-very-secret"
RECORDED = json.loads((Path(__file__).parent / "fixtures" / "wire-calls.json").read_bytes())


def gateway(**opts: Any) -> OutboundRequest:
    """The request of a `step.fetch`."""
    return prepare(Op(id="1", kind=OpKind.GATEWAY, opts=opts))


def ai(**opts: Any) -> OutboundRequest:
    """The request of a `step.ai.infer`."""
    defaults = {"url": "https://ai.example/v1/chat", "auth_key": SECRET, "body": {"model": "m"}}
    return prepare(Op(id="1", kind=OpKind.AI_GATEWAY, opts=defaults | opts))


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    """May reach loopback."""
    made = Transport(Resolver(EgressPolicy.dev()))
    yield made
    await made.close()


def error_of(outcome: FetchOutcome) -> dict[str, Any]:
    """The error in the memo of the last attempt."""
    assert outcome.memo is None
    assert outcome.error_memo is not None
    error = json.loads(outcome.error_memo)["error"]
    assert error["message"] == outcome.reason
    return dict(error)


@pytest.mark.parametrize("name", ["js4-fetch-1", "js4-ai-infer-1", "py-ai-infer-1"])
def test_recorded_operations_are_prepared(name: str) -> None:
    """As the SDKs really send them."""
    recorded = next(call for call in RECORDED if call["name"] == name)
    (sent,) = recorded["response"]["body"]
    opts = sent["opts"]
    request = prepare(Op(id="1", kind=OpKind(sent["op"]), opts=opts))
    assert request.url == opts["url"]
    if request.kind == "fetch":
        assert (request.method, request.body.decode()) == (opts["method"], opts["body"])
        assert opts["headers"].items() <= request.headers.items()
    else:
        assert request.method == "POST"
        assert json.loads(request.body) == opts["body"]
        assert request.headers["Authorization"] == "Bearer sk-x"
        assert request.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("model_format", "headers", "url"),
    [
        ("openai-chat", {"Authorization": f"Bearer {SECRET}"}, "https://ai.example/v1/chat"),
        ("", {"Authorization": f"Bearer {SECRET}"}, "https://ai.example/v1/chat"),
        ("anthropic", {"x-api-key": SECRET}, "https://ai.example/v1/chat"),
        ("bedrock", {"Authorization": SECRET}, "https://ai.example/v1/chat"),
        ("gemini", {}, f"https://ai.example/v1/chat?key={SECRET}"),
    ],
)
def test_the_key_goes_where_the_provider_wants_it(
    model_format: str, headers: dict[str, str], url: str
) -> None:
    """By the format of the request."""
    request = ai(format=model_format)
    auth = {k: v for k, v in request.headers.items() if k not in ("Content-Type", "User-Agent")}
    assert (auth, request.url) == (headers, url)


def test_details_of_ai_requests() -> None:
    """A query that is there already, an odd key, headers that override, no key at all."""
    assert (
        ai(format="gemini", url="https://g.example/x?a=1", auth_key="a&b").url
        == "https://g.example/x?a=1&key=a%26b"
    )
    own = ai(headers={"authorization": "mine", "Anthropic-Version": "2023-06-01"}).headers
    assert own["authorization"] == "mine"
    assert "Authorization" not in own
    assert own["Anthropic-Version"] == "2023-06-01"
    assert "Authorization" not in ai(auth_key="").headers


def test_secrets_show_in_no_repr() -> None:
    """What is logged by accident tells where a request went, no more."""
    for request in (
        ai(format="gemini"),
        ai(),
        gateway(url=f"https://u:{SECRET}@a.example/{SECRET}", body=SECRET),
    ):
        assert SECRET not in f"{request!r} {request!s} {list(request.__rich_repr__())}"
        assert "example" in repr(request)


def test_requests_can_be_stored() -> None:
    """The engine keeps them (encrypted) until they are done."""
    request = gateway(url="http://a/", method="put", headers={"A": "b"}, body="\ud800x")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=OutboundRequest) == request
    assert msgspec.json.decode(msgspec.json.encode(request), type=OutboundRequest) == request
    assert (request.method, request.body) == ("PUT", b"?x")


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        ({}, "`url` must be text"),
        ({"url": ""}, "`url` must be text and not empty"),
        ({"url": "http://a", "method": 5}, "`method` must be text"),
        ({"url": "http://a", "headers": []}, "`headers` must be an object"),
        ({"url": "http://a", "headers": {"X": 1}}, "the header 'X' must be text"),
    ],
)
def test_bad_options_fail_the_step_for_good(opts: dict[str, Any], message: str) -> None:
    """Another attempt would meet the same."""
    with pytest.raises(OutboundOptionsError, match=message) as caught:
        gateway(**opts)
    assert not caught.value.outcome.retryable
    assert error_of(caught.value.outcome)["name"] == "GatewayError"
    with pytest.raises(OutboundOptionsError) as caught:
        ai(url=None)
    assert error_of(caught.value.outcome)["name"] == "AIGatewayError"


def test_other_operations_make_no_request() -> None:
    """A mistake in this server, not of a function."""
    with pytest.raises(ValueError, match="Sleep makes no request"):
        prepare(Op(id="1", kind=OpKind.SLEEP))


@pytest.mark.parametrize("status", [200, 404, 503])
async def test_a_fetch_succeeds_with_any_status(transport: Transport, status: int) -> None:
    """The function judges the status; headers come in canonical case, repeated ones joined."""
    raw = http(status, "grüß".encode(), content_type="text/plain", x_resp="yes")
    raw = raw.replace(b"x-resp: yes", b"x-resp: yes\r\nset-cookie: a=1\r\nset-cookie: b=2")
    async with serving(replies(raw)) as server:
        url = f"http://127.0.0.1:{server.port}/hello?x=1"
        outcome = await perform(
            gateway(url=url, headers={"X-Foo": "bar"}, body="a=1&b=2", method="POST"), transport
        )
        assert outcome.memo is not None
        assert json.loads(outcome.memo) == {
            "data": {
                "url": url,
                "status_code": status,
                "body": "grüß",
                "headers": {
                    "Content-Length": "6",
                    "Content-Type": "text/plain",
                    "X-Resp": "yes",
                    "Set-Cookie": "a=1,b=2",
                },
            }
        }
        assert server.seen[0].body == b"a=1&b=2"
        assert server.seen[0].headers["x-foo"] == "bar"
        assert server.seen[0].headers["user-agent"] == "Inngest"


async def test_the_transports_own_headers_cannot_be_set(transport: Transport) -> None:
    """No request smuggling through a function's options."""
    async with serving(replies(http(200))) as server:
        headers = {"Content-Length": "1", "Transfer-Encoding": "chunked", "Host": "evil", "Connection": "x"}
        await perform(gateway(url=f"http://127.0.0.1:{server.port}/", headers=headers, body="{}"), transport)
        seen = server.seen[0]
        assert (seen.headers["content-length"], seen.headers["host"]) == ("2", f"127.0.0.1:{server.port}")
        assert "transfer-encoding" not in seen.headers
        outcome = await perform(
            gateway(url=f"http://127.0.0.1:{server.port}/", headers={"A": "b\r\nX: y"}), transport
        )
        assert not outcome.retryable
        assert "characters that HTTP does not allow" in outcome.reason
        assert len(server.seen) == 1


async def test_a_head_request_has_no_body(transport: Transport) -> None:
    """Although its length is given."""
    async with serving(replies(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")) as server:
        outcome = await perform(
            gateway(url=f"http://127.0.0.1:{server.port}/", method="HEAD"), transport, timeout_s=5
        )
        assert outcome.memo is not None
        assert json.loads(outcome.memo)["data"]["body"] == ""


async def test_a_fetch_follows_redirects_like_a_browser_without_leaking_credentials(
    transport: Transport,
) -> None:
    """POST turns into GET; another origin gets neither cookie nor authorization."""
    async with serving(replies(http(200, b"end"))) as end:
        moved = http(302, location=f"http://127.0.0.1:{end.port}/end")
        async with serving(replies(moved)) as start:
            url = f"http://127.0.0.1:{start.port}/start"
            headers = {
                "Authorization": SECRET,
                "Cookie": SECRET,
                "X-Other": "kept",
                "Content-Type": "text/plain",
            }
            outcome = await perform(gateway(url=url, headers=headers, body="x", method="POST"), transport)
            assert outcome.memo is not None
            assert json.loads(outcome.memo)["data"]["body"] == "end"
            seen = end.seen[0]
            assert (seen.method, seen.body, seen.headers["x-other"]) == ("GET", b"", "kept")
            assert not {"authorization", "cookie", "content-type"} & seen.headers.keys()


async def test_a_fetch_to_a_private_address_is_denied_for_good() -> None:
    """By default policy; also when a public server redirects there."""
    strict = Transport(Resolver(EgressPolicy.users()))
    async with serving(replies(http(200))) as server:
        outcome = await perform(gateway(url=f"http://127.0.0.1:{server.port}/"), strict)
        assert error_of(outcome)["message"].startswith(
            "Error making gateway request: requests to 127.0.0.1 are not"
        )
        assert not outcome.retryable
        assert server.connections == 0


async def test_failures_of_a_fetch_are_retried(transport: Transport) -> None:
    """Refused, and too slow."""
    async with serving(replies(http(200))) as server:
        port = server.port
    outcome = await perform(gateway(url=f"http://127.0.0.1:{port}/"), transport)
    assert outcome.retryable
    assert error_of(outcome) == {
        "name": "GatewayError",
        "message": f"Error making gateway request: connection refused by 127.0.0.1:{port}",
    }

    async def never(*_args: Any) -> None:
        await asyncio.Event().wait()

    async with serving(never) as server:
        outcome = await perform(gateway(url=f"http://127.0.0.1:{server.port}/hang"), transport, timeout_s=0.1)
        assert outcome.retryable
        assert "within 0.1 s" in outcome.reason


async def test_a_response_over_4_mib_fails_for_good(transport: Transport) -> None:
    """The memo of a step has the same limit."""
    async with serving(replies(http(200, b"x" * (4 * 1024 * 1024 + 1)))) as server:
        outcome = await perform(gateway(url=f"http://127.0.0.1:{server.port}/"), transport)
        assert not outcome.retryable
        assert "more than 4194304 bytes" in outcome.reason


async def test_a_models_answer_is_the_memo(transport: Transport) -> None:
    """As JSON, canonical."""
    async with serving(replies(http(201, b'{"id":"x","choices":[1.0]}'))) as server:
        request = ai(url=f"http://127.0.0.1:{server.port}/v1", body={"model": "m", "temperature": 0.5})
        outcome = await perform(request, transport)
        assert outcome.memo == b'{"data":{"choices":[1],"id":"x"}}'
        assert server.seen[0].body == b'{"model":"m","temperature":0.5}'
        assert server.seen[0].headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    ("status", "body", "message", "data"),
    [
        (429, b'{"error":{"type":"rate"}}', "unsuccessful status code: 429", {"error": {"type": "rate"}}),
        (500, b"oops", "unsuccessful status code: 500", "oops"),
        (307, b"", "unsuccessful status code: 307", ""),
        (200, b"<html>", "the response is not JSON", "<html>"),
    ],
)
async def test_a_models_error_is_retried_and_then_told(
    transport: Transport, status: int, body: bytes, message: str, data: Any
) -> None:
    """The provider's own words reach the function; a redirect is not followed, for it would show the key."""
    async with serving(replies(http(status, body, location="/other"))) as server:
        outcome = await perform(ai(url=f"http://127.0.0.1:{server.port}/v1"), transport)
        assert outcome.retryable
        assert error_of(outcome) == {
            "name": "AIGatewayError",
            "message": f"Error making AI request: {message}",
            "stack": body.decode(),
            "data": data,
        }
        assert SECRET not in outcome.reason
        assert len(server.seen) == 1
