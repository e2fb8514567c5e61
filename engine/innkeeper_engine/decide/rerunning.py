"""A run once more: of the same function as it is now, with the same events, from the top or from one of its steps."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from innkeeper_engine.compiled import FunctionEntry
from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.events import event_object
from innkeeper_engine.decide.flow import Occasion, decide
from innkeeper_engine.model.calls import OpKind
from innkeeper_engine.model.effects import Effect
from innkeeper_engine.model.functions import App
from innkeeper_engine.model.replays import Again

RUN_BY_APPS = frozenset(
    {OpKind.STEP_RUN, OpKind.STEP, OpKind.STEP_ERROR, OpKind.STEP_FAILED, OpKind.STEP_PLANNED}
)
"""Operations of a step that the app itself runs, as histories show them."""

_STEPS_A_NOTE = 200
_EDITING_JS = (3, 26, 1)
"""The first TypeScript SDK that takes `{"input": [...]}` for a step (its CHANGELOG, pull requests 747 and 752)."""


class Earlier(NamedTuple):
    """A step of which the new run has the result from the beginning."""

    id: str
    name: str
    op: str


class FromStep(NamedTuple):
    """Where a run begins that does not begin from the top."""

    step: str
    earlier: tuple[Earlier, ...]
    """The steps whose results are taken over, in the order in which they got them."""
    op: str = ""
    """For edited input: the step's operation, `StepRun` or `AIGateway`; empty: its input is its own."""
    input: Any = None


def rerun(
    entry: FunctionEntry,
    of: str,
    run: str,
    events: Sequence[tuple[str, bytes]],
    *,
    seq: int,
    cron: str,
    context: Context,
    from_step: FromStep | None = None,
    replay: str = "",
) -> list[Effect]:
    """The start of `run`, which is `of` once more; its history says so.

    `events`: (id, canonical body) of all of them, in their order. `seq`: number of the environment's last event so far:
    only later ones cancel the run. A singleton holds for it as for any run; idempotency and rate limits do not.
    `replay`: the replay of many runs that wants it.
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
    return [*decide(entry, occasion, context), _again(of, run, from_step, replay, context)]


def _again(of: str, run: str, from_step: FromStep | None, replay: str, context: Context) -> Again:
    line: dict[str, Any] = {"t": context.now_ms, "type": "rerun", "of": of}
    if replay:
        line["replay"] = replay
    if from_step is None:
        return Again(run, of, replay, 0, "", b"", (orjson.dumps(line),))
    line["from_step"] = from_step.step
    edited, target = b"", ""
    if from_step.op:
        line["edited"] = True
        edited = context.canonical(
            {"input": from_step.input, "op": from_step.op, "step": from_step.step},
        )
        # From the top, an SDK would leave a step out that has input and siblings, or take it for done.
        target = from_step.step if from_step.op == OpKind.STEP_RUN else ""
    notes = [orjson.dumps(line)]
    earlier = from_step.earlier
    for first in range(0, len(earlier), _STEPS_A_NOTE):
        some = earlier[first : first + _STEPS_A_NOTE]
        notes.append(
            orjson.dumps({"t": context.now_ms, "type": "inherited", "steps": [list(each) for each in some]})
        )
    return Again(run, of, replay, len(earlier), target, edited, tuple(notes))


def takes_input(app: App) -> bool:
    """Whether the SDK of an app gives a step the input that it is sent: the TypeScript one does, from 3.26.1 on.

    Others would take it for the step's result.
    """
    if app.sdk_language not in ("js", "inngest-js"):
        return False
    numbers = app.sdk_version.lstrip("v").partition("-")[0].split(".")[:3]
    return all(n.isdigit() for n in numbers) and tuple(int(n) for n in numbers) >= _EDITING_JS
