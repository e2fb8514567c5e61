"""What an app's HTTP response means, free of I/O.

206 carries operations, other 2xx the function's result, everything else an error; 201 wraps one of these in a
stream. Nulls count as absent (the Python SDK writes them out), keys that are not known are ignored.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from innkeeper_apps.wire.canonical import NotJsonError, canonical_parsed, parse, plain
from innkeeper_apps.wire.request import decode_item_id
from innkeeper_engine.durations import parse_retry_after_ms
from innkeeper_engine.model.calls import Answer, Op, OpKind

MAX_RESPONSE_BYTES = 8 * 1024 * 1024
MAX_OUTPUT_BYTES = 4 * 1024 * 1024
MAX_OPS = 1000

NOT_AN_SDK = "response did not come from an Inngest SDK"
OUTPUT_TOO_LARGE = "output_too_large"

_ERROR_KEYS = ("name", "message", "stack", "data", "cause")
_WITH_RESULT = frozenset({OpKind.STEP_RUN, OpKind.STEP, OpKind.RUN_COMPLETE})
_CHECKPOINTED = frozenset({OpKind.STEP_RUN, OpKind.STEP, OpKind.STEP_PLANNED})
_KINDS = {kind.value: kind for kind in OpKind}
_SHOWN_CHARS = 500
"""How much of a body that is not an SDK's is quoted in an error."""


class _BadResponseError(Exception):
    """A response that cannot be used; the text says why, `name` is the error's name."""

    def __init__(self, reason: str, name: str = "InvalidResponse") -> None:
        super().__init__(reason)
        self.name = name


class CheckpointError(ValueError):
    """A checkpoint request that is refused, with the HTTP status to refuse it with."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Step results that an SDK reports while its call goes on."""

    run_id: str
    fn_id: str
    item_id: str
    """Decoded from `qi_id`."""
    request_id: str
    generation_id: int
    steps: tuple[Op, ...]


def read_answer(status: int, headers: Mapping[str, str], body: bytes, now_ms: int) -> Answer:
    """The meaning of a response whose header names are in lower case, received at `now_ms`.

    Never raises: a response that makes no sense is an `Answer` of kind `error`, retryable unless its headers
    say otherwise.
    """
    try:
        if status == 201:
            status, headers, body = _unwrap(headers, body)
        if len(body) > MAX_RESPONSE_BYTES:
            raise _too_large("response", len(body), MAX_RESPONSE_BYTES)
        return _read(status, headers, body, now_ms)
    except _BadResponseError as e:
        return failure(str(e), name=e.name, status=status, **_hints(headers, now_ms))


def failure(reason: str, *, name: str = "Error", status: int = 0, **hints: Any) -> Answer:
    """An `Answer` of kind `error` in this server's words. `hints`: no_retry, retry_at_ms, version."""
    error = canonical_parsed({"message": reason, "name": name})
    return Answer(kind="error", error=error, reason=reason, status=status, **hints)


def _read(status: int, headers: Mapping[str, str], body: bytes, now_ms: int) -> Answer:
    hints = _hints(headers, now_ms)
    if 200 <= status < 300:
        if "x-inngest-sdk" not in headers:
            raise _BadResponseError(NOT_AN_SDK, "NotAnSdk")
        if status == 206:
            return Answer(kind="ops", ops=_read_ops(body), status=status, **hints)
        if not hints["no_retry"]:
            return Answer(kind="output", output=_read_output(body), status=status, **hints)
        # The header wins: over Connect a final error comes with a status that means success.
        return Answer(
            kind="error", error=_read_error(body), reason="NonRetriableError", status=status, **hints
        )
    if "x-inngest-sdk" not in headers:
        return failure(_upstream(status, headers, body), name="UpstreamError", status=status, **hints)
    reason = f"invalid status code: {status}"
    return Answer(kind="error", error=_read_error(body), reason=reason, status=status, **hints)


def _hints(headers: Mapping[str, str], now_ms: int) -> dict[str, Any]:
    no_retry = headers.get("x-inngest-no-retry", "").strip().lower()
    retry_after = headers.get("retry-after")
    version = headers.get("x-inngest-req-version", "").strip()
    return {
        "no_retry": {"true": True, "false": False}.get(no_retry),
        "retry_at_ms": None if retry_after is None else parse_retry_after_ms(retry_after, now_ms),
        "version": int(version) if version.isascii() and version.isdigit() and len(version) < 10 else None,
    }


def _unwrap(headers: Mapping[str, str], body: bytes) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers and body inside a streamed reply: spaces, then one JSON object."""
    try:
        envelope = parse(body)
    except NotJsonError as e:
        raise _BadResponseError(f"streamed response: {e}") from None
    if not isinstance(envelope, dict):
        raise _BadResponseError("streamed response: expected one JSON object with `status` and `body`")
    if envelope.get("error"):
        raise _BadResponseError(f"streamed response failed: {_text(envelope['error'])}", "StreamError")
    status = envelope.get("status")
    if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 599:
        raise _BadResponseError("streamed response: `status` must be an HTTP status from 200 to 599")
    inner = {} if envelope.get("headers") is None else envelope["headers"]
    if not isinstance(inner, dict):
        raise _BadResponseError("streamed response: `headers` must be an object")
    merged = dict(headers) | {
        name.lower(): _text(value) for name, value in inner.items() if value is not None
    }
    content = envelope.get("body")
    return status, merged, content.encode(errors="replace") if isinstance(content, str) else _dump(content)


def _read_ops(body: bytes) -> tuple[Op, ...]:
    if not body.strip():
        raise _BadResponseError("response of status 206 with an empty body: expected an array of operations")
    try:
        parsed = parse(body)
    except NotJsonError as e:
        raise _BadResponseError(f"response of status 206: {e}") from None
    items = [parsed] if isinstance(parsed, dict) else parsed
    if not isinstance(items, list):
        raise _BadResponseError("response of status 206: expected an array of operations")
    if len(items) > MAX_OPS:
        raise _BadResponseError(f"response with {len(items)} operations: at most {MAX_OPS} are allowed")
    if not items:
        return (Op(id="", kind=OpKind.NONE),)
    return tuple([_read_op(item, i) for i, item in enumerate(items)])


def _read_op(item: Any, index: int) -> Op:
    if not isinstance(item, dict):
        raise _BadResponseError(f"operation {index}: expected an object")
    op = item.get("op")
    kind = _KINDS.get(op) if isinstance(op, str) else None
    id_, name = item.get("id") or "", item.get("name") or ""
    display_name, opts = item.get("displayName") or name, item.get("opts") or {}
    for key, value, wanted in (
        ("id", id_, str),
        ("name", name, str),
        ("displayName", display_name, str),
        ("opts", opts, dict),
    ):
        if not isinstance(value, wanted):
            expected = "text" if wanted is str else "an object"
            raise _BadResponseError(f"operation {index} ({_text(op)}): `{key}` must be {expected}")
    name, display_name = _whole(name), _whole(display_name)
    step = display_name or id_ or f"number {index}"
    if kind is None:
        raise _unknown_op(op, step)
    if not id_ and kind is not OpKind.NONE:
        raise _BadResponseError(f"operation {index} ({op}) has no `id`")
    error = item.get("error")
    try:
        options = plain({key: _whole(value) for key, value in opts.items() if value is not None})
    except NotJsonError as e:
        raise _BadResponseError(f"options of step {step}: {e}") from None
    return Op(
        id=id_,
        kind=kind,
        name=name,
        display_name=display_name,
        opts=options,
        data=_read_data(item.get("data"), kind, step),
        error=_step_error(error) if kind in (OpKind.STEP_ERROR, OpKind.STEP_FAILED) else None,
        timing=_timing(item["timing"]) if "timing" in item else None,
    )


def _timing(timing: Any) -> tuple[int, int] | None:
    """`{"a": <ns since the epoch>, "b": <ns>}`; informational, so that what is none is left out."""
    if not isinstance(timing, dict):
        return None
    began, took = timing.get("a"), timing.get("b")
    if type(began) is not int or type(took) is not int or began <= 0 or took < 0:
        return None
    return began, took


def _whole(value: Any) -> Any:
    """A text without half characters (lone surrogates), which no key and no note can hold; others as they are."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def _unknown_op(op: Any, step: str) -> _BadResponseError:
    if op in ("DeferAdd", "DeferAbort"):
        return _BadResponseError(
            f"operation {op} of step {step}: deferred runs are not supported", "UnknownOperation"
        )
    return _BadResponseError(f"unknown operation {_text(op)!r} of step {step}", "UnknownOperation")


def _read_data(data: Any, kind: OpKind, step: str) -> bytes | None:
    if data is None:
        return b"null" if kind in _WITH_RESULT else None
    raw = _dump(data)
    if len(raw) > MAX_OUTPUT_BYTES:
        raise _too_large(f"output of step {step}", len(raw), MAX_OUTPUT_BYTES)
    return raw


def _step_error(error: Any) -> bytes:
    """`{name, message, stack?, data?, cause?}`: what of a step's error outlives it."""
    if not isinstance(error, dict):
        error = {"message": "" if error is None else _text(error)}
    kept = {key: error[key] for key in _ERROR_KEYS if error.get(key) is not None}
    raw = _dump(_named(kept))
    if len(raw) > MAX_OUTPUT_BYTES:
        raise _too_large("error of a step", len(raw), MAX_OUTPUT_BYTES)
    return raw


def _read_output(body: bytes) -> bytes:
    if not body.strip():
        return b"null"
    try:
        return _dump(parse(body))
    except NotJsonError:
        return _dump(body.decode(errors="replace"))


def _read_error(body: bytes) -> bytes:
    """The SDK's error object, with a name and a message whatever it sent."""
    text = body.decode(errors="replace").strip()
    error: Any = None
    try:
        error = parse(body)
        if isinstance(error, str):
            # Some versions send the object as text inside JSON text.
            text = error
            error = parse(text.encode(errors="replace"))
    except NotJsonError:
        error = None
    return _dump(_named(error if isinstance(error, dict) else {"message": text}))


def _named(error: dict[str, Any]) -> dict[str, Any]:
    name, message = error.get("name"), error.get("message")
    if not isinstance(message, str):
        # What answers an unknown step id has its sentence in `error`.
        message = error["error"] if isinstance(error.get("error"), str) else _text(message or "")
    return error | {
        "name": name if isinstance(name, str) and name else "Error",
        "message": message or "unknown error",
    }


def _upstream(status: int, headers: Mapping[str, str], body: bytes) -> str:
    if status == 401 and "x-inngest-sdk-handled" in headers:
        return (
            "the app refused the request's signature (status 401): "
            "its signing key is not the one this server signs with, or its clock is more than 5 minutes off"
        )
    text = " ".join(body[: 4 * _SHOWN_CHARS].decode(errors="replace").split())
    where = "not from an Inngest SDK (a proxy or another server?)"
    return f"invalid status code: {status}, {where}: {text[:_SHOWN_CHARS]}".rstrip(": ")


def _too_large(what: str, size: int, limit: int) -> _BadResponseError:
    return _BadResponseError(
        f"{OUTPUT_TOO_LARGE}: the {what} has {size} bytes, at most {limit} are allowed", OUTPUT_TOO_LARGE
    )


def _dump(value: Any) -> bytes:
    try:
        return canonical_parsed(value)
    except NotJsonError as e:
        raise _BadResponseError(str(e)) from None


def _text(value: Any) -> str:
    """A JSON value as text; strings without quotes."""
    return value if isinstance(value, str) else _dump(value).decode()


def read_checkpoint(body: bytes) -> Checkpoint:
    """The body of `POST /v1/checkpoint/{run id}/async`.

    Raises:
        CheckpointError: it is not one; the message says what is wrong and where.
    """
    try:
        request = parse(body)
    except NotJsonError as e:
        raise CheckpointError(f"checkpoint: {e}") from None
    if not isinstance(request, dict):
        raise CheckpointError("checkpoint: expected a JSON object")
    texts = {key: request.get(key) for key in ("run_id", "fn_id", "qi_id", "request_id")}
    for key, value in texts.items():
        if not isinstance(value, str) or not value:
            raise CheckpointError(f"checkpoint: `{key}` must be text and not empty")
    generation = request.get("generation_id")
    if not isinstance(generation, int) or isinstance(generation, bool):
        raise CheckpointError("checkpoint: `generation_id` must be a whole number")
    steps = request.get("steps")
    if not isinstance(steps, list) or len(steps) > MAX_OPS:
        raise CheckpointError(f"checkpoint: `steps` must be an array of at most {MAX_OPS} operations")
    try:
        item_id = decode_item_id(str(texts["qi_id"]))
    except ValueError as e:
        raise CheckpointError(f"checkpoint: {e}") from None
    return Checkpoint(
        run_id=str(texts["run_id"]),
        fn_id=str(texts["fn_id"]),
        item_id=item_id,
        request_id=str(texts["request_id"]),
        generation_id=generation,
        steps=tuple([_checkpointed(step, i) for i, step in enumerate(steps)]),
    )


def _checkpointed(step: Any, index: int) -> Op:
    try:
        op = _read_op(step, index)
    except _BadResponseError as e:
        raise CheckpointError(f"checkpoint: {e}", 413 if e.name == OUTPUT_TOO_LARGE else 400) from None
    if op.kind not in _CHECKPOINTED:
        allowed = ", ".join(sorted(_CHECKPOINTED))
        raise CheckpointError(
            f"checkpoint: operation {op.kind} of step {op.display_name} is not allowed here, only {allowed}"
        )
    return op
