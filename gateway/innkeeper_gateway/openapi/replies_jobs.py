"""What the API answers with: jobs over many runs, dead letters, and what senders and SDKs are told."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from innkeeper_gateway.openapi.kinds import ULID_EXAMPLE, Count, Instant, Object, Ulid, Uuid

Ended = Literal["Completed", "Failed", "Cancelled", "Skipped"]

# ---- many runs

_IF = "An expression over `event`; null for who may not see payloads."


class CancellationAsked(msgspec.Struct, kw_only=True):
    """A cancellation of many runs, as it was asked for."""

    id: Ulid
    environment_id: Uuid
    function_id: str
    started_after: Annotated[Instant | None, Meta(description="Null: at any time.")]
    started_before: Instant
    if_: Annotated[str | None, Meta(description=_IF)] | UnsetType = msgspec.field(name="if", default=UNSET)


class Cancellation(CancellationAsked, kw_only=True):
    """A cancellation of many runs, and how far it is."""

    app_id: str
    created_at: Instant
    status: Literal["Running", "Completed"]
    total: Annotated[Count, Meta(description="Runs of the function that went on when it was made.")]
    looked: Annotated[Count, Meta(description="How many of those that were there have been looked at.")]
    cancelled: Annotated[Count, Meta(description="How many of those that were there have been cancelled.")]
    done: Annotated[bool, Meta(description="All of those that were there have been looked at.")]


class Replay(msgspec.Struct, kw_only=True):
    """A replay of many runs, and how far it is."""

    id: Ulid
    app_id: str
    function_id: str
    function_slug: str
    from_: Annotated[Instant | None, Meta(description="Null: at any time.")] = msgspec.field(name="from")
    until: Instant
    statuses: list[Ended]
    created_at: Instant
    status: Literal["Running", "Waiting", "Completed"]
    total: Annotated[Count, Meta(description="Runs of the environment in the window, when it was made.")]
    looked: Count
    replayed: Annotated[Count, Meta(description="How many it has run once more.")]
    unavailable: Annotated[Count, Meta(description="How many were meant whose event is gone or unreadable.")]
    done: bool
    if_: Annotated[str | None, Meta(description=_IF)] | UnsetType = msgspec.field(name="if", default=UNSET)
    waiting_for: Annotated[str, Meta(description="Why it waits.")] | UnsetType = UNSET


# ---- dead letters


class Failure(msgspec.Struct):
    """Why a transform made no events."""

    code: Annotated[str, Meta(examples=["thrown"])]
    line: Annotated[int | None, Meta(description="Where in the transform.")]
    column: int | None


class FailureTold(Failure):
    """Why a transform made no events, in its own words."""

    message: Annotated[str | None, Meta(description="Null for who may not see payloads.")]


class Base64(msgspec.Struct):
    """Bytes that are no UTF-8."""

    base64: Annotated[str, Meta(extra_json_schema={"contentEncoding": "base64"})]


class LetterRequest(msgspec.Struct):
    """What a provider sent."""

    headers: Annotated[list[tuple[str, str]], Meta(description="Names, in lower case, and values.")]
    query: Annotated[str, Meta(description="As it came, undecoded.")]
    body: str | Base64


class _Letter(msgspec.Struct, kw_only=True):
    id: Ulid
    webhook: str
    environment: str
    received_at: Instant
    body_bytes: Count


class ShortLetter(_Letter, kw_only=True):
    """A dead letter without what came in it."""

    failure: Failure


class Letter(_Letter, kw_only=True):
    """A dead letter: a webhook's request of which no events were made."""

    failure: FailureTold
    request: Annotated[LetterRequest | None, Meta(description="Null for who may not see payloads.")]


class LettersPage(msgspec.Struct):
    """Where the list of dead letters goes on."""

    cursor: Annotated[Ulid | None, Meta(description="For the next page; null on the last.")]
    has_more: bool
    limit: Annotated[int, Meta(ge=1, description="How many entries the page has at most.")]
    dropped: Annotated[Count, Meta(description="How many had to go early, because there were too many.")]


class LetterReplayed(msgspec.Struct):
    """What became of a dead letter."""

    ids: Annotated[list[Ulid], Meta(description="The events that were made of it.")]


# ---- senders and SDKs


class EventsTaken(msgspec.Struct):
    """All events of the request are stored."""

    ids: Annotated[
        list[str],
        Meta(description='One for each event, in order; `[""]` for none.', examples=[[ULID_EXAMPLE]]),
    ]
    status: Literal[200]


class EventsRefused(msgspec.Struct):
    """Nothing of the request was taken."""

    status: Annotated[int, Meta(ge=400, le=599)]
    error: Annotated[
        str,
        Meta(description="What is wrong, and with which event.", examples=["events[2]: event name is empty"]),
    ]
    ids: list[Literal[""]] | UnsetType = UNSET
    message: Annotated[Literal[""], Meta(description="With a key that is not known.")] | UnsetType = UNSET


class WebhookTaken(msgspec.Struct):
    """The events that were made of the request."""

    ids: list[Ulid]
    status: Literal[200]


class WebhookKept(msgspec.Struct):
    """No events were made of the request: it is kept as a dead letter."""

    ids: Annotated[list[str], Meta(max_length=0)]
    status: Literal[202]
    message: str


class WebhookRefused(msgspec.Struct):
    """The request was not taken."""

    error: str
    status: Annotated[int, Meta(ge=400, le=599)]


class Invoked(msgspec.Struct):
    """The event that starts the run; `GET /v1/events/{id}/runs` finds it."""

    id: Ulid
    status: Literal[200]


class Problem(msgspec.Struct):
    """Something wrong, or odd, in a registration."""

    function: str | None
    field: str
    message: str


class Registered(msgspec.Struct):
    """An app has registered."""

    ok: Literal[True]
    modified: bool
    sync_id: Uuid
    app_id: Uuid
    warnings: list[Problem] | UnsetType = UNSET


class RegistrationRefused(msgspec.Struct):
    """Why an app was not registered, with everything that is wrong in what it declares."""

    error: str
    data: Any
    status: Annotated[int, Meta(ge=400, le=599)]
    problems: list[Problem] | UnsetType = UNSET


class Alive(msgspec.Struct):
    """The process answers."""

    status: Literal[200]
    message: str


class Readiness(msgspec.Struct):
    """Whether requests should come here."""

    status: Literal[200, 503]
    checks: Annotated[dict[str, str], Meta(description="`ok`, or what is wrong, by name.")]
    durability: Annotated[str, Meta(description="fsync, memory or unknown.")]


class DevInfo(msgspec.Struct, rename="camel"):
    """What is registered with a server in dev mode."""

    version: str
    authed: bool
    is_single_node_service: bool
    start_opts: Object
    functions: list[Object]
    handlers: list[Object]
    features: Object
