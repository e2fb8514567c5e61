"""HTTP requests that this server makes for functions: `step.fetch` and `step.ai.infer`.

`prepare` turns an operation into a request (pure), `perform` sends it through the egress check and says what the
step's memoised result is. Requests hold keys: nothing here logs them, and their `repr` shows only where they go.
"""

from typing import Any, Literal
from urllib.parse import quote, urlsplit

import msgspec

from innkeeper_apps.http1 import Reply
from innkeeper_apps.transport import Redirects, Transport, TransportError
from innkeeper_apps.wire.canonical import NotJsonError, canonical_parsed, parse
from innkeeper_apps.wire.request import USER_AGENT
from innkeeper_engine.model.calls import Op, OpKind
from innkeeper_engine.model.reach import Reach

MAX_BODY_BYTES = 4 * 1024 * 1024
"""Of a response; the memo of a step is limited to the same."""
OUTBOUND_TIMEOUT_S = 2 * 60 * 60.0
"""The longest that one request may take, as for calls to apps: models may think for long."""

_NEVER_RETRIED = frozenset({"BadRequest", "AddressDenied", "ResponseTooLarge", "BadRedirect"})
"""What the same request would meet again."""
_ANYONES = Reach(public_only=True)
_MAX_STACK_CHARS = 64 * 1024
_ERRORS = {
    "fetch": ("GatewayError", "Error making gateway request: "),
    "ai": ("AIGatewayError", "Error making AI request: "),
}


class OutboundRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request to make. It can be serialised, and must be encrypted where it is stored."""

    kind: Literal["fetch", "ai"]
    method: str
    url: str
    headers: dict[str, str] = {}
    body: bytes = b""

    def __repr__(self) -> str:
        parts = urlsplit(self.url)
        return f"OutboundRequest({self.kind} {self.method} {parts.scheme}://{parts.hostname}, ...)"

    __str__ = __repr__

    def __rich_repr__(self) -> Any:
        yield repr(self)


class FetchOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a request came to: a memo on success, else why not and what to memoise when it was the last attempt."""

    memo: bytes | None = None
    """On success: the step's result in wire shape, `{"data": ...}`, canonical."""
    reason: str = ""
    """On failure: one sentence, without secrets."""
    retryable: bool = False
    """On failure: whether another attempt can end differently."""
    error_memo: bytes | None = None
    """On failure: the step's result if there is no further attempt, `{"error": ...}`, canonical."""


class OutboundOptionsError(ValueError):
    """The operation's options name no request. `outcome` is the failure to record."""

    def __init__(self, kind: Literal["fetch", "ai"], why: str) -> None:
        super().__init__(why)
        self.outcome = _failed(kind, why, retryable=False)


def prepare(op: Op) -> OutboundRequest:
    """The request that a `Gateway` or `AIGateway` operation asks for.

    Raises:
        OutboundOptionsError: options are missing or of the wrong type; the message names the option.
        ValueError: the operation is of another kind.
    """
    match op.kind:
        case OpKind.GATEWAY:
            return _prepare_fetch(op.opts)
        case OpKind.AI_GATEWAY:
            return _prepare_ai(op.opts)
    raise ValueError(f"operation {op.kind} makes no request")


def _prepare_fetch(opts: dict[str, Any]) -> OutboundRequest:
    body = opts.get("body", "")
    return OutboundRequest(
        kind="fetch",
        method=_option(opts, "method", "fetch", "POST").upper(),
        url=_option(opts, "url", "fetch"),
        headers={"User-Agent": USER_AGENT} | _headers(opts, "fetch"),
        # Text goes out as it is: a form or XML is as good a body as JSON.
        body=body.encode(errors="replace") if isinstance(body, str) else canonical_parsed(body),
    )


def _prepare_ai(opts: dict[str, Any]) -> OutboundRequest:
    url, key = _option(opts, "url", "ai"), _option(opts, "auth_key", "ai", "")
    headers = {"User-Agent": USER_AGENT, "Content-Type": "application/json"}
    if key:
        match _option(opts, "format", "ai", ""):
            case "anthropic":
                headers["x-api-key"] = key
            case "gemini":
                url = f"{url}{'&' if urlsplit(url).query else '?'}key={quote(key, safe='')}"
            case "bedrock":
                headers["Authorization"] = key
            case _:
                headers["Authorization"] = f"Bearer {key}"
    for name, value in _headers(opts, "ai").items():
        headers = {known: text for known, text in headers.items() if known.lower() != name.lower()}
        headers[name] = value
    return OutboundRequest(
        kind="ai", method="POST", url=url, headers=headers, body=canonical_parsed(opts.get("body"))
    )


def _option(opts: dict[str, Any], name: str, kind: Literal["fetch", "ai"], default: str | None = None) -> str:
    value = opts.get(name, default)
    if not isinstance(value, str) or not (value or default == ""):
        raise OutboundOptionsError(kind, f"the option `{name}` must be text and not empty")
    return value


def _headers(opts: dict[str, Any], kind: Literal["fetch", "ai"]) -> dict[str, str]:
    given = opts.get("headers", {})
    if not isinstance(given, dict):
        raise OutboundOptionsError(kind, "the option `headers` must be an object")
    headers = {}
    for name, value in given.items():
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(text, str) for text in values):
            raise OutboundOptionsError(kind, f"the header {name!r} must be text")
        headers[name] = ", ".join(values)
    return headers


async def perform(
    request: OutboundRequest,
    transport: Transport,
    *,
    reach: Reach = _ANYONES,
    timeout_s: float = OUTBOUND_TIMEOUT_S,
) -> FetchOutcome:
    """Send the request; never raises for what the network or the other server does.

    `reach`: of the environment whose function it is for; the URL is a person's.
    """
    # A model's key may be in any header: it follows no redirect.
    redirects: Redirects = "browser" if request.kind == "fetch" else "none"
    try:
        reply = await transport.send(
            request.method,
            request.url,
            request.headers,
            request.body,
            timeout_s=timeout_s,
            limit=MAX_BODY_BYTES,
            redirects=redirects,
            reach=reach,
        )
    except TransportError as e:
        return _failed(request.kind, str(e), retryable=e.code not in _NEVER_RETRIED)
    return _fetched(request, reply) if request.kind == "fetch" else _inferred(reply)


def _fetched(request: OutboundRequest, reply: Reply) -> FetchOutcome:
    headers: dict[str, list[str]] = {}
    for name, value in reply.headers:
        headers.setdefault("-".join(part.capitalize() for part in name.split("-")), []).append(value)
    data = {
        "url": request.url,
        "headers": {name: ",".join(values) for name, values in headers.items()},
        "body": reply.body.decode(errors="replace"),
        "status_code": reply.status,
    }
    return FetchOutcome(memo=canonical_parsed({"data": data}))


def _inferred(reply: Reply) -> FetchOutcome:
    text = reply.body.decode(errors="replace")
    try:
        data, is_json = parse(reply.body), True
    except NotJsonError:
        data, is_json = text, False
    if 200 <= reply.status <= 299 and is_json:
        return FetchOutcome(memo=canonical_parsed({"data": data}))
    why = (
        f"unsuccessful status code: {reply.status}"
        if not 200 <= reply.status <= 299
        else "the response is not JSON"
    )
    return _failed("ai", why, retryable=True, stack=text[:_MAX_STACK_CHARS], data=data)


def _failed(kind: Literal["fetch", "ai"], why: str, *, retryable: bool, **details: Any) -> FetchOutcome:
    name, prefix = _ERRORS[kind]
    error = {"name": name, "message": prefix + why} | details
    return FetchOutcome(
        reason=prefix + why, retryable=retryable, error_memo=canonical_parsed({"error": error})
    )
