"""What an app's answer means: the effects of one call.

The rules are those of the SDK protocol as the published SDKs speak it; a run's snapshot comes with its lease.
"""

import msgspec

from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.endings import complete, failed_request
from innkeeper_engine.decide.notes import step_note
from innkeeper_engine.decide.steps import NEW_RESULTS, op_effects, over_limits, unusable_id
from innkeeper_engine.model.calls import Answer, Op, OpKind
from innkeeper_engine.model.decoding import decoded
from innkeeper_engine.model.effects import Discover, Effect, Finish, Mode, Pending, Retry, Save
from innkeeper_engine.model.state import Lease

RACE = "race"
"""`parallelMode` of steps of which each lets the function go on by itself."""

GROUPING_VERSION = 2
"""From this execution version on, the last of a parallel group calls the function, not each of them."""


def respond(lease: Lease, answer: Answer, context: Context) -> list[Effect]:
    """The effects of an app's answer to the call made under this lease."""
    max_attempts = attempts_of(lease, context)
    if answer.kind == "error" or (answer.kind == "output" and answer.no_retry):
        return failed_request(lease, answer, max_attempts, context)
    if answer.kind == "output":
        return [complete(lease, answer.output or b"null", context)]
    # A wait must be there before a sibling can send the event that it waits for.
    ops = sorted(
        (op for op in answer.ops if op.kind is not OpKind.NONE),
        key=lambda op: op.kind is not OpKind.WAIT_FOR_EVENT,
    )
    bad_id = unusable_id(ops)
    if bad_id is not None:
        return failed_request(lease, _bad_id_answer(answer, bad_id, context), max_attempts, context)
    effects: list[Effect] = []
    mode = _mode(lease, answer, ops)
    if mode is not None:
        effects.append(mode)
    if not ops:
        return [*effects, Discover(lease.run)]
    retried = _steps_to_retry(ops, answer, lease.attempt, max_attempts)
    done = [op for op in ops if not retried or op.kind is not OpKind.STEP_ERROR]
    ended = over_limits(lease, done, context)
    if ended is not None:
        return effects + ended
    effects += _group(lease, answer, ops)
    if retried:
        return effects + _retry_step(lease, retried[0], done, answer, context)
    return effects + _all_ops(lease, ops, context)


def attempts_of(lease: Lease, context: Context) -> int:
    """How many attempts each request of the run has: as configured now, or as when it started."""
    entry = context.registry.functions.get(lease.slug)
    return (entry.config.retries if entry else lease.retries) + 1


def _all_ops(lease: Lease, ops: list[Op], context: Context) -> list[Effect]:
    effects: list[Effect] = []
    alone = len(ops) == 1
    for op in ops:
        made = op_effects(lease, op, context, go=alone)
        effects += made
        if any(isinstance(effect, Finish) for effect in made):
            return effects
    if not alone and all(op.kind in NEW_RESULTS for op in ops):
        effects.append(Discover(lease.run))
    return effects


def _mode(lease: Lease, answer: Answer, ops: list[Op]) -> Mode | None:
    version = answer.version if answer.version is not None else lease.version
    plan_only = len(ops) > 1 and not any(op.kind is OpKind.RUN_COMPLETE for op in ops)
    if version == lease.version and (not plan_only or lease.plan_only):
        return None
    return Mode(lease.run, version, "1" if plan_only else "")


def _group(lease: Lease, answer: Answer, ops: list[Op]) -> list[Effect]:
    version = answer.version if answer.version is not None else lease.version
    planned = any(op.kind is OpKind.STEP_PLANNED for op in ops)
    if version < GROUPING_VERSION or len(ops) < 2 or not planned:
        return []
    steps = tuple(
        op.id
        for op in ops
        if op.kind not in (OpKind.RUN_COMPLETE, OpKind.DISCOVERY_REQUEST, *NEW_RESULTS)
        and op.opts.get("parallelMode") != RACE
    )
    return [Pending(lease.run, steps)] if steps else []


def _steps_to_retry(ops: list[Op], answer: Answer, attempt: int, max_attempts: int) -> list[Op]:
    if answer.no_retry or attempt + 1 >= max_attempts:
        return []
    return [op for op in ops if op.kind is OpKind.STEP_ERROR]


def _bad_id_answer(answer: Answer, bad_id: str, context: Context) -> Answer:
    reason = f"an operation has the id {bad_id[:100]!r}; a step's id has 1 to 128 letters, digits, - and _"
    error = context.canonical({"message": reason, "name": "InvalidResponse"})
    return msgspec.structs.replace(answer, kind="error", ops=(), error=error, reason=reason)


def _retry_step(lease: Lease, failed: Op, done: list[Op], answer: Answer, context: Context) -> list[Effect]:
    at_ms = context.policy.retry_at_ms(lease.attempt, context.now_ms, context.chance, answer.retry_at_ms)
    effects: list[Effect] = []
    for op in done:
        # The same request comes again and goes on from there.
        made = op_effects(lease, op, context, go=False)
        effects += [effect._replace(go=False) if isinstance(effect, Save) else effect for effect in made]
        if any(isinstance(effect, Finish) for effect in made):
            return effects
    error = decoded(failed.error) if failed.error else {}
    effects.append(step_note(lease, failed, "Retrying", context.now_ms, error))
    effects.append(Retry(lease.item, lease.attempt + 1, at_ms))
    return effects
