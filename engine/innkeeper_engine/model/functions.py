"""What an app declares: its functions and their settings, checked and in one form.

Durations are whole milliseconds here; the text that the SDK sent is kept in `declared`.
"""

from typing import Literal

import msgspec

Scope = Literal["fn", "env", "account"]
CatchUp = Literal["None", "Latest", "All"]
NewRuns = Literal["Skip", "Queue"]
RunningRuns = Literal["Continue", "Hold"]

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
    paused: bool = False
    new_runs: NewRuns = "Skip"
    """While paused: a run that would start is recorded as Skipped, or waits in the queue."""
    running: RunningRuns = "Continue"
    """While paused: runs that have begun go on, or their steps wait in the queue."""
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
    draining: bool = False
    """The app is about to go: its runs go on, nothing starts new ones."""
    orphaned: bool = False
    """Nobody declares the app any more, and it was asked to go on all the same."""
    synced_at_ms: int = 0
    version: int = 1
    """Rises with every sync that changed something."""
