"""Crons: one run per slot, whatever restarts; and what becomes of slots that nobody was there for."""

import orjson

from innkeeper_engine.compiled import CompiledCron, FunctionEntry
from innkeeper_engine.cron import jitter_ms
from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.flow import Occasion, decide
from innkeeper_engine.model.clock import derived_ulid
from innkeeper_engine.model.effects import MAX_EFFECTS, Arm, Effect, Keep
from innkeeper_engine.model.times import rfc3339

TIMER_EVENT = "inngest/scheduled.timer"

MOST_AT_ONCE = 100
"""Slots that fire together, and that `catch_up` All makes up for, at most."""
MISSED_MS = 60_000
"""A slot that is late by so much was missed. Executors sleep for seconds at most, and a cron that one of them dropped
comes up again after five: less than this is no downtime, and it is still the minute that a line of five fields names."""


def first_slot(entry: FunctionEntry, cron: CompiledCron, now_ms: int) -> tuple[int, int]:
    """The first slot of a newly registered cron and when it is due (slot plus jitter), in ms since the epoch."""
    return _due(entry, cron, cron.line.next_after_ms(now_ms))


def fire(entry: FunctionEntry, cron: CompiledCron, slot_ms: int, context: Context) -> list[Effect]:
    """The effects of a cron that is due: the runs of its slots, 100 at most, and its next slot.

    Fewer where they would be more than one script does: what is left is due at once.

    What was missed while nothing ran, `catch_up` decides: Latest makes up for it by the latest slot alone, All by the
    last 100, None not at all (a slot that comes less than a minute late was not missed). A run's id comes from
    function and slot, so a slot that is decided twice starts one run.
    """
    # The store says that it is due, whatever the clock here says.
    now_ms = max(context.now_ms, _due(entry, cron, slot_ms)[1])
    # The latest time of a slot is its own plus all of the jitter; before that it is late by its jitter alone.
    late = cron.line.slots_between(slot_ms - 1, now_ms - cron.jitter_ms, MOST_AT_ONCE)
    slots = _made_up(cron, late, now_ms)
    at_ms = cron.line.next_after_ms(late[-1]) if late else slot_ms
    while len(slots) < MOST_AT_ONCE and _due(entry, cron, at_ms)[1] <= now_ms:
        slots.append(at_ms)
        at_ms = cron.line.next_after_ms(at_ms)
    effects: list[Effect] = []
    for slot in slots:
        found = _run(entry, cron, slot, now_ms, context)
        if effects and len(effects) + len(found) >= MAX_EFFECTS:
            at_ms = slot
            break
        effects += found
    return [*effects, Arm(cron.id, *_due(entry, cron, at_ms))]


def _made_up(cron: CompiledCron, late: tuple[int, ...], now_ms: int) -> list[int]:
    """Those of the slots whose latest time has passed that still fire."""
    if cron.catch_up == "All":
        return list(late)
    if cron.catch_up == "None" and late and now_ms - cron.jitter_ms - late[-1] >= MISSED_MS:
        return []
    return list(late[-1:])


def _run(
    entry: FunctionEntry, cron: CompiledCron, slot_ms: int, now_ms: int, context: Context
) -> list[Effect]:
    event_id = derived_ulid(slot_ms, "cron event", entry.key, cron.text)
    body = orjson.dumps(
        {
            "data": {"cron": cron.text, "fireAt": rfc3339(now_ms), "scheduledAt": rfc3339(slot_ms)},
            "id": rfc3339(slot_ms),
            "name": TIMER_EVENT,
            "ts": now_ms,
            "user": {},
        },
        option=orjson.OPT_SORT_KEYS,
    )
    occasion = Occasion(
        origin="cron",
        run=derived_ulid(slot_ms, "cron", entry.key, cron.text),
        event=orjson.loads(body),
        events=((event_id, body),),
        seq=0,
        at_ms=slot_ms,
        cron=cron.text,
    )
    return [Keep(entry.env, event_id, body), *decide(entry, occasion, context)]


def _due(entry: FunctionEntry, cron: CompiledCron, slot_ms: int) -> tuple[int, int]:
    return slot_ms, slot_ms + jitter_ms(entry.config.slug, slot_ms, cron.jitter_ms)
