"""What the API answers with: events, runs, functions and apps.

The structs describe; no route makes one. Tests hold every answer against them, and nothing may be in an answer that is
not here.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from innkeeper_engine.model.functions import NewRuns, RunningRuns
from innkeeper_engine.model.state import RunStatus
from innkeeper_engine.model.switches import PausedBy
from innkeeper_gateway.openapi.kinds import Count, Instant, Object, Ulid, Uuid

# ---- events


class Event(msgspec.Struct):
    """An event that was accepted."""

    internal_id: Annotated[Ulid, Meta(description="The server's own id, as `POST /e/{key}` gave it.")]
    account_id: Uuid
    environment_id: Uuid
    source: str
    source_id: None
    received_at: Instant
    id: Annotated[str, Meta(description="The sender's id where it gave one.", examples=["order-7"])]
    name: Annotated[str, Meta(examples=["shop/order.placed"])]
    data: Annotated[
        Object | None,
        Meta(description="Null for who may not see payloads.", examples=[{"orderId": 7, "total": 120}]),
    ]
    ts: Annotated[int, Meta(description="When it happened, by its sender: ms since 1970.")]
    user: (
        Annotated[
            Any, Meta(description="Not there where it has none, and null for who may not see payloads.")
        ]
        | UnsetType
    ) = UNSET
    v: Annotated[str, Meta(description="The version of its payload, as its sender says.")] | UnsetType = UNSET


class ListedEvent(Event):
    """An event of a list."""

    branch: Annotated[str, Meta(description="Where it came for, with `unknown_branch`.")] | UnsetType = UNSET


class EventType(msgspec.Struct):
    """A name that events have had."""

    name: Annotated[str, Meta(examples=["shop/order.placed"])]
    last_received_at: Instant
    count_today: Annotated[Count, Meta(description="Since midnight, UTC.")]
    sample: Annotated[
        Event | None,
        Meta(description="The newest event; null once it is not kept any more. A large one has no data."),
    ]


class SignalTaken(msgspec.Struct):
    """Who got a signal."""

    run_id: Ulid


# ---- runs


class Run(msgspec.Struct):
    """A run of a function."""

    run_id: Ulid
    run_started_at: Annotated[Instant, Meta(description="Before its first call the time when it was made.")]
    function_id: Uuid
    function_slug: Annotated[str, Meta(examples=["shop-process-order"])]
    function_version: Annotated[
        Count, Meta(description="The version of its app now; 0 once the function is gone.")
    ]
    environment_id: Uuid
    app_id: str
    event_id: Annotated[Ulid | None, Meta(description="Its first event.")]
    status: RunStatus
    queued_at: Instant
    ended_at: Instant | None
    cron: Annotated[str, Meta(description="The schedule that started it.")] | UnsetType = UNSET
    rerun_of: Annotated[Ulid, Meta(description="The run that this one is once more.")] | UnsetType = UNSET
    replay_id: Annotated[Ulid, Meta(description="The replay that made it.")] | UnsetType = UNSET
    notes_lost: (
        Annotated[Count, Meta(description="Lines of its history that went early, because memory was short.")]
        | UnsetType
    ) = UNSET
    output: Annotated[
        Any,
        Meta(
            description="What the function returned or, of a run that failed or was cancelled, the error. Not there "
            "before its end, in lists, and for who may not see payloads."
        ),
    ] = UNSET


class Step(msgspec.Struct):
    """A step of a run."""

    id: Annotated[str, Meta(description="As the SDK hashes it: what `from_step.step_id` of a rerun takes.")]
    name: str
    op: Annotated[str, Meta(examples=["StepRun"])]
    status: Annotated[
        str,
        Meta(description="Waiting, Retrying, Completed, Failed, or Cancelled where its run ended before it."),
    ]
    attempts: Annotated[int, Meta(ge=1)]
    started_at: Instant | None
    ended_at: Instant | None
    inherited: (
        Annotated[bool, Meta(description="The run began with its result: it is a rerun from a later step.")]
        | UnsetType
    ) = UNSET
    output: Annotated[Any, Meta(description="Its result.")] = UNSET
    error: Annotated[Any, Meta(description="Why it failed, or fails for now.")] = UNSET


class RunNote(msgspec.Struct):
    """Something that concerns a run as a whole. Fields beside these depend on `type`."""

    at: Instant | None
    type: Annotated[str, Meta(description="attempt, cancelled, key, rerun, skipped or stuck.")]


class RunWithSteps(Run, kw_only=True):
    """A run with what it has done."""

    steps: list[Step]
    notes: list[RunNote]


class MadeRun(msgspec.Struct):
    """A run that was made."""

    run_id: Ulid
    status: RunStatus


class _Node(msgspec.Struct, tag_field="kind"):
    status: str
    started_at: Instant | None
    ended_at: Instant | None
    duration_ms: Annotated[Count | None, Meta(description="Null while it goes on, or where nobody knows.")]
    children: "list[TracedRun | TracedStep | TracedAttempt]"


class TracedRun(_Node, tag="run", kw_only=True):
    """A run in a trace: the root, or one that a step invoked, whose own trace is asked for by its id."""

    run_id: Ulid
    function_slug: str
    app_id: str
    queued_at: Instant
    output: Any = UNSET


class TracedStep(_Node, tag="step", kw_only=True):
    """A step in a trace; its children are its failed attempts and the runs that it invoked."""

    id: str
    name: str
    op: str
    attempts: Annotated[int, Meta(ge=1)]
    inherited: (
        Annotated[bool, Meta(description="The run began with its result: it is a rerun from a later step.")]
        | UnsetType
    ) = UNSET
    output: Any = UNSET
    error: Any = UNSET


class TracedAttempt(_Node, tag="attempt", kw_only=True):
    """An attempt that failed, of a step or of a request as a whole."""

    attempt: Annotated[Count, Meta(description="From 0.")]
    retry_at: Annotated[Instant | None, Meta(description="When it was to be made again.")]
    error: Any = UNSET


# ---- functions and apps


class Pause(msgspec.Struct):
    """Why something is paused."""

    by: Annotated[PausedBy, Meta(description="Its spec, a pause over the API (a switch), or both.")]
    who: str | None
    since: Instant | None
    reason: str | UnsetType = UNSET
    new_runs: (
        Annotated[NewRuns, Meta(description="What becomes of a function's runs that would start.")]
        | UnsetType
    ) = UNSET
    running: (
        Annotated[RunningRuns, Meta(description="What becomes of a function's runs that have begun.")]
        | UnsetType
    ) = UNSET


class Trigger(msgspec.Struct):
    """What starts a function: a schedule, or an event."""

    cron: Annotated[str, Meta(examples=["TZ=Europe/Berlin 0 9 * * 1-5"])] | UnsetType = UNSET
    event: Annotated[str, Meta(examples=["shop/order.placed"])] | UnsetType = UNSET
    expression: str | UnsetType | None = UNSET


class FunctionRuns(msgspec.Struct):
    """How a function's runs are doing."""

    queued: Annotated[Count, Meta(description="Not begun.")]
    running: Annotated[Count, Meta(description="Begun and not ended, sleeping ones included.")]
    completed_24h: Count
    failed_24h: Count
    last_run_at: Instant | None


class Function(msgspec.Struct):
    """A function."""

    internal_id: Uuid
    environment_id: Uuid
    app_id: str
    id: Annotated[
        str, Meta(description="Its slug, `<app id>-<function id>`.", examples=["shop-process-order"])
    ]
    name: str
    url: str
    object_name: Annotated[str | None, Meta(description="What the Function of Kubernetes is called.")]
    triggers: list[Trigger]
    not_enforced: Annotated[list[str], Meta(description="What it declares and this server does not do.")]
    paused: Pause | None
    app_paused: Pause | None
    runs: FunctionRuns
    synced_at: Instant


class FunctionWithConfig(Function, kw_only=True):
    """A function with what it declared."""

    config: Object


class AppFunction(msgspec.Struct):
    """A function as `GET /v1/apps/{app_id}/functions` shows it, as SDKs know it."""

    internal_id: Uuid
    env_id: Uuid
    app_id: Uuid
    id: str
    name: str
    config: Object
    not_enforced: list[str]
    created_at: Instant
    archived_at: None
    paused: Pause | None
    app_paused: Pause | None


class Sdk(msgspec.Struct):
    """With what an app was written."""

    language: Annotated[str, Meta(examples=["js"])]
    version: Annotated[str, Meta(examples=["4.24.0"])]
    framework: str | None


class App(msgspec.Struct):
    """An app."""

    internal_id: Uuid
    environment_id: Uuid
    id: Annotated[str, Meta(examples=["shop"])]
    url: str
    sdk: Sdk
    app_version: str | None
    version: Annotated[Count, Meta(description="How often what it declares has changed.")]
    function_count: Count
    paused: Pause | None
    draining: Annotated[bool, Meta(description="It is being removed, and starts nothing.")]
    orphaned: Annotated[bool, Meta(description="Nobody declares it any more.")]
    synced_at: Instant


class AppWithFunctions(App, kw_only=True):
    """An app with the slugs of its functions."""

    functions: list[str]


class FunctionSwitched(msgspec.Struct):
    """How a function stands after a pause or a resume."""

    id: str
    app_id: str
    paused: Pause | None
    app_paused: Pause | None


class AppSwitched(msgspec.Struct):
    """How an app stands after a pause or a resume."""

    id: str
    paused: Pause | None


class SyncRequested(msgspec.Struct):
    """The operator has been told to ask the app."""

    id: str
    sync: Literal["Requested"]


class SyncDone(msgspec.Struct):
    """The app has been asked."""

    id: str
    sync: Literal["Done"]
    modified: Annotated[bool, Meta(description="Whether it declares anything else than before.")]


class _Waiting(msgspec.Struct):
    queued: Annotated[Count, Meta(description="Runs that have not begun.")]
    running: Annotated[Count, Meta(description="Runs that have begun and not ended, sleeping ones included.")]
    oldest_age_s: Annotated[
        float,
        Meta(ge=0, description="How long ago the oldest that has not begun was made; 0 where none waits."),
    ]


class FunctionBacklog(_Waiting, kw_only=True):
    """What a function has to do."""

    function_id: Annotated[str, Meta(description="Its slug.")]


class AppBacklog(_Waiting, kw_only=True):
    """What an app has to do."""

    app_id: Annotated[str | None, Meta(description="Null: of functions that are gone.")]
    functions: list[FunctionBacklog]


class Backlog(_Waiting, kw_only=True):
    """What there is to do."""

    apps: list[AppBacklog]
