"""Replays of many runs: which they mean, and what one more of each is. Pure; executors go through the runs in pages."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from innkeeper_engine.cel import Expression, ExpressionError, compile_expression
from innkeeper_engine.compiled import FunctionEntry, Registry
from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.events import event_object
from innkeeper_engine.decide.flow import starts_nothing
from innkeeper_engine.decide.rerunning import rerun
from innkeeper_engine.model.clock import derived_ulid
from innkeeper_engine.model.effects import Effect
from innkeeper_engine.model.replays import FoundRun, Replay

MOST_QUEUED = 1_000
"""With so many runs of the function that have not begun, a replay waits: it is behind what comes by itself."""


class CompiledReplay(NamedTuple):
    """A replay whose condition can be asked."""

    config: Replay
    condition: Expression | None


class Portion(NamedTuple):
    """What becomes of some runs of a page."""

    effects: list[Effect]
    replayed: int
    unavailable: int


def read_replay(body: bytes) -> CompiledReplay | None:
    """A replay as it was written; None where it is of a later version, which knows what to do with it."""
    try:
        config = msgspec.json.decode(body, type=Replay)
        condition = compile_expression(config.expression) if config.expression else None
    except (msgspec.MsgspecError, ExpressionError):
        return None
    return CompiledReplay(config, condition)


def waits_for(registry: Registry, slug: str) -> str:
    """Why no run of the function begins now: gone, draining or paused; empty where one does."""
    entry = registry.functions.get(slug)
    if entry is None:
        return "gone"
    return starts_nothing(entry) if entry.config.paused or entry.app.draining else ""


def replay_effects(
    replay: CompiledReplay, entry: FunctionEntry, runs: Sequence[FoundRun], *, seq: int, context: Context
) -> Portion:
    """One more run of each that is meant, under an id that follows from the replay and the run: made once, at most.

    A condition that is not true, or that gives nothing for the event, spares the run. `seq`: number of the
    environment's last event so far.
    """
    effects: list[Effect] = []
    replayed = unavailable = 0
    for found in runs:
        if not found.events:
            unavailable += 1
            continue
        event = event_object(found.events[0][1])
        if replay.condition is not None and not replay.condition.matches({"event": event}):
            continue
        replayed += 1
        config = replay.config
        effects += rerun(
            entry,
            found.run,
            derived_ulid(config.created_ms, "replay", config.id, found.run),
            found.events,
            seq=seq,
            cron=found.cron,
            context=context,
            replay=config.id,
        )
    return Portion(effects, replayed, unavailable)
