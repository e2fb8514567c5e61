"""Crons: one run per slot, whatever restarts."""

import orjson

from innkeeper_engine.compiled import CompiledCron, FunctionEntry
from innkeeper_engine.cron import jitter_ms
from innkeeper_engine.decide.runs import start_effect
from innkeeper_engine.model.clock import derived_ulid
from innkeeper_engine.model.effects import Arm, Effect, Keep
from innkeeper_engine.model.times import rfc3339

TIMER_EVENT = "inngest/scheduled.timer"


def first_slot(entry: FunctionEntry, cron: CompiledCron, now_ms: int) -> tuple[int, int]:
    """The first slot of a newly registered cron and when it is due (slot plus jitter), in ms since the epoch."""
    return _due(entry, cron, cron.line.next_after_ms(now_ms))


def fire(entry: FunctionEntry, cron: CompiledCron, slot_ms: int, now_ms: int) -> list[Effect]:
    """The effects of a cron that is due: its run, and its next slot.

    Slots missed while nothing ran are made up for by the latest of them alone: the latest that is due, as jitter puts
    slots off. The run's id comes from function and slot, so a slot that is decided twice starts one run.
    """
    slot_ms = _latest_due(entry, cron, slot_ms, now_ms)
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
    return [
        Keep(entry.env, event_id, body),
        start_effect(
            entry,
            run_id=derived_ulid(slot_ms, "cron", entry.key, cron.text),
            event=orjson.loads(body),
            events=((event_id, body),),
            event_seq=0,
            order_ms=slot_ms,
            cron=cron.text,
        ),
        Arm(cron.id, *_due(entry, cron, cron.line.next_after_ms(slot_ms))),
    ]


def _latest_due(entry: FunctionEntry, cron: CompiledCron, slot_ms: int, now_ms: int) -> int:
    until_ms = now_ms
    while passed := cron.line.slots_between(slot_ms, until_ms, 1):
        if _due(entry, cron, passed[-1])[1] <= now_ms:
            return passed[-1]
        until_ms = passed[-1] - 1
    return slot_ms


def _due(entry: FunctionEntry, cron: CompiledCron, slot_ms: int) -> tuple[int, int]:
    return slot_ms, slot_ms + jitter_ms(entry.config.slug, slot_ms, cron.jitter_ms)
