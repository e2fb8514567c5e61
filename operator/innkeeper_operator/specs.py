"""What people write into custom resources (`innkeeper.dev/v1alpha1`), as the API server has checked it.

The schemas in `crds/` are the reference; a test holds both together. Absent is not the same as a value: a field of a
Function that nobody set leaves what the SDK registered.
"""

from typing import Literal

import msgspec

GROUP = "innkeeper.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


class _Spec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    pass


# ---- InngestApp


class SecretKeyRef(_Spec, frozen=True, kw_only=True):
    """One key of a Secret in the same namespace."""

    name: str
    key: str


class SecretSource(_Spec, frozen=True, kw_only=True):
    """Where a secret value comes from."""

    secret_ref: SecretKeyRef


class ServiceRef(_Spec, frozen=True, kw_only=True):
    """A Service of the same namespace."""

    name: str
    port: int | str
    path: str = "/api/inngest"
    scheme: Literal["http", "https"] = "http"


class Endpoint(_Spec, frozen=True, kw_only=True):
    """Where the app is served: exactly one of the two is set."""

    service: ServiceRef | None = None
    url: str | None = None


class Sync(_Spec, frozen=True, kw_only=True):
    """When the app is asked for its functions, besides on changes of its spec and keys."""

    on_rollout: bool = True
    interval: str = "1h"


class AppSpec(_Spec, frozen=True, kw_only=True):
    """`spec` of an InngestApp."""

    endpoint: Endpoint
    app_id: str | None = None
    branch: str | None = None
    signing_key: SecretSource | None = None
    signing_key_fallback: SecretSource | None = None
    sync: Sync = Sync()
    paused: bool = False
    deletion_policy: Literal["Drain", "Cancel", "Orphan"] = "Drain"
    drain_timeout: str = "10m"


# ---- Function


class AppRef(_Spec, frozen=True, kw_only=True):
    """An InngestApp of the same namespace."""

    name: str


class PausePolicy(_Spec, frozen=True, kw_only=True):
    """What a pause means; absent parts as documented: Skip and Continue."""

    new_runs: Literal["Skip", "Queue"] | None = None
    running: Literal["Continue", "Hold"] | None = None


class TriggerSpec(_Spec, frozen=True, kw_only=True):
    """An event or a cron."""

    event: str | None = None
    if_: str | None = msgspec.field(default=None, name="if")
    cron: str | None = None
    jitter: str | None = None
    catch_up: Literal["None", "Latest", "All"] | None = None


class ConcurrencySpec(_Spec, frozen=True, kw_only=True):
    """At most `limit` requests at one instant."""

    limit: int
    key: str | None = None
    scope: Literal["fn", "env", "account"] | None = None


class ThrottleSpec(_Spec, frozen=True, kw_only=True):
    """At most `limit` starts in a period; the rest waits."""

    limit: int
    period: str
    burst: int | None = None
    key: str | None = None


class RateLimitSpec(_Spec, frozen=True, kw_only=True):
    """At most `limit` starts in a period; the rest is skipped."""

    limit: int
    period: str
    key: str | None = None


class DebounceSpec(_Spec, frozen=True, kw_only=True):
    """The last event of a burst starts the run."""

    period: str
    timeout: str | None = None
    key: str | None = None


class BatchSpec(_Spec, frozen=True, kw_only=True):
    """Several events start one run."""

    max_size: int
    timeout: str
    key: str | None = None
    if_: str | None = msgspec.field(default=None, name="if")


class PrioritySpec(_Spec, frozen=True, kw_only=True):
    """Which runs of the function go first."""

    run: str


class SingletonSpec(_Spec, frozen=True, kw_only=True):
    """One run at a time."""

    mode: Literal["skip", "cancel"]
    key: str | None = None


class CancelSpec(_Spec, frozen=True, kw_only=True):
    """An event that cancels runs."""

    event: str
    if_: str | None = msgspec.field(default=None, name="if")
    match: str | None = None
    timeout: str | None = None


class TimeoutsSpec(_Spec, frozen=True, kw_only=True):
    """How long a run may wait and take."""

    start: str | None = None
    finish: str | None = None


Option = Literal[
    "triggers",
    "concurrency",
    "throttle",
    "rateLimit",
    "debounce",
    "batchEvents",
    "priority",
    "singleton",
    "idempotency",
    "cancelOn",
    "timeouts",
    "retries",
]
"""The fields of a Function that stand over what the SDK registered."""

Unsettable = Literal[
    "concurrency",
    "throttle",
    "rateLimit",
    "debounce",
    "batchEvents",
    "priority",
    "singleton",
    "idempotency",
    "cancelOn",
    "timeouts",
]
"""What `unset` may name: for triggers write `[]`, for retries a number."""


class FunctionSpec(_Spec, frozen=True, kw_only=True):
    """`spec` of a Function."""

    app_ref: AppRef
    id: str
    paused: bool | None = None
    pause_policy: PausePolicy | None = None
    unset: tuple[Unsettable, ...] = ()
    triggers: tuple[TriggerSpec, ...] | None = None
    concurrency: tuple[ConcurrencySpec, ...] | None = None
    throttle: ThrottleSpec | None = None
    rate_limit: RateLimitSpec | None = None
    debounce: DebounceSpec | None = None
    batch_events: BatchSpec | None = None
    priority: PrioritySpec | None = None
    singleton: SingletonSpec | None = None
    idempotency: str | None = None
    cancel_on: tuple[CancelSpec, ...] | None = None
    timeouts: TimeoutsSpec | None = None
    retries: int | None = None


# ---- Webhook


class ConfigMapKeyRef(_Spec, frozen=True, kw_only=True):
    """One key of a ConfigMap in the same namespace."""

    name: str
    key: str


class Transform(_Spec, frozen=True, kw_only=True):
    """JavaScript that makes an event of a request: exactly one of the two is set."""

    script: str | None = None
    config_map_ref: ConfigMapKeyRef | None = None


class SecretVerify(_Spec, frozen=True, kw_only=True):
    """A kind of proof that needs nothing but its secret."""

    secret_ref: SecretKeyRef


class HmacVerify(_Spec, frozen=True, kw_only=True):
    """HMAC of the body in a header of one's own choice."""

    secret_ref: SecretKeyRef
    header: str
    algorithm: Literal["sha1", "sha256", "sha512"] | None = None
    encoding: Literal["hex", "base64"] | None = None
    prefix: str | None = None


class Verify(_Spec, frozen=True, kw_only=True):
    """How a request proves where it comes from: exactly one of the kinds is set."""

    github: SecretVerify | None = None
    """Signature in `X-Hub-Signature-256`."""
    stripe: SecretVerify | None = None
    """Signature in `Stripe-Signature`."""
    slack: SecretVerify | None = None
    """Signature in `X-Slack-Signature`."""
    standard_webhooks: SecretVerify | None = None
    """Signature in `webhook-signature` (also `svix-signature`)."""
    hmac: HmacVerify | None = None
    basic: SecretVerify | None = None
    """HTTP basic authentication: the Secret's value is `user:password`."""
    bearer: SecretVerify | None = None
    """A bearer token."""
    tolerance: str | None = None


class WebhookSpec(_Spec, frozen=True, kw_only=True):
    """`spec` of a Webhook."""

    transform: Transform
    verify: Verify | None = None
    allow_cidrs: tuple[str, ...] = msgspec.field(default=(), name="allowCIDRs")
