"""What each operation of a 206 response asks for."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from innkeeper_engine.cel import ExpressionError, bind, compile_expression
from innkeeper_engine.compiled import FunctionEntry
from innkeeper_engine.decide.context import STEPS_SETTING, Context
from innkeeper_engine.decide.endings import complete, fail_early
from innkeeper_engine.decide.notes import step_note
from innkeeper_engine.decide.payloads import edited_input
from innkeeper_engine.durations import DurationError, parse_time_or_duration_ms
from innkeeper_engine.model.calls import DISCOVER, Op, OpKind
from innkeeper_engine.model.decoding import decoded
from innkeeper_engine.model.effects import Discover, Effect, Emit, Plan, Save, Wait
from innkeeper_engine.model.state import Lease
from innkeeper_engine.tracing import in_run

NEW_RESULTS = frozenset({OpKind.STEP_RUN, OpKind.STEP, OpKind.STEP_FAILED, OpKind.STEP_ERROR})
"""Operations that bring a step's result."""

_NO_STEPS = frozenset({OpKind.NONE, OpKind.RUN_COMPLETE, OpKind.DISCOVERY_REQUEST})

_STEP_ID = re.compile(r"[0-9A-Za-z_-]{1,128}")
_TAKEN_IDS = frozenset({DISCOVER, "o", "x"})
"""Names of what is kept beside the results of steps."""

TIMEOUT_ERROR = (
    b'{"error":{"error":"InngestInvokeTimeoutError: Timed out waiting for invoked function to complete",'
    b'"message":"Timed out waiting for invoked function to complete","name":"InngestInvokeTimeoutError"}}'
)


def pause_id(run: str, step: str) -> str:
    """The pause of a step; for an invoked function also the id by which its end finds it."""
    return f"{run}.{step}"


def unusable_id(ops: Iterable[Op]) -> str | None:
    """The first id of a step that is none. SDKs send 40 hex digits; ids become parts of keys and of events."""
    for op in ops:
        if op.kind not in _NO_STEPS and (op.id in _TAKEN_IDS or not _STEP_ID.fullmatch(op.id)):
            return op.id
    return None


def op_effects(lease: Lease, op: Op, context: Context, *, go: bool) -> list[Effect]:
    """The effects of one operation. `go`: a result lets the function go on at once."""
    if op.kind in NEW_RESULTS:
        return _result(lease, op, context, go)
    return _KINDS[op.kind](lease, op, context)


def step_error(lease: Lease, op: Op, name: str, message: str, context: Context) -> list[Effect]:
    """The step fails at once; the function may catch it."""
    error = {"message": message, "name": name}
    return [
        Save(lease.run, op.id, b'{"error":%b}' % context.canonical(error), True),
        step_note(lease, op, "Failed", context.now_ms, error),
    ]


def _result(lease: Lease, op: Op, context: Context, go: bool) -> list[Effect]:
    failed = op.kind in (OpKind.STEP_ERROR, OpKind.STEP_FAILED)
    error = decoded(op.error) if failed and op.error else None
    return [
        Save(lease.run, op.id, _memo(op), go),
        step_note(lease, op, "Failed" if failed else "Completed", context.now_ms, error),
    ]


def _memo(op: Op) -> bytes:
    """A result as it is kept, and sent to the app."""
    if op.kind is OpKind.STEP:
        return op.data or b"null"
    if op.kind is OpKind.STEP_RUN:
        return b'{"data":%b}' % (op.data or b"null")
    return b'{"error":%b}' % (op.error or b'{"message":"the step failed","name":"Error"}')


def over_limits(lease: Lease, ops: Iterable[Op], context: Context) -> list[Effect] | None:
    """The end of a run that asks, with these operations, for more steps or more state than a run may have."""
    limits = context.limits
    known = set(lease.stack)
    count, size = lease.step_count, lease.state_bytes
    for op in ops:
        if op.kind in _NO_STEPS or op.id in known:
            continue
        known.add(op.id)
        count += 1
        result = len(_memo(op)) if op.kind in NEW_RESULTS else 0
        size += result
        step = repr(op.display_name or op.name or op.id)
        if count > limits.steps:
            message = f"step {step} would be step {count} of the run; a run has at most {limits.steps} ({STEPS_SETTING})"
            return fail_early(lease, "InngestErrFunctionOverflowed", message, context)
        if size > limits.state_bytes:
            message = (
                f"the result of step {step} ({result} bytes) would take the run's state to {size} bytes; "
                f"at most {limits.state_bytes} are kept"
            )
            return fail_early(lease, "InngestErrStateOverflowed", message, context)
    return None


def _planned(lease: Lease, op: Op, context: Context) -> list[Effect]:
    return [Plan(lease.run, op.id)]


def _deadline(text: str, context: Context, what: str) -> int:
    """Raises DurationError with a sentence that names what the text was for."""
    if not text:
        # To take it for "at once" would let a wait with a typing error pass unnoticed.
        raise DurationError(
            f"{what} is empty: SDKs send that for a time that they cannot read, such as '18h30m' or '1h ', and for "
            "one that is not positive; write a positive time such as '1h'"
        )
    try:
        at_ms = parse_time_or_duration_ms(text, context.now_ms)
    except DurationError as error:
        raise DurationError(f"{what} {text!r}: {error}") from None
    if at_ms - context.now_ms > context.limits.wait_ms:
        days = context.limits.wait_ms // 86_400_000
        raise DurationError(f"{what} {text!r} is too long: at most {days} days")
    return at_ms


def _sleep(lease: Lease, op: Op, context: Context) -> list[Effect]:
    text = str(op.opts.get("duration") or op.name)
    try:
        # No time at all is what SDKs write for sleeping 0 ms.
        until_ms = _deadline(text, context, "the time to sleep") if text else context.now_ms
    except DurationError as error:
        return step_error(lease, op, "InvalidDuration", str(error), context)
    return [_timed(lease, op, until_ms, context)]


def _timed(lease: Lease, op: Op, until_ms: int, context: Context) -> Wait:
    return Wait(
        pause_id(lease.run, op.id),
        lease.run,
        op.id,
        "sleep",
        lease.env,
        "",
        "",
        "",
        until_ms,
        b"",
        b"null",
        then=(step_note(lease, op, "Waiting", context.now_ms),),
    )


def _wait_for_event(lease: Lease, op: Op, context: Context) -> list[Effect]:
    name = str(op.opts.get("event") or op.name)
    text = str(op.opts.get("timeout") or "")
    expression = op.opts.get("if") or ""
    try:
        deadline_ms = _deadline(text, context, "the timeout of waitForEvent")
    except DurationError as error:
        return step_error(lease, op, "InvalidDuration", str(error), context)
    path, value, condition = "", "", b""
    if expression:
        try:
            bound = bind(compile_expression(str(expression)), first_event(lease))
        except ExpressionError as error:
            message = f"the expression of waitForEvent {op.display_name or op.id!r} is not valid: {error}"
            return fail_early(lease, "InvalidExpression", message, context)
        if bound.never:
            return [_timed(lease, op, deadline_ms, context)]
        path, value = bound.index or ("", "")
        condition = msgspec.json.encode(bound.dump())
    return [
        Wait(
            pause_id(lease.run, op.id),
            lease.run,
            op.id,
            "event",
            lease.env,
            name,
            path,
            value,
            deadline_ms,
            condition,
            b"null",
            then=(step_note(lease, op, "Waiting", context.now_ms),),
        )
    ]


def first_event(lease: Lease) -> dict[str, Any]:
    """The run's first event, decoded; the executor reads it where it did not come along with the lease."""
    event: dict[str, Any] = decoded((lease.payload or {}).get("e:0", b"{}"))
    return event


def _invoke(lease: Lease, op: Op, context: Context) -> list[Effect]:
    wanted = str(op.opts.get("function_id") or "")
    target = find_function(wanted, context)
    if target is None:
        message = f"could not find function with ID: {wanted}"
        return step_error(lease, op, "Error", message, context)
    text = op.opts.get("timeout")
    try:
        deadline_ms = (
            _deadline(str(text), context, "the timeout of invoke")
            if text
            else context.now_ms + context.limits.invoke_ms
        )
    except DurationError as error:
        return step_error(lease, op, "InvalidDuration", str(error), context)
    pause = pause_id(lease.run, op.id)
    payload = op.opts.get("payload")
    event = invoked_event(
        target,
        payload if isinstance(payload, dict) else {},
        context,
        pause,
        op.display_name or op.name,
        deadline_ms,
    )._replace(trace=in_run(lease.trace, lease.run) if lease.trace else "")
    if len(event.body) > context.limits.invoked_bytes:
        message = (
            f"the event that invokes {wanted} would have {len(event.body)} bytes: at most "
            f"{context.limits.invoked_bytes} are allowed"
        )
        return step_error(lease, op, "EventTooLarge", message, context)
    return [
        Wait(
            pause,
            lease.run,
            op.id,
            "invoke",
            lease.env,
            target.config.slug,
            "",
            "",
            deadline_ms,
            b"",
            TIMEOUT_ERROR,
            then=(event, step_note(lease, op, "Waiting", context.now_ms, event=event.id)),
        )
    ]


def find_function(wanted: str, context: Context) -> FunctionEntry | None:
    """A function that may be invoked, by slug or by UUID."""
    return context.registry.invocable(wanted)


def invoked_event(
    target: FunctionEntry,
    payload: dict[str, Any],
    context: Context,
    correlation: str = "",
    name: str = "",
    expire_ms: int = 0,
) -> Emit:
    """The event that starts exactly this function; its end resolves the pause `correlation`."""
    own: dict[str, Any] = {"fn_id": target.config.slug, "name": name}
    if correlation:
        own |= {"correlation_id": correlation, "expire": expire_ms}
    data = payload.get("data")
    event_id = context.new_id()
    event: dict[str, Any] = {
        "data": {**(data if isinstance(data, dict) else {}), "_inngest": own},
        "id": event_id,
        "name": "inngest/function.invoked",
        "ts": context.now_ms,
        "user": payload.get("user") or {},
    }
    if payload.get("v"):
        event["v"] = payload["v"]
    return Emit(target.env, event_id, "inngest/function.invoked", context.canonical(event))


def _wait_for_signal(lease: Lease, op: Op, context: Context) -> list[Effect]:
    signal = str(op.opts.get("signal") or op.name)
    try:
        deadline_ms = _deadline(str(op.opts.get("timeout") or ""), context, "the timeout of waitForSignal")
    except DurationError as error:
        return step_error(lease, op, "InvalidDuration", str(error), context)
    conflict = None
    if op.opts.get("conflict") != "replace":
        message = f"Signal conflict; signal wait already exists for another run: {signal}"
        conflict = tuple(fail_early(lease, "SignalConflict", message, context))
    return [
        Wait(
            pause_id(lease.run, op.id),
            lease.run,
            op.id,
            "signal",
            lease.env,
            signal,
            "",
            "",
            deadline_ms,
            b"",
            b"null",
            conflict,
            then=(step_note(lease, op, "Waiting", context.now_ms),),
        )
    ]


def _fetch(lease: Lease, op: Op, context: Context) -> list[Effect]:
    try:
        sealed = context.seal(_edited(lease, op))
    except ValueError as error:
        return step_error(lease, op, "InvalidRequest", str(error), context)
    return [Plan(lease.run, op.id, "f", sealed), step_note(lease, op, "Waiting", context.now_ms)]


def _edited(lease: Lease, op: Op) -> Op:
    """The operation with the body that a rerun from this step wants; what that does not name stays as it is.

    SDKs that are told of it do the same, and then ask for nothing (https://github.com/inngest/inngest-js, pull 752).
    """
    edited = edited_input(lease.payload or {})
    if edited is None or edited.step != op.id or op.kind is not OpKind.AI_GATEWAY:
        return op
    body = op.opts.get("body")
    changed = {**(body if isinstance(body, dict) else {}), **decoded(bytes(edited.input))}
    return msgspec.structs.replace(op, opts={**op.opts, "body": changed})


def _run_complete(lease: Lease, op: Op, context: Context) -> list[Effect]:
    return [complete(lease, op.data or b"null", context)]


def _discovery_request(lease: Lease, op: Op, context: Context) -> list[Effect]:
    return [Discover(lease.run)]


_KINDS: dict[OpKind, Callable[[Lease, Op, Context], list[Effect]]] = {
    OpKind.STEP_PLANNED: _planned,
    OpKind.SLEEP: _sleep,
    OpKind.WAIT_FOR_EVENT: _wait_for_event,
    OpKind.INVOKE_FUNCTION: _invoke,
    OpKind.WAIT_FOR_SIGNAL: _wait_for_signal,
    OpKind.GATEWAY: _fetch,
    OpKind.AI_GATEWAY: _fetch,
    OpKind.RUN_COMPLETE: _run_complete,
    OpKind.DISCOVERY_REQUEST: _discovery_request,
}
