"""From one request of a provider to events, or to the reason why there are none. Pure but for the sandbox.

The order is that of trust: where the request comes from, what proves it, whether it can be read; only then is code run
on it. Nothing is stored here: whoever calls stores the events of `Taken`, or the dead letter of `Failed`.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from innkeeper_apps.sandbox.failures import SandboxBusyError, TransformError
from innkeeper_apps.sandbox.fairness import Lane
from innkeeper_apps.sandbox.pool import Call, Sandbox
from innkeeper_apps.webhook_proofs import SecretError, VerificationError, verify
from innkeeper_engine.model.webhooks import DeadLetter, Webhook
from innkeeper_engine.store.store import NewEvent
from innkeeper_gateway.bodies import Header
from innkeeper_gateway.ingest import IngestError, Seed, parse_events
from innkeeper_gateway.places import IpAddress, may_come_from
from innkeeper_gateway.settings import Limits
from innkeeper_gateway.webhooks.payloads import (
    PayloadError,
    headers_json,
    kept_headers,
    query_json,
    read_payload,
)

BUSY_RETRY_S: Final = 5
"""What a sender is told to wait where the sandbox has too much to do."""

_SHAPE: Final = "return {name, data}, an array of these, or nothing"

RefusalCode = Literal["address", "missing", "malformed", "stale", "wrong", "secret", "body", "size"]


class WebhookRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to a webhook's URL."""

    env: str
    """Where its events go: the webhook's environment, or the branch of it that the request asks for."""
    received_ms: int
    """When it came, ms since the epoch: the `ts` of events whose transform sets none."""
    headers: Sequence[Header]
    """As ASGI has them."""
    query: bytes = b""
    body: bytes = b""
    """After decompression."""
    address: IpAddress | None = None
    """Whom it comes from; None: not known."""


class Taken(msgspec.Struct, frozen=True):
    """The events that the request stands for, ready to be stored; none where the transform wants none."""

    events: list[NewEvent]


class Challenged(msgspec.Struct, frozen=True):
    """Slack asks whether somebody is here: answer 200 with this text, and store nothing."""

    challenge: str


class Refused(msgspec.Struct, frozen=True):
    """A request that is not taken, through the sender's own fault. Neither message nor code hold a secret."""

    status: int
    """400, 401, 403 or 413."""
    code: RefusalCode
    """Why, in one word for metrics."""
    message: str
    """Why, for the sender."""


class Failed(msgspec.Struct, frozen=True):
    """The transform made no events of a request that is in order."""

    letter: DeadLetter
    """To be kept. Its `code` may be logged, its `message` may quote the body."""


class Busy(msgspec.Struct, frozen=True):
    """Nothing was done: the sender shall try again (503)."""

    message: str
    retry_after_s: int = BUSY_RETRY_S


Outcome: TypeAlias = Taken | Challenged | Refused | Failed | Busy


async def handle(
    webhook: Webhook,
    secrets: Sequence[bytes],
    request: WebhookRequest,
    sandbox: Sandbox,
    limits: Limits,
    seed: Seed,
) -> Outcome:
    """What becomes of one request.

    Args:
        secrets: those of the webhook's proof, unsealed. A proof without any lets nobody in.
        seed: where the events' ids come from.
    """
    refused = _refusal(webhook, secrets, request)
    if refused is not None:
        return refused
    if webhook.proof is not None and webhook.proof.kind == "slack":
        challenge = _slack_challenge(request.body)
        if challenge is not None:
            return Challenged(challenge)
    letter = DeadLetter(
        webhook=webhook.name,
        env=request.env,
        received_ms=request.received_ms,
        headers=kept_headers(request.headers, without=_shown_as_proof(webhook)),
        query=request.query.decode("latin-1"),
        body=request.body,
        code="",
        message="",
    )
    return await _events_of(webhook, letter, sandbox, limits, seed)


async def replay(
    webhook: Webhook, letter: DeadLetter, sandbox: Sandbox, limits: Limits, seed: Seed
) -> Outcome:
    """What becomes of a request that failed before, with the webhook's transform as it is now.

    Its events have the time at which it came first; where it fails again, the new letter says how.
    """
    return await _events_of(webhook, letter, sandbox, limits, seed)


def _refusal(webhook: Webhook, secrets: Sequence[bytes], request: WebhookRequest) -> Refused | None:
    if webhook.cidrs and not may_come_from(request.address, webhook.cidrs):
        return Refused(403, "address", "this webhook takes no requests from this address")
    if webhook.proof is None:
        return None
    try:
        verify(webhook.proof, secrets, request.headers, request.body, request.received_ms)
    except VerificationError as error:
        return Refused(401, error.why, error.message)
    except SecretError as error:
        return Refused(401, "secret", f"nothing can be proved to this webhook until it is mended: {error}")
    return None


async def _events_of(
    webhook: Webhook, letter: DeadLetter, sandbox: Sandbox, limits: Limits, seed: Seed
) -> Outcome:
    content_type = next((value for name, value in letter.headers if name == "content-type"), "")
    try:
        payload = read_payload(content_type, letter.body)
        call = Call(
            source=webhook.transform,
            mode=payload.mode,
            raw=payload.raw,
            given=payload.given,
            headers=headers_json(letter.headers),
            query=query_json(letter.query),
        )
    except PayloadError as error:
        return Refused(400, "body", error.message)
    try:
        result = await sandbox.transform(Lane(webhook.env, webhook.name), call)
        return Taken([] if result is None else _parsed(result, limits, letter.received_ms, seed))
    except SandboxBusyError as error:
        return Busy(str(error))
    except TransformError as error:
        if error.code == "body":
            return Refused(400, "body", error.message)
        if error.code == "input_size":
            return Refused(413, "size", error.message)
        return Failed(
            msgspec.structs.replace(
                letter, code=error.code, message=error.message, line=error.line, column=error.column
            )
        )


def _parsed(result: bytes, limits: Limits, received_ms: int, seed: Seed) -> list[NewEvent]:
    """What a transform returned, as events.

    Raises:
        TransformError: it is none.
    """
    if result[:1] not in (b"{", b"["):
        kind = {b'"': "a text", b"t": "true", b"f": "false"}.get(result[:1], "a number")
        raise TransformError("event", f"transform returned {kind}: {_SHAPE}")
    try:
        return parse_events(result, "", limits, received_ms, seed)
    except IngestError as error:
        raise TransformError(
            "event", f"what transform returned is no event: {error.message} ({_SHAPE})"
        ) from None


def _shown_as_proof(webhook: Webhook) -> str:
    """The header whose value is itself a secret, or gives one away: the transform does not get it."""
    if webhook.proof is not None and webhook.proof.kind in ("basic", "bearer"):
        return "authorization"
    return ""


def _slack_challenge(body: bytes) -> str | None:
    """What Slack wants to hear when somebody gives it a URL ("Using the Slack Events API", URL verification)."""
    if b"url_verification" not in body:
        return None
    try:
        parsed: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(parsed, dict) or parsed.get("type") != "url_verification":
        return None
    challenge = parsed.get("challenge")
    return challenge if isinstance(challenge, str) else None
