"""What the API takes: the bodies of requests. They describe; what reads a body stands with its route."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from innkeeper_gateway.ingest import EARLIEST_MS, LATEST_MS
from innkeeper_gateway.openapi.kinds import Object
from innkeeper_gateway.openapi.replies_jobs import Ended

Name = Annotated[str, Meta(min_length=1, max_length=255)]
When = Annotated[
    str,
    Meta(
        description="RFC 3339; a date alone is its midnight, UTC.",
        extra_json_schema={"anyOf": [{"format": "date-time"}, {"format": "date"}]},
        examples=["2026-11-22T10:33:08.432Z"],
    ),
]
Reason = Annotated[str, Meta(max_length=500, description="Why, for whoever looks.")]


class NewEvent(msgspec.Struct):
    """An event to be sent. Keys beside these are dropped; null is the same as absent."""

    name: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=512,
            description="512 bytes at most, no control characters, not `inngest/...`.",
            examples=["shop/order.placed"],
        ),
    ]
    data: Annotated[Object | None, Meta(examples=[{"orderId": 7, "total": 120}])] | UnsetType = UNSET
    user: Object | UnsetType | None = UNSET
    id: (
        Annotated[
            str | None, Meta(description="An event with an id that was sent before starts nothing again.")
        ]
        | UnsetType
    ) = UNSET
    ts: (
        Annotated[
            int | None, Meta(description=f"ms since 1970, {EARLIEST_MS} to {LATEST_MS}; 0 or none: now.")
        ]
        | UnsetType
    ) = UNSET
    v: str | UnsetType | None = UNSET
    meta: Object | UnsetType | None = UNSET


class InvokeEvent(msgspec.Struct):
    """With what a function is started: an event without a name."""

    data: Annotated[Object | None, Meta(examples=[{"orderId": 7}])] | UnsetType = UNSET
    user: Object | UnsetType | None = UNSET
    id: str | UnsetType | None = UNSET
    ts: int | UnsetType | None = UNSET
    v: str | UnsetType | None = UNSET


class Signal(msgspec.Struct):
    """A signal, for the run that waits for it."""

    signal: Annotated[str, Meta(min_length=1, examples=["approval/order-7"])]
    data: Annotated[Any, Meta(examples=[{"approved": True}])] = None


class FromStep(msgspec.Struct, forbid_unknown_fields=True):
    """Where a run is to begin."""

    step_id: Annotated[str, Meta(description="The `id` of one of the `steps` of the run.")]
    input: Annotated[
        Any,
        Meta(
            description="In place of the step's own: the list of arguments of step.run or step.ai.wrap of the TypeScript "
            "SDK, or the object that is laid over the body of step.ai.infer."
        ),
    ] = UNSET


class Rerun(msgspec.Struct, forbid_unknown_fields=True):
    """How a run is to be run again; nothing: from the top."""

    from_step: FromStep | UnsetType = UNSET


class NewCancellation(msgspec.Struct, forbid_unknown_fields=True):
    """Which runs are to be cancelled."""

    app_id: Annotated[Name, Meta(examples=["shop"])]
    function_id: Annotated[
        Name,
        Meta(description="As its own code has it; the slug is understood too.", examples=["process-order"]),
    ]
    started_before: When
    started_after: When | UnsetType | None = UNSET
    if_: (
        Annotated[
            str | None, Meta(description="An expression over `event`.", examples=["event.data.total > 100"])
        ]
        | UnsetType
    ) = msgspec.field(name="if", default=UNSET)


class NewReplay(msgspec.Struct, forbid_unknown_fields=True):
    """Which runs are to be run once more."""

    app_id: Annotated[Name, Meta(examples=["shop"])]
    function_id: Annotated[
        Name,
        Meta(description="As its own code has it; the slug is understood too.", examples=["process-order"]),
    ]
    from_: When | UnsetType | None = msgspec.field(name="from", default=UNSET)
    until: When | UnsetType | None = UNSET
    statuses: (
        Annotated[list[Ended], Meta(min_length=1, description="Without them Failed.", examples=[["Failed"]])]
        | UnsetType
    ) = UNSET
    if_: Annotated[str | None, Meta(description="An expression over `event`.")] | UnsetType = msgspec.field(
        name="if", default=UNSET
    )


class PauseFunction(msgspec.Struct, forbid_unknown_fields=True):
    """How a function is to be paused."""

    reason: Annotated[Reason | None, Meta(examples=["the warehouse is closed"])] | UnsetType = UNSET
    new_runs: (
        Annotated[
            Literal["Skip", "Queue"] | None,
            Meta(description="What becomes of runs that would start; without it as its spec says."),
        ]
        | UnsetType
    ) = UNSET
    running: (
        Annotated[
            Literal["Continue", "Hold"] | None, Meta(description="What becomes of runs that have begun.")
        ]
        | UnsetType
    ) = UNSET


class PauseApp(msgspec.Struct, forbid_unknown_fields=True):
    """How an app is to be paused."""

    reason: Reason | UnsetType | None = UNSET


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """There is nothing to say."""


class Checkpoint(msgspec.Struct):
    """Results of steps, sent by an SDK while its call goes on."""

    run_id: Annotated[str, Meta(min_length=1)]
    fn_id: Annotated[str, Meta(min_length=1)]
    qi_id: Annotated[str, Meta(min_length=1, description="As the request of the call said it.")]
    request_id: Annotated[str, Meta(min_length=1)]
    generation_id: int
    steps: list[Object]


class Registration(msgspec.Struct, rename={"app_name": "appName"}):
    """An app with its functions, as SDKs write it. Both SDKs' spellings are read."""

    url: Annotated[str, Meta(min_length=1, examples=["http://127.0.0.1:3000/api/inngest"])]
    app_name: Annotated[str, Meta(min_length=1, max_length=255, examples=["shop"])]
    functions: (
        Annotated[list[Object] | None, Meta(description="None where it is empty, null or missing.")]
        | UnsetType
    ) = UNSET
