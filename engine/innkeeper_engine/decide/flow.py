"""What becomes of an event that meets a trigger: one decision for every option together, whatever brings the event.

The order, which `docs/flow-control.md` explains:

1. a function that starts nothing: the run is recorded as Skipped;
2. a batch or a debounce takes the event in;
3. the run starts, with the rights that it needs (idempotency, rate limit, singleton): the store gives it all or none;
4. throttle, concurrency and priority say where it queues.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import orjson

from innkeeper_engine.cel import EvaluationError, Expression
from innkeeper_engine.compiled import FunctionEntry
from innkeeper_engine.decide.context import DAY_MS, Context
from innkeeper_engine.decide.notes import cancel_note, key_note, skip_note
from innkeeper_engine.decide.runs import start_effect
from innkeeper_engine.decide.sweeping import covers
from innkeeper_engine.limits import FALLBACK, digest, queued
from innkeeper_engine.model.effects import Cancel, Effect, Gather, Once, Rate, Right, Single, Skip

ONCE_MS = DAY_MS
"""How long one value of `idempotency` stands for one run."""

BATCH_KEY, BATCH_IF, IDEMPOTENCY = "batchEvents.key", "batchEvents.if", "idempotency"

CONSEQUENCES = {
    "concurrency": "gives nothing for this event: the run counts with all others of which that is true",
    "throttle.key": "gives nothing for this event: the run is throttled with all others of which that is true",
    "priority.run": "gives no number for this event: the run has no priority",
    "rateLimit.key": "gives nothing for this event: the run is not counted by the rate limit",
    "debounce.key": "gives nothing for this event: it is not debounced, its run began at once",
    BATCH_KEY: "gives nothing for these events: they are batched with all others of which that is true",
    BATCH_IF: "is neither true nor false for this event: it is not batched, its run began at once",
    "singleton.key": "gives nothing for this event: the run is beside the singleton",
    IDEMPOTENCY: "gives nothing for this event: the run is made whether or not there was another one",
}
"""What it means for a run that an option's expression gives nothing, for its history."""

_FALSE = digest("false")
"""What `false` as a key looks like; and a text that says so."""

_SKIPPED_FOR: dict[str, str] = {
    "paused": "invoked function is paused",
    "draining": "invoked function is being removed",
    "idempotency": "invoked function was skipped: it had a run of the same idempotency key in the last 24 hours",
    "rateLimit": "invoked function was skipped: its rate limit is reached",
    "singleton": "invoked function was skipped: it is a singleton, and another run of it goes on",
}
_REPLIES = {
    why: orjson.dumps({"error": {"message": message, "name": "Error"}})
    for why, message in _SKIPPED_FOR.items()
}

Origin = Literal["event", "invoke", "cron", "gathered", "rerun"]
Failed = tuple[str, str]
"""An option whose expression gives nothing, and what that means."""


class Occasion(NamedTuple):
    """What a run may be made for: an event that met a trigger, an invocation, a cron's slot, a gathering that is due.

    Or somebody who wants a run once more: idempotency and rate limits are about what comes by itself, not about him.
    """

    origin: Origin
    run: str
    """The id of the run, should there be one."""
    event: Mapping[str, Any]
    """The first event, decoded: keys and conditions look at this one."""
    events: tuple[tuple[str, bytes], ...]
    """(event id, canonical body; empty for one that is stored)."""
    seq: int
    """Number of the last event in the environment: only later ones cancel."""
    at_ms: int
    """Since when it is wanted: an event was received, a slot was, a gathering is due."""
    due_ms: int = 0
    """A time ahead until which the first request is put off; 0: none."""
    parent: str = ""
    """The pause of an invoking step."""
    idempotency: str = ""
    """The sender's own id of the event, as the store knows it."""
    cron: str = ""
    is_batch: bool = False
    """Gathered by a batch: its events were held against `idempotency` one by one."""
    failed: tuple[Failed, ...] = ()
    """Found out already."""


def decide(entry: FunctionEntry, occasion: Occasion, context: Context) -> list[Effect]:
    """Exactly one of Skip, Gather and Start; after a Start what the run's history says of keys that gave nothing.

    Where somebody cancels all runs like it, a Cancel follows its Start at once. How many effects there are depends on
    the registry and the occasion alone where that is an event: the router's cursor has a position among them.
    """
    # What has no options costs a look at each of them: every event comes by here.
    why = starts_nothing(entry) if entry.config.paused or entry.app.draining else ""
    if why:
        return [_skip(entry, occasion, why, context.now_ms, occasion.idempotency)]
    failed = list(occasion.failed)
    if occasion.origin == "event" and (entry.batch is not None or entry.debounce is not None):
        gather = _batch(entry, occasion, context, failed) or _debounce(entry, occasion, context, failed)
        if gather is not None:
            return [gather]
    return _start(entry, occasion, context, failed)


def key_notes(run: str, failed: Sequence[Failed], now_ms: int) -> list[Effect]:
    """The lines of a run's history for options whose expressions gave nothing."""
    return [key_note(run, option, consequence, now_ms) for option, consequence in failed]


def failing(option: str) -> Failed:
    """An option, as its writer calls it, that gives nothing for an event."""
    return option, CONSEQUENCES[option.partition("[")[0]]


def starts_nothing(entry: FunctionEntry) -> str:
    """Why a paused function, or one of an app that is about to go, starts no run; empty where it does.

    Where new runs queue, and in a paused app, they begin and wait.
    """
    if entry.app.draining:
        return "draining"
    config = entry.config
    return "paused" if config.new_runs == "Skip" and not entry.app.paused else ""


def _skip(entry: FunctionEntry, occasion: Occasion, why: str, now_ms: int, idempotency: str) -> Skip:
    return Skip(
        run=occasion.run,
        env=entry.env,
        fn=entry.key,
        app=entry.app.id,
        events=tuple(event_id for event_id, _ in occasion.events),
        idempotency=idempotency,
        cron=occasion.cron,
        note=skip_note(why, now_ms),
        parent=occasion.parent,
        reply=_REPLIES[why],
    )


# ---- gathering


def _batch(entry: FunctionEntry, occasion: Occasion, context: Context, failed: list[Failed]) -> Gather | None:
    compiled, option = entry.batch, entry.config.batch
    if compiled is None or option is None:
        return None
    if compiled.condition is not None:
        verdict = _verdict(compiled.condition, occasion.event)
        if verdict is None:
            failed.append(failing(BATCH_IF))
        if not verdict:
            return None
    value = _value(compiled.key, occasion.event)
    shown = FALLBACK if value is None else value
    return _gather(entry, occasion, context, f"b{shown}", "batch", option.timeout_ms, most=option.max_size)


def _debounce(
    entry: FunctionEntry, occasion: Occasion, context: Context, failed: list[Failed]
) -> Gather | None:
    compiled, option = entry.debounce, entry.config.debounce
    if compiled is None or option is None or entry.batch is not None:
        return None
    value = _value(compiled.key, occasion.event)
    if value is None:
        failed.append(failing("debounce.key"))
        return None
    return _gather(
        entry,
        occasion,
        context,
        f"d{value}",
        "debounce",
        option.period_ms,
        ceiling_ms=option.timeout_ms or 0,
    )


def _gather(
    entry: FunctionEntry,
    occasion: Occasion,
    context: Context,
    group: str,
    kind: str,
    period_ms: int,
    *,
    ceiling_ms: int = 0,
    most: int = 0,
) -> Gather:
    value = None
    if entry.idempotency is not None:
        # What gives nothing is noted when there is a run.
        value = _right_value(entry.idempotency, occasion.event, IDEMPOTENCY, [])
    return Gather(
        kind=kind,
        group=f"{entry.key}|{group}",
        env=entry.env,
        fn=entry.key,
        event=occasion.events[0][0],
        period_ms=period_ms,
        ceiling_ms=ceiling_ms,
        most=most,
        idempotency=occasion.idempotency,
        once="" if value is None else _once_key(entry, value),
        # The gathering has looked at the sender's id already, and may have taken it.
        refused=() if value is None else (_skip(entry, occasion, "idempotency", context.now_ms, ""),),
    )


# ---- starting


def _start(entry: FunctionEntry, occasion: Occasion, context: Context, failed: list[Failed]) -> list[Effect]:
    needs_rights = entry.idempotency or entry.rate_limit or entry.singleton
    rights = _rights(entry, occasion, context, failed) if needs_rights else ()
    place = queued(entry.queueing, occasion.event)
    if place.failed:
        failed += [failing(option) for option in place.failed]
    # Whoever sweeps the runs that are there asks for the same time.
    made_ms = occasion.at_ms if occasion.origin in ("event", "invoke") else context.now_ms
    start = start_effect(
        entry,
        run_id=occasion.run,
        event=occasion.event,
        events=occasion.events,
        event_seq=occasion.seq,
        order_ms=occasion.at_ms,
        due_ms=occasion.due_ms,
        parent=occasion.parent,
        idempotency=occasion.idempotency,
        cron=occasion.cron,
        place=place,
        rights=rights,
        ids=_ids(context) if entry.config.timeouts is not None else ("", ""),
        made_ms=made_ms,
    )
    if not failed and not entry.cancellations:
        return [start]
    effects: list[Effect] = [start]
    for each in entry.cancellations:
        # One for a function that is gone has nothing to say: the function is here.
        if each.config.why == "bulk" and covers(each, made_ms, occasion.event):
            note = cancel_note("bulk", context.now_ms, cancellation=each.config.id)
            effects.append(Cancel(occasion.run, _ids(context), note))
            break
    return effects + key_notes(occasion.run, failed, context.now_ms)


def _rights(
    entry: FunctionEntry, occasion: Occasion, context: Context, failed: list[Failed]
) -> tuple[Right, ...]:
    """What the run needs to begin, in the order in which the store asks."""
    rights: list[Right] = []
    now_ms, event, config = context.now_ms, occasion.event, entry.config
    if occasion.origin == "rerun":
        pass  # What comes by itself is limited, not what somebody asks for once more.
    elif entry.idempotency is not None:
        value = "" if occasion.is_batch else _right_value(entry.idempotency, event, IDEMPOTENCY, failed)
        if value:
            why = "idempotency"
            rights.append(Once(_once_key(entry, value), ONCE_MS, skip_note(why, now_ms), _REPLIES[why]))
    # Idempotency is a rate limit itself, and takes its place.
    elif entry.rate_limit is not None and config.rate_limit is not None:
        value = _right_value(entry.rate_limit.key, event, "rateLimit.key", failed)
        if value is not None:
            rate, why = config.rate_limit, "rateLimit"
            note = skip_note(why, now_ms)
            rights.append(Rate(f"{entry.key}|{value}", rate.limit, rate.period_ms, note, _REPLIES[why]))
    if entry.singleton is not None and config.singleton is not None:
        value = _right_value(entry.singleton.key, event, "singleton.key", failed)
        if value is not None:
            rights.append(_single(entry, occasion, context, value))
    return tuple(rights)


def _right_value(
    key: Expression | None, event: Mapping[str, Any], option: str, failed: list[Failed]
) -> str | None:
    """As `_value`; None also where the option is not for this event. What gives nothing is noted."""
    value = _value(key, event)
    if value is None:
        failed.append(failing(option))
    return None if value == _FALSE and _is_exempt(key, event) else value


def _single(entry: FunctionEntry, occasion: Occasion, context: Context, value: str) -> Single:
    why = "singleton"
    right = Single(f"{entry.key}|{value}", skip_note(why, context.now_ms), _REPLIES[why])
    if entry.config.singleton is None or entry.config.singleton.mode == "skip":
        return right
    note = cancel_note(why, context.now_ms, run=occasion.run)
    return right._replace(ids=_ids(context), cancel_note=note)


def _ids(context: Context) -> tuple[str, str]:
    return context.new_id(), context.new_id()


def _once_key(entry: FunctionEntry, value: str) -> str:
    return f"{entry.key}:k:{value}"


def _value(key: Expression | None, event: Mapping[str, Any]) -> str | None:
    """What stands for a key's value; empty where there is no key, None where it gives nothing."""
    if key is None:
        return ""
    value = key.key({"event": event})
    return None if value is None else digest(value)


def _is_exempt(key: Expression | None, event: Mapping[str, Any]) -> bool:
    """Whether a key that looks like `false` is it, and no text: the option is not for this event."""
    return key is not None and key.evaluate({"event": event}) is False


def _verdict(condition: Expression, event: Mapping[str, Any]) -> bool | None:
    try:
        value = condition.evaluate({"event": event})
    except EvaluationError:
        return None
    return value if isinstance(value, bool) else None
