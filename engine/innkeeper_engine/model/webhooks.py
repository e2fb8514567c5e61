"""Webhooks as the registry holds them, and the requests that their transforms could not make events of."""

from typing import Literal

import msgspec

ProofKind = Literal["github", "stripe", "slack", "standardWebhooks", "hmac", "basic", "bearer"]

DEFAULT_TOLERANCE_MS = 300_000
"""How far the time in a signature may be off: five minutes, as Stripe, Slack and Standard Webhooks recommend."""


class Proof(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How a request must prove where it comes from. The kinds are those of a Webhook's `spec.verify`."""

    kind: ProofKind
    secrets: tuple[bytes, ...]
    """Sealed, the current one first; any one of them will do, so that a secret can be changed without a gap.

    Of `standardWebhooks` as `whsec_` and base64, of `basic` as `user:password`, of the others as they are.
    """
    header: str = ""
    """hmac: which header holds the HMAC."""
    algorithm: Literal["sha1", "sha256", "sha512"] = "sha256"
    """hmac: the hash under it."""
    encoding: Literal["hex", "base64"] = "hex"
    """hmac: how it is written."""
    prefix: str = ""
    """hmac: what stands before it in the header, such as `sha256=`."""
    tolerance_ms: int = DEFAULT_TOLERANCE_MS
    """stripe, slack, standardWebhooks: how far the signed time may be off, in either direction."""


class Webhook(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One URL that takes requests of a provider and makes events of them."""

    name: str
    """For people and logs, one per environment: in Kubernetes `<namespace>/<name>`."""
    env: str
    """The environment that its events go to; a request may choose a branch of it."""
    digest: str
    """`key_digest` of what stands after `/w/` in its URL: that may itself be a key, where there is no proof."""
    transform: str
    """JavaScript that defines `transform(evt, headers, queryParams, raw)`."""
    proof: Proof | None = None
    """None: whoever knows the URL may send."""
    cidrs: tuple[str, ...] = ()
    """Networks that requests may come from; none: all."""


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A request that was proved and could be read, but that its transform made no events of.

    It holds all that the transform was given, so that it can be looked at, and replayed once the transform is mended.
    What proved it is not kept: a replay does not prove it again. Like an event it may hold personal data.
    """

    webhook: str
    """The webhook's name."""
    env: str
    """The environment that its events were meant for, branch included."""
    received_ms: int
    """When it came, ms since the epoch: the `ts` of events that a replay makes, where the transform sets none."""
    headers: tuple[tuple[str, str], ...] = ()
    """As they came, names in lower case; without `Authorization` where that was the proof."""
    query: str = ""
    """The query of the URL, undecoded."""
    body: bytes = b""
    """As it came, after decompression."""
    code: str
    """What kind of failure it was, in one word for programs and metrics."""
    message: str
    """What happened, for people. What the transform threw is in it, and that may quote the body: not for logs."""
    line: int = 0
    """Where in the transform, from 1; 0 where that is not known."""
    column: int = 0


class WebhookIntent(msgspec.Struct, frozen=True, kw_only=True):
    """A Webhook that somebody has approved on the gateway's page, for the operator to make. Holds a key: never stored
    but encrypted.
    """

    id: str
    """A ULID: when it was approved."""
    namespace: str
    name: str
    """Of the object; no other intent has the same."""
    transform: str
    token: str
    """What stands after `/w/` in its URL."""
    approved_by: str
    """Who did so, for people."""

    def __repr__(self) -> str:
        """Which it is, without its token."""
        return f"WebhookIntent(id={self.id!r}, namespace={self.namespace!r}, name={self.name!r})"


class IntentAnswer(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What became of an intent."""

    made: bool
    why: str = ""
    """Why it was refused."""
