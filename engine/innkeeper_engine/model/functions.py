"""What an app declares: its functions and their settings, checked and in one form.

Durations are whole milliseconds here; the text that the SDK sent is kept in `declared`.
"""

from typing import Literal

import msgspec

Scope = Literal["fn", "env", "account"]
CatchUp = Literal["None", "Latest", "All"]
NewRuns = Literal["Skip", "Queue"]
RunningRuns = Literal["Continue", "Hold"]
SingletonMode = Literal["skip", "cancel"]

DEFAULT_RETRIES = 4
MAX_RETRIES = 20


class Trigger(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One thing that starts a function: an event name (`*` and `prefix/*` allowed) or a cron line, never both."""

    event: str | None = None
    expression: str | None = None
    """CEL over `event`; the trigger counts only where this is `true`."""
    cron: str | None = None
    jitter_ms: int = 0
    catch_up: CatchUp = "Latest"
    """What happens with the slots of a cron that were missed while nothing ran. All: the last 100 of them."""


class Cancel(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An event that cancels the function's runs."""

    event: str
    expression: str | None = None
    """CEL over `event` (the run's first) and `async` (the cancelling one)."""
    timeout_ms: int | None = None
    """How long after the start the event still cancels; None: a year."""


class Concurrency(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """At most `limit` requests at one instant, counted per value of `key` in `scope`."""

    limit: int
    key: str | None = None
    scope: Scope = "fn"


class Throttle(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Runs begin `period_ms / limit` apart, `burst` of them at once; the others wait. Counted per value of `key`."""

    limit: int
    period_ms: int
    burst: int = 1
    key: str | None = None


class RateLimit(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """At most `limit` runs are made in any `period_ms`; the others are skipped. Counted per value of `key`."""

    limit: int
    period_ms: int
    key: str | None = None


class Debounce(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A run is made when no event came for `period_ms`, with the last one; after `timeout_ms` in any case."""

    period_ms: int
    timeout_ms: int | None = None
    key: str | None = None


class Batch(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One run gets up to `max_size` events: when there are so many, or `timeout_ms` after the first."""

    max_size: int
    timeout_ms: int
    key: str | None = None
    expression: str | None = None
    """CEL over `event`; one for which this is not `true` starts a run of its own at once."""


class Singleton(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One run at a time per value of `key`: another one is skipped, or takes the place of the one that goes on."""

    mode: SingletonMode
    key: str | None = None


class Timeouts(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A run that has not begun `start_ms` after it could, or not ended `finish_ms` after it began, is cancelled."""

    start_ms: int | None = None
    finish_ms: int | None = None


class FunctionConfig(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One function as registered, validated."""

    slug: str
    """`{app id}-{function id}`: the identity on the wire and in the engine."""
    name: str
    url: str
    """Where the app wants to be called for this function (query `fnId` and `stepId` included)."""
    triggers: tuple[Trigger, ...] = ()
    """Empty: can only be invoked."""
    retries: int = DEFAULT_RETRIES
    cancel: tuple[Cancel, ...] = ()
    concurrency: tuple[Concurrency, ...] = ()
    throttle: Throttle | None = None
    rate_limit: RateLimit | None = None
    debounce: Debounce | None = None
    batch: Batch | None = None
    priority: str | None = None
    """CEL over `event`: how many seconds older than it is a run is taken to be, -600 to 600, among its function's."""
    singleton: Singleton | None = None
    idempotency: str | None = None
    """CEL over `event`: for each value one run in 24 hours; the others are skipped."""
    timeouts: Timeouts | None = None
    paused: bool = False
    new_runs: NewRuns = "Skip"
    """While paused: a run that would start is recorded as Skipped, or waits in the queue."""
    running: RunningRuns = "Continue"
    """While paused: runs that have begun go on, or their steps wait in the queue."""
    paused_by: str = ""
    """While paused: the field manager that said so, where that is known."""
    paused_since_ms: int = 0
    """While paused: since when the operator has seen it so; 0: nobody has noted it."""
    object_name: str = ""
    """What the function's object in Kubernetes is called: grants may name it."""
    not_enforced: tuple[str, ...] = ()
    """Options that were declared and are valid, but that this version does not act on."""
    declared: msgspec.Raw = msgspec.Raw(b"{}")
    """The configuration as the SDK sent it (JSON)."""


class App(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One served application, as its last good sync described it."""

    id: str
    """The app id that the SDK reports (its client id)."""
    url: str
    """The serve endpoint."""
    public_only: bool = False
    """Its URLs are a person's: they may be at public addresses, and where the environment's policy says. False: they
    are the platform's, or were registered before there were two classes."""
    functions: tuple[FunctionConfig, ...] = ()
    sdk_language: str = ""
    sdk_version: str = ""
    framework: str = ""
    app_version: str = ""
    capabilities: dict[str, str] = {}
    checksum: str = ""
    """Hash of what was declared; an equal one changes nothing."""
    signing_keys: tuple[bytes, ...] = ()
    """Sealed keys that sign requests to this app, the current one first; none: the executor's own."""
    paused: bool = False
    """Nobody calls the app: everything that it has to do waits in the queue."""
    paused_by: str = ""
    """While paused: the field manager that said so, where that is known."""
    paused_since_ms: int = 0
    """While paused: since when the operator has seen it so; 0: nobody has noted it."""
    object_name: str = ""
    """What the app's object in Kubernetes is called: grants may name it."""
    draining: bool = False
    """The app is about to go: its runs go on, nothing starts new ones."""
    orphaned: bool = False
    """Nobody declares the app any more, and it was asked to go on all the same."""
    synced_at_ms: int = 0
    version: int = 1
    """Rises with every sync that changed something."""
