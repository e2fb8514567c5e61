"""A run once more, at somebody's wish: of what was skipped, or went wrong."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from innkeeper_apps.wire.canonical import canonical
from innkeeper_engine.compiled import FunctionEntry, Registry
from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.rerunning import RUN_BY_APPS, Earlier, FromStep, rerun, takes_input
from innkeeper_engine.model.calls import Op, OpKind
from innkeeper_engine.model.functions import App
from innkeeper_engine.model.guards import KeptGuard, NoGuard
from innkeeper_engine.model.state import RunSummary
from innkeeper_gateway.core import Core
from innkeeper_gateway.errors import ApiError
from innkeeper_gateway.reading import until_folded
from innkeeper_gateway.steps import StepTrace, fold_steps
from innkeeper_gateway.tracing import in_current_trace

NOT_KEPT = "the results of this run's steps are not kept any more: run it again from the top"


class Wanted(NamedTuple):
    """From which step a run is to be run again, and with which input."""

    step_id: str
    has_input: bool
    input: Any


def read_rerun(body: Any) -> Wanted | None:
    """What the decoded body of a rerun asks for; None: the run from the top.

    Raises:
        ApiError: 400, it asks for something else.
    """
    if body in (None, {}, {"from_step": None}):
        return None
    wanted = body.get("from_step") if isinstance(body, dict) and set(body) == {"from_step"} else None
    step_id = wanted.get("step_id") if isinstance(wanted, dict) else None
    if (
        not isinstance(wanted, dict)
        or not isinstance(step_id, str)
        or not set(wanted) <= {"step_id", "input"}
    ):
        raise ApiError(
            400,
            "Invalid rerun: a run is run again with its own events. Send no body, or "
            '{"from_step": {"step_id": "...", "input": ...}}, where `input` may be left out',
        )
    return Wanted(step_id, "input" in wanted, wanted.get("input"))


async def run_again(core: Core, run: RunSummary, wanted: Wanted | None = None) -> str:
    """Make a run of the same function with the same events, from the top or as is wanted; returns its id.

    Raises:
        ApiError: 400, the step takes no such input; 404, the function or the step is not known; 409, it starts nothing
            now; 410, an event of the run, or the results of its steps, are not kept any more.
        StoreError, StoreUnavailableError, TimeoutError: the store does not answer.
    """
    events = await _events(core, run)
    trace = {} if wanted is None else await _trace(core, run)
    new = core.ids.ulid(core.clock.now_ms())
    while True:
        registry = await core.registry(run.env)
        context = _context(core, registry)
        entry = startable(registry, run.slug)
        async with core.in_time():
            seq = await core.store.last_event(run.env)
            start = None if wanted is None else await _from_step(core, run, wanted, trace, entry)
            again = rerun(
                entry, run.id, new, events, seq=seq, cron=run.cron, context=context, from_step=start
            )
            effects = in_current_trace(again)
            kept = NoGuard() if start is None or not start.earlier else KeptGuard(run.id, len(start.earlier))
            applied = await core.store.apply(kept, effects, registry=registry.version)
        if applied.status == "ok":
            return new
        if applied.status == "gone":
            raise ApiError(410, NOT_KEPT)


async def _trace(core: Core, run: RunSummary) -> dict[str, StepTrace]:
    """What history says of the run's steps, by id."""
    await until_folded(core)
    async with core.in_time():
        return {step.id: step for step in fold_steps(await core.store.history(run.id))}


async def _from_step(
    core: Core, run: RunSummary, wanted: Wanted, trace: dict[str, StepTrace], entry: FunctionEntry
) -> FromStep:
    done = await core.store.completed_steps(run.id)
    if wanted.step_id not in done and wanted.step_id not in trace:
        raise ApiError(
            404,
            f"the run {run.id} knows no step {wanted.step_id[:100]!r}: write the `id` of one of the `steps` of "
            f"GET /v1/runs/{run.id}",
        )
    if not done and any(step.status == "Completed" for step in trace.values()):
        raise ApiError(410, NOT_KEPT)
    before = done[: done.index(wanted.step_id)] if wanted.step_id in done else done
    known = [trace.get(step_id, StepTrace(step_id)) for step_id in before]
    earlier = tuple(Earlier(step.id, step.name, step.op) for step in known)
    if not wanted.has_input:
        return FromStep(wanted.step_id, earlier)
    op, given = checked_input(trace.get(wanted.step_id, StepTrace(wanted.step_id)), wanted.input, entry.app)
    return FromStep(wanted.step_id, earlier, op, given)


def checked_input(step: StepTrace, given: Any, app: App) -> tuple[str, Any]:
    """As what operation a step takes edited input, and that input.

    Raises:
        ApiError: 400, the step or the app's SDK takes none, or not this.
    """
    refusal = f"Invalid rerun: `input` of the step {step.name or step.id!r}"
    if step.op == OpKind.AI_GATEWAY:
        if not isinstance(given, dict):
            raise ApiError(400, f"{refusal} must be an object, which is laid over the `body` of its request")
        return OpKind.AI_GATEWAY, given
    if step.op not in RUN_BY_APPS:
        raise ApiError(
            400,
            f"{refusal} cannot be edited, it is a {step.op or 'step of which nothing is known'}: only step.run and "
            "step.ai.wrap with arguments, and step.ai.infer, take other input; leave `input` out",
        )
    if not takes_input(app):
        raise ApiError(
            400,
            f"{refusal} cannot be edited: the SDK of the app {app.id!r} ({app.sdk_language} {app.sdk_version}) takes "
            "none, only the TypeScript SDK from 3.26.1 on does; leave `input` out",
        )
    if not step.has_arguments:
        raise ApiError(
            400,
            f"{refusal} cannot be edited: its function is given no arguments; write step.run(id, fn, ...arguments) in "
            "the code, and run that once",
        )
    if not isinstance(given, list):
        raise ApiError(400, f"{refusal} must be a list: the arguments that its function is given")
    return OpKind.STEP_RUN, given


def startable(registry: Registry, slug: str) -> FunctionEntry:
    """A function of which runs can be run again now.

    Raises:
        ApiError: 404, it is gone; 409, it starts nothing.
    """
    entry = registry.functions.get(slug)
    if entry is None:
        raise ApiError(404, f"the function {slug!r} is not registered any more: register it first")
    if entry.app.draining:
        raise ApiError(409, f"the app {entry.app.id!r} is being removed and starts nothing")
    config = entry.config
    if config.paused and config.new_runs == "Skip" and not entry.app.paused:
        raise ApiError(409, f"the function {slug!r} is paused and starts nothing: resume it first")
    return entry


async def _events(core: Core, run: RunSummary) -> Sequence[tuple[str, bytes]]:
    """The run's events: those that it was started with or, where it never was, as they are kept themselves."""
    fields = [f"e:{n}" for n in range(len(run.event_ids))]
    async with core.in_time():
        bodies = await core.store.run_payload(run.id, *fields) if fields else []
        kept: list[tuple[str, bytes]] = []
        for event_id, given in zip(run.event_ids, bodies, strict=True):
            event = await core.store.event(run.env, event_id) if given is None else None
            body = given if event is None else event.body
            if body:
                kept.append((event_id, body))
    if not kept or len(kept) < len(run.event_ids):
        raise ApiError(410, "an event of this run is not kept any more: send the event again")
    return kept


def _context(core: Core, registry: Registry) -> Context:
    now_ms = core.clock.now_ms()
    return Context(
        now_ms=now_ms,
        chance=0.0,
        new_id=lambda: core.ids.ulid(now_ms),
        canonical=canonical,
        seal=_no_fetches,
        registry=registry,
    )


def _no_fetches(op: Op) -> bytes:
    """A run begins without any request of its own."""
    raise ValueError(f"{op.kind} is for executors")
