"""What the gateway is told: its mode, its keys, its limits."""

import hmac
from typing import Any, Literal

import msgspec

from innkeeper_apps.sandbox.pool import SandboxLimits
from innkeeper_apps.wire.keys import signing_key_digests
from innkeeper_engine.model.environments import Environment, EventKey, Policy, SigningKey, key_digest

AutoRegister = Literal["Always", "Existing", "Never"]

KIB = 1024
MIB = 1024 * KIB

MAX_EVENT_BYTES = 3 * MIB
"""No setting raises the size of one event beyond this."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much one request may carry. Sizes in bytes, of what is left after decompression."""

    event_bytes: int = 512 * KIB
    """One event, as it is stored; at most 3 MiB."""
    events: int = 5_000
    """Events in one request."""
    name_bytes: int = 512
    """The name of an event, in UTF-8."""
    request_bytes: int = 10 * MIB
    """A request, before and after decompression; a checkpoint has its own limit."""
    checkpoint_bytes: int = 40 * MIB
    """A checkpoint: single step outputs are limited to 4 MiB, together they may be as large as a run's state."""
    state_bytes: int = 32 * MIB
    """What a run may hold in all."""
    steps: int = 1_000
    """How many steps a run may have."""

    def __post_init__(self) -> None:
        if not 1 <= self.event_bytes <= MAX_EVENT_BYTES:
            raise ValueError(f"event_bytes is {self.event_bytes}: it must be 1 to {MAX_EVENT_BYTES} (3 MiB)")


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the gateway needs to know besides where its store is. Printing it shows no key."""

    dev: bool = False
    """Development mode: any event key is taken, no bearer is asked for, `GET /dev` answers."""
    managed: bool = False
    """An operator writes environments and their keys into the store; registrations are left there for it."""
    env: str = "default"
    """The environment that the keys below open; what clients with them ask for in `x-inngest-env` is not looked at."""
    event_keys: tuple[str, ...] = ()
    """Outside dev mode an event must come with one of these."""
    signing_key: str | None = None
    """Outside dev mode callers of the API show it, or the fallback; with neither set nobody is let in."""
    signing_key_fallback: str | None = None
    admin_token: str | None = None
    """Who shows it may do everything everywhere: for small installations and for emergencies."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks (CIDR) of proxies whose `X-Forwarded-For` says where a request comes from."""
    limits: Limits = Limits()
    events_per_s: int = 5_000
    """Events a second that one key, or webhook, may send to this gateway, where the environment's policy names no number
    of its own; 0: any. In dev mode any."""
    requests_per_s: int = 500
    """Requests a second that one caller may make to the API of this gateway, those of SDKs excepted; 0: any. In dev mode
    any."""
    refusals_per_s: int = 10
    """Refusals a second that one sender gets at once, more come later (see `patience.py`); 0: all. In dev mode all."""
    webhook_key: bytes | None = None
    """32 bytes that open the secrets of webhooks and nothing else; without it those that want a proof take nothing."""
    webhooks_url: str = ""
    """Where providers of webhooks reach the gateway; empty: where whoever asks does."""
    webhook_intents: bool = False
    """Whether there is a page on which people approve webhooks that sites ask for."""
    dev_hosts: tuple[str, ...] = ()
    """Names by which a development server may be called, and whose pages may steer it, besides those of the machine."""
    webhook_redirects: tuple[str, ...] = ()
    """Hosts (`*.suffix` too) that a browser may be sent to with the URL of a webhook that was approved, besides those of
    the environment."""
    intent_wait_s: float = 10.0
    """How long somebody who has approved a webhook waits for the operator to make it."""
    sandbox: SandboxLimits = SandboxLimits()
    """What the transforms of webhooks may use."""
    auto_register: AutoRegister = "Always"
    """Which apps may register themselves: all, those that are known or declared already, none."""
    routed_wait_s: float = 5.0
    """How long `GET /v1/events/{id}/runs` waits for an event to be routed."""
    folded_wait_s: float = 1.0
    """How long `GET /v1/runs/{id}` waits for the recorder to have caught up."""
    store_timeout_s: float = 5.0
    """How long a request waits for Redis before it is answered 503."""
    version: str = "0.0.0"
    """The server's own version, shown by `GET /dev`."""

    @property
    def server_kind(self) -> str:
        """What the server calls itself in `X-Inngest-Server-Kind`."""
        return "dev" if self.dev else "cloud"

    @property
    def signing_keys(self) -> tuple[str, ...]:
        """The keys that a bearer may show, the current one first."""
        return tuple(key for key in (self.signing_key, self.signing_key_fallback) if key)

    def is_admin_token(self, shown: str) -> bool:
        """Whether this is the admin token; compared in constant time."""
        if not self.admin_token or not shown:
            return False
        return hmac.compare_digest(key_digest(shown), key_digest(self.admin_token))

    def events_rate(self, policy: Policy) -> int:
        """Events a second that a key of an environment with this policy may send; 0: any."""
        return 0 if self.dev else policy.events_per_s or self.events_per_s

    @property
    def requests_rate(self) -> int:
        """Requests a second that a caller of the API may make; 0: any."""
        return 0 if self.dev else self.requests_per_s

    @property
    def refusals_rate(self) -> int:
        """Refusals a second that one sender gets at once; 0: all."""
        return 0 if self.dev else self.refusals_per_s

    @property
    def own_environment(self) -> Environment:
        """`env`, with the keys that these settings hold."""
        return Environment(
            name=self.env,
            event_keys=tuple(EventKey(name="settings", digest=key_digest(key)) for key in self.event_keys),
            signing_keys=tuple(
                SigningKey(name="settings", digests=signing_key_digests(key)) for key in self.signing_keys
            ),
        )

    def __repr__(self) -> str:
        """The mode and how many keys there are, never a key."""
        return (
            f"GatewaySettings(dev={self.dev}, env={self.env!r}, event_keys={len(self.event_keys)}, "
            f"signing_keys={len(self.signing_keys)}, managed={self.managed}, auto_register={self.auto_register!r})"
        )

    def __rich_repr__(self) -> Any:
        yield repr(self)
