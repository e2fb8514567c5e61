"""A run once more: of the same function as it is now, with the same events."""

from collections.abc import Sequence

import orjson

from innkeeper_engine.compiled import FunctionEntry
from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.events import event_object
from innkeeper_engine.decide.flow import Occasion, decide
from innkeeper_engine.model.effects import Effect, Note


def rerun(
    entry: FunctionEntry,
    of: str,
    run: str,
    events: Sequence[tuple[str, bytes]],
    *,
    seq: int,
    cron: str,
    context: Context,
) -> list[Effect]:
    """The start of `run`, which is `of` once more; its history says so.

    `events`: (id, canonical body) of all of them, in their order. `seq`: number of the environment's last event so far:
    only later ones cancel the run. A singleton holds for it as for any run; idempotency and rate limits do not.
    """
    occasion = Occasion(
        origin="rerun",
        run=run,
        event=event_object(events[0][1]),
        events=tuple(events),
        seq=seq,
        at_ms=context.now_ms,
        cron=cron,
    )
    note = Note(run, orjson.dumps({"t": context.now_ms, "type": "rerun", "of": of}))
    return [*decide(entry, occasion, context), note]
