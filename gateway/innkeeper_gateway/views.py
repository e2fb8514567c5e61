"""Events, runs and functions as the API shows them. Pure."""

import uuid
from typing import Any, Final

import orjson

from innkeeper_apps.wire.canonical import canonical_parsed, parse
from innkeeper_engine.compiled import FunctionEntry, Registry, app_uuid, function_uuid
from innkeeper_engine.model.state import RunSummary, StoredEvent
from innkeeper_engine.model.switches import Pause
from innkeeper_engine.model.times import rfc3339

ACCOUNT_ID: Final = "00000000-0000-4000-a000-000000000000"
"""There are no accounts here; clients expect a UUID."""
DEFAULT_ENV_ID: Final = "00000000-0000-4000-b000-000000000000"
"""The id that Inngest's own server gives to the environment of a server that has only one."""

ENDED: Final = frozenset({"Completed", "Failed", "Cancelled", "Skipped"})


def env_uuid(env: str) -> str:
    """The id of an environment where the protocol wants a UUID."""
    if env == "default":
        return DEFAULT_ENV_ID
    return str(uuid.uuid5(uuid.UUID(DEFAULT_ENV_ID), env))


def envelope(data: Any, now_ms: int) -> dict[str, Any]:
    """What every answer of the API with data looks like."""
    return {"data": data, "metadata": {"fetched_at": rfc3339(now_ms)}}


def event_view(event: StoredEvent, env: str) -> dict[str, Any]:
    """An event: `id` is the sender's where it gave one, `internal_id` the server's; `user` and `v` where it has any."""
    body = parse(event.body)
    view = {
        "internal_id": event.id,
        "account_id": ACCOUNT_ID,
        "environment_id": env_uuid(env),
        "source": "",
        "source_id": None,
        "received_at": rfc3339(event.received_ms),
        "id": body["id"],
        "name": body["name"],
        "data": orjson.Fragment(canonical_parsed(body["data"])),
        "ts": body["ts"],
    }
    if body.get("user") is not None:
        view["user"] = orjson.Fragment(canonical_parsed(body["user"]))
    if body.get("v") is not None:
        view["v"] = body["v"]
    return view


def withhold_data(view: dict[str, Any]) -> None:
    """Take what its sender wrote out of an event."""
    view["data"] = None
    if "user" in view:
        view["user"] = None


def run_view(run: RunSummary, registry: Registry, output: bytes | None) -> dict[str, Any]:
    """A run. `function_version` is the current version of its app, 0 once the function is gone.

    `output`: the function's return value or, of a run that failed or was cancelled, the error; shown once there is
    one. Before its first call a run shows the time when it was queued as `run_started_at`.
    """
    entry = registry.functions.get(run.slug)
    view: dict[str, Any] = {
        "run_id": run.id,
        "run_started_at": rfc3339(run.queued_ms if run.started_ms is None else run.started_ms),
        "function_id": function_uuid(run.env, run.slug),
        "function_slug": run.slug,
        "function_version": entry.app.version if entry is not None else 0,
        "environment_id": env_uuid(run.env),
        "app_id": run.app,
        "event_id": run.event_ids[0] if run.event_ids else None,
        "status": run.status,
        "queued_at": rfc3339(run.queued_ms),
        "ended_at": None if run.ended_ms is None else rfc3339(run.ended_ms),
    }
    optional = {"cron": run.cron, "rerun_of": run.of, "replay_id": run.replay}
    view |= {name: value for name, value in optional.items() if value}
    if run.notes_lost is not None:
        view["notes_lost"] = run.notes_lost
    if output is not None:
        view["output"] = orjson.Fragment(output)
    return view


def withhold_payloads(view: dict[str, Any]) -> None:
    """Take everything that an app returned or raised out of a run with its steps and notes."""
    for part in (view, *view["steps"], *view["notes"]):
        part.pop("output", None)
        part.pop("error", None)
        part.pop("reason", None)


def object_name(registry: Registry, slug: str) -> str:
    """What the object of a function is called in Kubernetes; empty where it has none, or is not known."""
    entry = registry.functions.get(slug)
    return entry.config.object_name if entry is not None else ""


def slug_of(registry: Registry, named: str) -> str:
    """The slug of a function that is named by it or by its UUID; what is neither stays as it is."""
    if named in registry.functions:
        return named
    uuid_text = named.lower()
    return next((slug for slug, each in registry.functions.items() if each.uuid == uuid_text), named)


def pause_view(pause: Pause | None) -> dict[str, Any] | None:
    """Why something is paused: `by` its spec, a switch, or both, `who` did it and `since` when, as far as is known.

    Of a function also what becomes of `new_runs` and of those that are `running`.
    """
    if pause is None:
        return None
    since = rfc3339(pause.since_ms) if pause.since_ms else None
    view: dict[str, Any] = {"by": pause.by, "who": pause.who or None, "since": since}
    if pause.reason:
        view["reason"] = pause.reason
    policy = {"new_runs": pause.new_runs, "running": pause.running}
    return view | {name: value for name, value in policy.items() if value is not None}


def output_of(status: str, output: bytes | None, error: bytes | None) -> bytes | None:
    """Which of a run's two payloads it shows as its output."""
    if status not in ENDED:
        return None
    return error if status in ("Failed", "Cancelled") else output


def function_view(entry: FunctionEntry) -> dict[str, Any]:
    """A function as `GET /v1/apps/{app}/functions` shows it."""
    return {
        "internal_id": entry.uuid,
        "env_id": env_uuid(entry.env),
        "app_id": app_uuid(entry.env, entry.app.id),
        "id": entry.config.slug,
        "name": entry.config.name,
        "config": orjson.Fragment(bytes(entry.config.declared)),
        "not_enforced": entry.config.not_enforced,
        "created_at": rfc3339(entry.app.synced_at_ms),
        "archived_at": None,
    }


def dev_view(registry: Registry, version: str) -> dict[str, Any]:
    """What `GET /dev` says: SDKs only want JSON, people see what is registered and from where."""
    functions = [
        {
            "id": entry.uuid,
            "slug": entry.config.slug,
            "name": entry.config.name,
            "app": entry.app.id,
            "url": entry.config.url,
            "triggers": [
                {"cron": trigger.cron}
                if trigger.cron
                else {"event": trigger.event, "expression": trigger.expression}
                for trigger in entry.config.triggers
            ],
            "not_enforced": entry.config.not_enforced,
        }
        for entry in registry.functions.values()
    ]
    handlers = [
        {
            "app": app.id,
            "url": app.url,
            "sdk": {"language": app.sdk_language, "version": app.sdk_version, "framework": app.framework},
            "app_version": app.app_version,
            "version": app.version,
            "functions": [function.slug for function in app.functions],
            "synced_at": rfc3339(app.synced_at_ms),
        }
        for app in registry.apps.values()
    ]
    return {
        "version": version,
        "authed": False,
        "isSingleNodeService": True,
        "startOpts": {"sdkURLs": sorted({app.url for app in registry.apps.values()})},
        "functions": functions,
        "handlers": handlers,
        "features": {},
    }
