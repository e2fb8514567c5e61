"""Events and runs as rows of an archive. Pure.

Columns are flat, so that every reader of Parquet can read them; what is nested is JSON in a column. Columns are only
ever added, at the end.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import orjson

from innkeeper_engine.model.state import StoredEvent
from innkeeper_engine.model.times import rfc3339
from innkeeper_engine.store.archive import KeptRun
from innkeeper_engine.store.wire import read_order
from innkeeper_gateway.steps import StepTrace, fold_steps, run_notes, step_views

Value: TypeAlias = str | int | bytes | None
"""By the kind of the column: text, a number, a moment in ms since the epoch, JSON; None where there is nothing."""
Row: TypeAlias = Mapping[str, Value]


class Kind(Enum):
    """What a column holds."""

    TEXT = "text"
    NUMBER = "number"
    MOMENT = "moment"
    JSON = "json"


class Column(NamedTuple):
    """A column of an archive's files."""

    name: str
    kind: Kind
    optional: bool = True


EVENT_COLUMNS: Final = (
    Column("environment", Kind.TEXT, optional=False),
    Column("internal_id", Kind.TEXT, optional=False),
    Column("id", Kind.TEXT),
    Column("name", Kind.TEXT),
    Column("received_at", Kind.MOMENT, optional=False),
    Column("ts", Kind.MOMENT),
    Column("v", Kind.TEXT),
    Column("data", Kind.JSON),
    Column("user", Kind.JSON),
)

RUN_COLUMNS: Final = (
    Column("environment", Kind.TEXT, optional=False),
    Column("run_id", Kind.TEXT, optional=False),
    Column("app_id", Kind.TEXT, optional=False),
    Column("function_slug", Kind.TEXT, optional=False),
    Column("status", Kind.TEXT, optional=False),
    Column("cron", Kind.TEXT),
    Column("rerun_of", Kind.TEXT),
    Column("replay_id", Kind.TEXT),
    Column("queued_at", Kind.MOMENT, optional=False),
    Column("started_at", Kind.MOMENT),
    Column("ended_at", Kind.MOMENT),
    Column("event_ids", Kind.JSON, optional=False),
    Column("payloads", Kind.TEXT, optional=False),
    Column("events", Kind.JSON),
    Column("output", Kind.JSON),
    Column("error", Kind.JSON),
    Column("steps", Kind.JSON, optional=False),
    Column("notes", Kind.JSON, optional=False),
    Column("notes_lost", Kind.NUMBER),
)

_OUTPUT, _ERROR, _ORDER, _EVENT = "o", "x", ":k", "e:"
"""Payloads of a run that are no results of steps."""


class _Body(msgspec.Struct):
    id: str | None = None
    name: str | None = None
    ts: int | None = None
    v: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")
    user: msgspec.Raw = msgspec.Raw(b"null")


_read_body = msgspec.json.Decoder(_Body).decode


def event_row(env: str, event: StoredEvent) -> Row:
    """A row of events. What an event's sender wrote stays byte for byte as it was stored.

    A body that is no event as the gateway writes it comes as it is in `data`, with neither id nor name.
    """
    try:
        body = _read_body(event.body)
    except msgspec.MsgspecError:
        body = _Body(data=msgspec.Raw(event.body))
    return {
        "environment": env,
        "internal_id": event.id,
        "id": body.id,
        "name": body.name,
        "received_at": event.received_ms,
        "ts": body.ts,
        "v": body.v,
        "data": bytes(body.data),
        "user": bytes(body.user),
    }


def run_row(run: KeptRun) -> Row:
    """A row of ended runs.

    `payloads` says what became of them: `kept`; `lost`, taken away since memory was short; `unreadable`, not what was
    written any more. `steps` and `notes` are as `GET /v1/runs/{id}` shows them.
    """
    summary, payloads = run.summary, run.payloads
    found: dict[str, bytes] = payloads or {}
    state = "unreadable" if payloads is None else "kept" if summary.notes_lost is None else "lost"
    steps = _steps(run.notes, found)
    views = step_views(steps, found, run_ended=True)
    return {
        "environment": summary.env,
        "run_id": summary.id,
        "app_id": summary.app,
        "function_slug": summary.slug,
        "status": summary.status,
        "cron": summary.cron or None,
        "rerun_of": summary.of or None,
        "replay_id": summary.replay or None,
        "queued_at": summary.queued_ms,
        "started_at": summary.started_ms,
        "ended_at": summary.ended_ms,
        "event_ids": orjson.dumps(summary.event_ids),
        "payloads": state,
        "events": _events(found),
        "output": found.get(_OUTPUT),
        "error": found.get(_ERROR),
        "steps": orjson.dumps(views),
        "notes": orjson.dumps(run_notes(run.notes)),
        "notes_lost": summary.notes_lost,
    }


def _events(payloads: Mapping[str, bytes]) -> bytes | None:
    numbers = sorted(int(name[len(_EVENT) :]) for name in payloads if name.startswith(_EVENT))
    if not numbers:
        return None
    return b"[" + b",".join(payloads[f"{_EVENT}{n}"] for n in numbers) + b"]"


def _steps(notes: list[bytes], payloads: Mapping[str, bytes]) -> list[StepTrace]:
    """Steps by their notes, then those that have a result and no note: notes are dropped where too many wait."""
    steps = fold_steps(notes)
    told = {step.id for step in steps}
    order = read_order(payloads.get(_ORDER))
    return steps + [StepTrace(step) for step in order if step not in told and step in payloads]


def plain(columns: tuple[Column, ...], row: Row) -> dict[str, Any]:
    """A row as a JSON object: moments as text, JSON as it is."""
    return {column.name: _plain(column.kind, row[column.name]) for column in columns}


def _plain(kind: Kind, value: Value) -> Any:
    if value is None:
        return None
    if kind is Kind.MOMENT:
        assert isinstance(value, int)
        return rfc3339(value)
    if kind is Kind.JSON:
        assert isinstance(value, bytes)
        return orjson.Fragment(value)
    return value
