"""What each route answers and takes, by method and path; parameters and descriptions are the routes' own."""

from collections.abc import Mapping
from typing import Any, Final

from innkeeper_gateway.openapi import bodies, kinds, replies, replies_jobs
from innkeeper_gateway.openapi.operation import Key, Operation, Reply

_READ: Final = (413, 415)
"""Whoever reads a body may refuse it for its size and its encoding."""


def _data(type_: Any, description: str = "Here it is.") -> Mapping[int, Reply]:
    return {200: Reply(description, type_)}


def _page(type_: Any, description: str = "A page, newest first.") -> Mapping[int, Reply]:
    return {200: Reply(description, list[type_], "page")}


def _bare(type_: Any, description: str = "Here it is.") -> Mapping[int, Reply]:
    return {200: Reply(description, type_, "bare")}


_EMPTY: Final[Mapping[int, Reply]] = {200: Reply("Done; the body is empty.")}

_EVENTS, _RUNS, _MANY, _FUNCTIONS, _APPS = "Events", "Runs", "Many runs", "Functions", "Apps"
_LETTERS, _METRICS, _SDK, _SERVER = "Dead letters", "Metrics", "SDKs", "Server"

TAGS: Final[Mapping[str, str]] = {
    _EVENTS: "Send events, look at them.",
    _RUNS: "Look at runs, cancel them, run them again.",
    _MANY: "Cancel or run again all runs of a function in a window of time. These are jobs, with progress.",
    _FUNCTIONS: "What is registered, paused or not; start one by hand.",
    _APPS: "Apps and what waits for them.",
    _LETTERS: "Webhooks, and requests to them of which no events were made.",
    _METRICS: "For Prometheus.",
    _SDK: "What SDKs use by themselves.",
    _SERVER: "About the server.",
}

_EVENT_OPERATIONS: Final[Mapping[Key, Operation]] = {
    ("POST", "/e/{key}"): Operation(
        id="sendEvents",
        tag=_EVENTS,
        summary="Send events",
        description="One event, or an array of at most 5,000; all of them are taken, or none. 200 says that they are "
        "stored, as durably as Redis stores them. A repeated send with the same seed stores them once. Browsers may send "
        "too. `x-inngest-env` may stand in the query.",
        replies=_bare(replies_jobs.EventsTaken, "Stored."),
        refusals=(400, 401, 403, 413, 415, 429, 503),
        error=replies_jobs.EventsRefused,
        body=bodies.NewEvent | list[bodies.NewEvent],
        body_required=False,
        who="path",
        method_parameters=("Environment", "Seed"),
    ),
    ("OPTIONS", "/e/{key}"): Operation(
        id="preflightEvents",
        tag=_EVENTS,
        summary="What browsers ask before they send events",
        description="Any origin may send events with any headers.",
        replies={204: Reply("It may.")},
        who="nobody",
    ),
    ("GET", "/v1/events"): Operation(
        id="listEvents", tag=_EVENTS, summary="List events", replies=_page(replies.ListedEvent)
    ),
    ("GET", "/v1/events/{event_id}"): Operation(
        id="getEvent", tag=_EVENTS, summary="Get an event", replies=_data(replies.Event)
    ),
    ("GET", "/v1/events/{event_id}/runs"): Operation(
        id="listEventRuns",
        tag=_EVENTS,
        summary="List the runs of an event",
        replies=_data(list[replies.Run], "Oldest first."),
    ),
    ("GET", "/v1/event-types"): Operation(
        id="listEventTypes",
        tag=_EVENTS,
        summary="List names of events",
        replies=_data(list[replies.EventType]),
    ),
    ("POST", "/v1/signals"): Operation(
        id="sendSignal",
        tag=_EVENTS,
        summary="Send a signal",
        replies=_data(replies.SignalTaken, "The run has got it."),
        refusals=_READ,
        body=bodies.Signal,
    ),
}

_RUN_OPERATIONS: Final[Mapping[Key, Operation]] = {
    ("GET", "/v1/runs"): Operation(id="listRuns", tag=_RUNS, summary="List runs", replies=_page(replies.Run)),
    ("GET", "/v1/runs/{run_id}"): Operation(
        id="getRun", tag=_RUNS, summary="Get a run with its steps", replies=_data(replies.RunWithSteps)
    ),
    ("GET", "/v1/runs/{run_id}/trace"): Operation(
        id="getRunTrace", tag=_RUNS, summary="Get a run as a tree", replies=_data(replies.TracedRun)
    ),
    ("DELETE", "/v1/runs/{run_id}"): Operation(
        id="cancelRun", tag=_RUNS, summary="Cancel a run", replies=_EMPTY
    ),
    ("POST", "/v1/runs/{run_id}/rerun"): Operation(
        id="rerunRun",
        tag=_RUNS,
        summary="Run again",
        replies=_data(replies.MadeRun, "The new run is made."),
        refusals=(409, 410, *_READ),
        body=bodies.Rerun,
        body_required=False,
    ),
    ("POST", "/v1/cancellations"): Operation(
        id="createCancellation",
        tag=_MANY,
        summary="Cancel many runs",
        replies=_bare(replies_jobs.CancellationAsked, "Runs are cancelled from now on."),
        refusals=_READ,
        body=bodies.NewCancellation,
    ),
    ("GET", "/v1/cancellations"): Operation(
        id="listCancellations",
        tag=_MANY,
        summary="List cancellations",
        replies=_data(list[replies_jobs.Cancellation], "All, newest first."),
    ),
    ("GET", "/v1/cancellations/{cancellation_id}"): Operation(
        id="getCancellation",
        tag=_MANY,
        summary="Get a cancellation",
        replies=_bare(replies_jobs.Cancellation),
    ),
    ("DELETE", "/v1/cancellations/{cancellation_id}"): Operation(
        id="deleteCancellation", tag=_MANY, summary="Stop a cancellation", replies=_EMPTY
    ),
    ("POST", "/v1/replays"): Operation(
        id="createReplay",
        tag=_MANY,
        summary="Run many again",
        replies=_data(replies_jobs.Replay, "Runs are made from now on."),
        refusals=(409, *_READ),
        body=bodies.NewReplay,
    ),
    ("GET", "/v1/replays"): Operation(
        id="listReplays",
        tag=_MANY,
        summary="List replays",
        replies=_data(list[replies_jobs.Replay], "All, newest first."),
    ),
    ("GET", "/v1/replays/{replay_id}"): Operation(
        id="getReplay", tag=_MANY, summary="Get a replay", replies=_data(replies_jobs.Replay)
    ),
    ("DELETE", "/v1/replays/{replay_id}"): Operation(
        id="deleteReplay", tag=_MANY, summary="Stop a replay", replies=_EMPTY
    ),
}

_REGISTRY_OPERATIONS: Final[Mapping[Key, Operation]] = {
    ("GET", "/v1/functions"): Operation(
        id="listFunctions", tag=_FUNCTIONS, summary="List functions", replies=_data(list[replies.Function])
    ),
    ("GET", "/v1/functions/{slug}"): Operation(
        id="getFunction", tag=_FUNCTIONS, summary="Get a function", replies=_data(replies.FunctionWithConfig)
    ),
    ("POST", "/v1/functions/{slug}/pause"): Operation(
        id="pauseFunction",
        tag=_FUNCTIONS,
        summary="Pause a function",
        replies=_data(replies.FunctionSwitched, "It is paused."),
        refusals=_READ,
        body=bodies.PauseFunction,
        body_required=False,
    ),
    ("POST", "/v1/functions/{slug}/resume"): Operation(
        id="resumeFunction",
        tag=_FUNCTIONS,
        summary="Resume a function",
        replies=_data(replies.FunctionSwitched, "It is as its spec says."),
        refusals=(409, *_READ),
        body=bodies.Nothing,
        body_required=False,
    ),
    ("POST", "/invoke/{slug}"): Operation(
        id="invokeFunction",
        tag=_FUNCTIONS,
        summary="Start a function",
        replies=_bare(replies_jobs.Invoked, "The event is stored."),
        refusals=_READ,
        body=bodies.InvokeEvent,
        body_required=False,
    ),
    ("GET", "/v1/apps"): Operation(
        id="listApps", tag=_APPS, summary="List apps", replies=_data(list[replies.App])
    ),
    ("GET", "/v1/apps/{app_id}"): Operation(
        id="getApp", tag=_APPS, summary="Get an app", replies=_data(replies.AppWithFunctions)
    ),
    ("GET", "/v1/apps/{app_id}/functions"): Operation(
        id="listAppFunctions",
        tag=_APPS,
        summary="List the functions of an app",
        replies=_bare(list[replies.AppFunction]),
    ),
    ("POST", "/v1/apps/{app_id}/pause"): Operation(
        id="pauseApp",
        tag=_APPS,
        summary="Pause an app",
        replies=_data(replies.AppSwitched, "It is paused."),
        refusals=_READ,
        body=bodies.PauseApp,
        body_required=False,
    ),
    ("POST", "/v1/apps/{app_id}/resume"): Operation(
        id="resumeApp",
        tag=_APPS,
        summary="Resume an app",
        replies=_data(replies.AppSwitched, "It is as its spec says."),
        refusals=(409, *_READ),
        body=bodies.Nothing,
        body_required=False,
    ),
    ("POST", "/v1/apps/{app_id}/sync"): Operation(
        id="syncApp",
        tag=_APPS,
        summary="Ask an app for its functions",
        replies={
            200: Reply("The app has been asked: there is no operator.", replies.SyncDone),
            202: Reply("The operator asks the app.", replies.SyncRequested),
        },
        refusals=(409, *_READ, 422, 501, 502),
        body=bodies.Nothing,
        body_required=False,
    ),
    ("GET", "/v1/backlog"): Operation(
        id="getBacklog", tag=_APPS, summary="Get what waits and runs", replies=_data(replies.Backlog)
    ),
}

_LETTER_OPERATIONS: Final[Mapping[Key, Operation]] = {
    ("POST", "/w/{token}"): Operation(
        id="sendWebhook",
        tag=_LETTERS,
        summary="Send a provider's request",
        description="The URL of a webhook, for its provider. The webhook's transform makes events of the request; what "
        "proves that it is the provider's depends on the webhook. Any body of at most 4 MiB.",
        replies={
            200: Reply("Events are stored.", replies_jobs.WebhookTaken, "bare"),
            202: Reply("Kept as a dead letter.", replies_jobs.WebhookKept, "bare"),
        },
        refusals=(400, 401, 403, 404, 413, 415, 429, 503),
        error=replies_jobs.WebhookRefused,
        body=Any,
        body_required=False,
        who="path",
        method_parameters=("Environment",),
    ),
    ("GET", "/v1/deadletters"): Operation(
        id="listDeadLetters",
        tag=_LETTERS,
        summary="List dead letters",
        replies={200: Reply("A page, newest first.", list[replies_jobs.ShortLetter], "letters")},
    ),
    ("GET", "/v1/deadletters/{letter_id}"): Operation(
        id="getDeadLetter", tag=_LETTERS, summary="Get a dead letter", replies=_data(replies_jobs.Letter)
    ),
    ("POST", "/v1/deadletters/{letter_id}/replay"): Operation(
        id="replayDeadLetter",
        tag=_LETTERS,
        summary="Replay a dead letter",
        replies=_data(replies_jobs.LetterReplayed, "Events are stored; the letter is gone."),
        refusals=(409, 413, 422),
    ),
    ("DELETE", "/v1/deadletters/{letter_id}"): Operation(
        id="deleteDeadLetter", tag=_LETTERS, summary="Throw a dead letter away", replies=_EMPTY
    ),
}

_PROMETHEUS: Final = "text/plain"

_MACHINE_OPERATIONS: Final[Mapping[Key, Operation]] = {
    ("GET", "/v1/prom/{environment}"): Operation(
        id="getMetrics",
        tag=_METRICS,
        summary="Get an environment's metrics",
        replies={200: Reply("In the text format of Prometheus.", str, "bare", _PROMETHEUS)},
    ),
    ("POST", "/fn/register"): Operation(
        id="registerApp",
        tag=_SDK,
        summary="Register an app",
        replies=_bare(replies_jobs.Registered, "Registered, or left for the operator."),
        refusals=(403, *_READ),
        error=replies_jobs.RegistrationRefused,
        body=bodies.Registration,
        who="app",
    ),
    ("POST", "/v1/checkpoint/{run_id}/async"): Operation(
        id="checkpointRun",
        tag=_SDK,
        summary="Report results of steps",
        description="Sent by SDKs during their call. 200 with an empty body once the results are durable; 409 where "
        "the call is not the run's current one any more.",
        replies=_EMPTY,
        refusals=(409, *_READ),
        body=bodies.Checkpoint,
        who="app",
    ),
    ("GET", "/v0/runs/{run_id}/actions"): Operation(
        id="getRunActions",
        tag=_SDK,
        summary="Get the results of a run's steps",
        replies=_bare(kinds.Object, "By hashed id of the step."),
        refusals=(404, 410),
        who="app",
    ),
    ("GET", "/v0/runs/{run_id}/batch"): Operation(
        id="getRunEvents",
        tag=_SDK,
        summary="Get the events that started a run",
        replies=_bare(list[kinds.Object], "In order."),
        refusals=(404, 410),
        who="app",
    ),
    ("GET", "/live"): Operation(
        id="getLive",
        tag=_SERVER,
        summary="Is the process there",
        replies=_bare(replies_jobs.Alive),
        who="nobody",
    ),
    ("GET", "/health"): Operation(
        id="getHealth",
        tag=_SERVER,
        summary="Is the process there",
        replies=_bare(replies_jobs.Alive),
        who="nobody",
    ),
    ("GET", "/ready"): Operation(
        id="getReady",
        tag=_SERVER,
        summary="Should requests come here",
        replies={
            200: Reply("They should.", replies_jobs.Readiness, "bare"),
            503: Reply("They should not.", replies_jobs.Readiness, "bare"),
        },
        who="nobody",
    ),
    ("GET", "/dev"): Operation(
        id="getDevInfo",
        tag=_SERVER,
        summary="What is registered, in dev mode",
        replies=_bare(replies_jobs.DevInfo),
        refusals=(404, 503),
        who="nobody",
    ),
    ("GET", "/openapi.json"): Operation(
        id="getOpenApi", tag=_SERVER, summary="Get this document", replies=_bare(kinds.Object)
    ),
}

OPERATIONS: Final[Mapping[Key, Operation]] = {
    **_EVENT_OPERATIONS,
    **_RUN_OPERATIONS,
    **_REGISTRY_OPERATIONS,
    **_LETTER_OPERATIONS,
    **_MACHINE_OPERATIONS,
}

IN_FRONT: Final = frozenset(
    {
        ("POST", "/e/{key}"),
        ("OPTIONS", "/e/{key}"),
        ("POST", "/w/{token}"),
        ("POST", "/v1/checkpoint/{run_id}/async"),
    }
)
"""What the gateway serves without FastAPI."""
