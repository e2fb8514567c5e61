"""What responses of apps mean: recorded ones, broken ones, hostile ones."""

import json
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_apps.wire.canonical import canonical
from innkeeper_apps.wire.response import (
    MAX_OUTPUT_BYTES,
    MAX_RESPONSE_BYTES,
    CheckpointError,
    read_answer,
    read_checkpoint,
)
from innkeeper_engine.model.calls import Answer, OpKind

FIXTURES = Path(__file__).parent / "fixtures"
RECORDED = json.loads((FIXTURES / "wire-calls.json").read_bytes())
CHECKPOINTS = json.loads((FIXTURES / "wire-checkpoints.json").read_bytes())
NOW = 1_795_343_330_000
SDK = {"x-inngest-sdk": "inngest-js:v4.24.0"}
STEP = "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"


def answer(status: int, body: Any, **headers: str) -> Answer:
    """Read a response of an SDK; underscores in header names stand for dashes."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_answer(status, SDK | named, raw, NOW)


def error_of(result: Answer) -> dict[str, Any]:
    """The error object of an error answer."""
    assert result.kind == "error"
    assert result.error is not None
    error = json.loads(result.error)
    assert isinstance(error["name"], str)
    assert isinstance(error["message"], str)
    assert result.reason
    return dict(error)


@pytest.mark.parametrize("recorded", RECORDED, ids=[recorded["name"] for recorded in RECORDED])
def test_recorded_responses_are_understood(recorded: dict[str, Any]) -> None:
    """Every operation keeps its id and result, every error its name and message."""
    response = recorded["response"]
    result = read_answer(response["status"], response["headers"], orjson.dumps(response["body"]), NOW)
    body, status = response["body"], response["status"]
    if status == 201:
        status = body["status"]
        body = json.loads(body["body"])
    assert result.status == status
    assert result.version in (1, 2)
    if status == 206:
        assert [(op.id, op.kind) for op in result.ops] == [(op["id"], op["op"]) for op in body]
        for op, sent in zip(result.ops, body, strict=True):
            if op.kind in (OpKind.STEP_RUN, OpKind.RUN_COMPLETE):
                assert op.data == canonical(sent.get("data"))
            if op.kind in (OpKind.STEP_ERROR, OpKind.STEP_FAILED):
                assert op.error is not None
                assert json.loads(op.error)["message"] == sent["error"]["message"]
    elif status == 200:
        assert result.kind == "output"
        assert result.output == canonical(body)
    else:
        error = error_of(result)
        assert error["message"] == body["message"]
        assert error["stack"] == body["stack"]
        assert result.reason == f"invalid status code: {status}"


def test_python_nulls_count_as_absent() -> None:
    """`opts: null`, `if: null` and planned data are left out."""
    result = answer(
        206,
        [
            {"id": STEP, "op": "StepPlanned", "opts": None, "data": None, "name": None, "displayName": "a"},
            {"id": STEP, "op": "WaitForEvent", "opts": {"timeout": "1h", "if": None}, "name": "ev"},
            {"id": STEP, "op": "StepRun", "data": None, "name": "a"},
        ],
    )
    planned, wait, run = result.ops
    assert (planned.data, planned.opts, planned.display_name) == (None, {}, "a")
    assert (wait.opts, wait.name, wait.data) == ({"timeout": "1h"}, "ev", None)
    assert run.data == b"null"


def test_options_are_plain_values_that_can_be_stored() -> None:
    """Odd numbers in them are numbers like all others."""
    body = b'[{"id":"x","op":"InvokeFunction","opts":{"payload":{"a":[1e-9,2.0,1e300],"b":%b}}}]' % (
        b"9" * 5000
    )
    (op,) = answer(206, body).ops
    assert op.opts == {"payload": {"a": [1e-9, 2, 1e300], "b": "9" * 5000}}
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(op)) == msgspec.to_builtins(op)
    assert json.loads(orjson.dumps(op.opts)) == op.opts


@pytest.mark.parametrize("key", ["opts", "data", "error", "junk"])
def test_deep_nesting_never_raises(key: str) -> None:
    """Each parser has its own limit; between them lies no crash."""
    for depth in (200, 300, 480, 700, 950, 990, 5000):
        value = b'{"x":' + b"[" * depth + b"]" * depth + b"}"
        body = b'[{"id":"x","op":"StepFailed","name":"a","%b":%b}]' % (key.encode(), value)
        result = answer(206, body)
        assert result.kind == "ops" or "nested too deeply" in result.reason
        assert answer(200, value).kind in ("output", "error")
        assert error_of(answer(500, value))


def test_a_bare_object_is_one_operation_and_an_empty_array_is_none() -> None:
    """Both are allowed by the protocol."""
    assert [op.kind for op in answer(206, {"id": STEP, "op": "StepPlanned"}).ops] == [OpKind.STEP_PLANNED]
    assert [op.kind for op in answer(206, []).ops] == [OpKind.NONE]
    assert answer(206, [{"id": STEP, "op": "RunComplete"}]).ops[0].data == b"null"


def test_step_errors_keep_only_what_outlives_the_step() -> None:
    """`__serialized` and `code` go; a missing name or message is filled in."""
    sent = {
        "name": "E",
        "message": "m",
        "stack": "s",
        "__serialized": True,
        "code": "x",
        "cause": {"z": 1, "a": 2.0},
    }
    ops = answer(
        206,
        [
            {"id": STEP, "op": "StepFailed", "error": sent, "data": None},
            {"id": STEP, "op": "StepError", "error": "just text"},
            {"id": STEP, "op": "StepError"},
        ],
        x_inngest_no_retry="false",
    ).ops
    assert ops[0].error == b'{"cause":{"a":2,"z":1},"message":"m","name":"E","stack":"s"}'
    assert ops[1].error == b'{"message":"just text","name":"Error"}'
    assert ops[2].error == b'{"message":"unknown error","name":"Error"}'


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "empty body"),
        (b"  \n", "empty body"),
        (b"<html>", "not JSON"),
        (b'"text"', "expected an array of operations"),
        (b"[1]", "operation 0: expected an object"),
        (
            b'[{"id":"x","op":"Frobnicate","displayName":"my step"}]',
            "unknown operation 'Frobnicate' of step my step",
        ),
        (b'[{"id":"x"}]', "unknown operation 'null' of step x"),
        (b'[{"id":"x","op":{}}]', "unknown operation '{}' of step x"),
        (b'[{"id":"x","op":"DeferAdd","name":"d"}]', "DeferAdd of step d: deferred runs are not supported"),
        (b'[{"op":"StepRun","name":"a"}]', "operation 0 (StepRun) has no `id`"),
        (b'[{"id":7,"op":"StepRun"}]', "operation 0 (StepRun): `id` must be text"),
        (b'[{"id":"x","op":"Sleep","opts":[1]}]', "operation 0 (Sleep): `opts` must be an object"),
        (
            b"[" + b'{"id":"x","op":"StepPlanned"},' * 1000 + b'{"id":"x","op":"StepPlanned"}]',
            "1001 operations",
        ),
    ],
)
def test_broken_operations_are_errors_that_say_what_is_wrong(body: bytes, message: str) -> None:
    """The run's owner reads this: which step, what, what instead."""
    result = answer(206, body, x_inngest_req_version="2")
    assert message in result.reason
    assert message in error_of(result)["message"]
    assert (result.no_retry, result.status, result.version) == (None, 206, 2)


@pytest.mark.parametrize(
    ("body", "output"),
    [
        (b'{"b":1.0,"a":[]}', b'{"a":[],"b":1}'),
        (b"null", b"null"),
        (b"", b"null"),
        (b"plain text", b'"plain text"'),
        (b'"quoted"', b'"quoted"'),
        (b"\xff", '"\ufffd"'.encode()),
        (b'{"x":"\\ud800"}', b'{"x":"\\ud800"}'),
        (b"[NaN]", b"[null]"),
    ],
)
def test_a_functions_result_is_json_or_text(body: bytes, output: bytes) -> None:
    """Whatever the function returned, the run completes with it."""
    result = answer(200, body)
    assert (result.kind, result.output) == ("output", output)


def test_a_success_without_the_sdk_header_is_an_error() -> None:
    """A login page or another service answered."""
    for status in (200, 204, 206):
        result = read_answer(status, {"content-type": "text/html"}, b"<html>", NOW)
        assert result.reason == "response did not come from an Inngest SDK"
        assert error_of(result)["name"] == "NotAnSdk"


def test_an_upstream_error_is_named_as_such() -> None:
    """A proxy's 502 page is quoted in short, not stored whole."""
    result = read_answer(502, {"content-type": "text/html"}, b"<h1>Bad\n  Gateway</h1>" + b"x" * 10_000, NOW)
    assert result.reason.startswith("invalid status code: 502, not from an Inngest SDK")
    assert "<h1>Bad Gateway</h1>" in result.reason
    assert len(result.reason) < 700
    assert error_of(result)["name"] == "UpstreamError"
    empty = read_answer(404, {}, b"", NOW)
    assert empty.reason.endswith("(a proxy or another server?)")


def test_a_refused_signature_is_explained() -> None:
    """SDKs answer 401 with only the header `handled`."""
    result = read_answer(401, {"x-inngest-sdk-handled": "true"}, b'{"message":"Unauthorized"}', NOW)
    assert "signing key" in error_of(result)["message"]
    assert result.status == 401


@pytest.mark.parametrize(
    ("body", "name", "message"),
    [
        (b'{"name":"TypeError","message":"bad","stack":"s","extra":[1]}', "TypeError", "bad"),
        (b'{"code":"step_unexpected","message":"found a"}', "Error", "found a"),
        (b'{"error":"could not find step","requestedStep":"x"}', "Error", "could not find step"),
        (b'"{\\"name\\":\\"E\\",\\"message\\":\\"inner\\"}"', "E", "inner"),
        (b'"only text"', "Error", "only text"),
        (b"Internal Server Error", "Error", "Internal Server Error"),
        (b"", "Error", "unknown error"),
        (b"[1]", "Error", "[1]"),
        (b'{"message":{"a":1},"name":5}', "Error", '{"a":1}'),
    ],
)
def test_error_bodies_of_all_shapes(body: bytes, name: str, message: str) -> None:
    """Always a name and a message."""
    error = error_of(answer(500, body))
    assert (error["name"], error["message"]) == (name, message)


def test_other_keys_of_an_error_are_kept() -> None:
    """The failure event shows them."""
    assert error_of(answer(500, {"name": "E", "message": "m", "code": "c", "cause": {"x": 1}})) == {
        "name": "E",
        "message": "m",
        "code": "c",
        "cause": {"x": 1},
    }


@pytest.mark.parametrize(
    ("headers", "no_retry", "retry_at_ms", "version"),
    [
        ({}, None, None, None),
        ({"x_inngest_no_retry": "true"}, True, None, None),
        ({"x_inngest_no_retry": "False"}, False, None, None),
        ({"x_inngest_no_retry": "maybe"}, None, None, None),
        ({"retry_after": "30"}, None, NOW + 30_000, None),
        ({"retry_after": "2026-11-22T10:30:00.000Z"}, None, 1_795_343_400_000, None),
        ({"retry_after": "99999999"}, None, NOW + 86_400_000, None),
        ({"retry_after": "soon"}, None, None, None),
        ({"x_inngest_req_version": "2"}, None, None, 2),
        ({"x_inngest_req_version": "-1"}, None, None, None),
        ({"x_inngest_req_version": "²"}, None, None, None),
    ],
)
def test_hints_in_headers(
    headers: dict[str, str], no_retry: bool | None, retry_at_ms: int | None, version: int | None
) -> None:
    """No-retry in three states, Retry-After as an instant, the execution version."""
    result = answer(500, {"name": "E", "message": "m"}, **headers)
    assert (result.no_retry, result.retry_at_ms, result.version) == (no_retry, retry_at_ms, version)


def test_no_retry_on_a_success_is_a_final_error() -> None:
    """The header wins over the status, except with operations, where the operation decides."""
    result = answer(200, {"name": "E", "message": "m"}, x_inngest_no_retry="true")
    assert (result.kind, result.no_retry, error_of(result)["message"]) == ("error", True, "m")
    ops = answer(206, [{"id": STEP, "op": "StepError", "error": {}}], x_inngest_no_retry="true")
    assert (ops.kind, ops.no_retry) == ("ops", True)


def test_a_streamed_reply_is_unwrapped() -> None:
    """Status and headers inside win; the body is JSON text or plain JSON."""
    ops = [{"id": STEP, "op": "StepRun", "data": 1}]
    for body in (json.dumps(ops), ops):
        envelope = {"status": 206, "headers": {"Retry-After": "5", "X-Inngest-Req-Version": 2}, "body": body}
        result = answer(201, b"     \n" + orjson.dumps(envelope), x_inngest_req_version="1")
        assert (result.kind, result.status, result.version) == ("ops", 206, 2)
        assert result.retry_at_ms == NOW + 5000
        assert result.ops[0].data == b"1"
    failed = answer(
        201, {"status": 500, "headers": {"x-inngest-no-retry": "true"}, "body": '{"message":"m"}'}
    )
    assert (failed.kind, failed.no_retry, failed.status) == ("error", True, 500)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"   ", "streamed response: not JSON"),
        (b'  {"status":206,"body":"[', "streamed response: not JSON"),
        (b"[]", "expected one JSON object"),
        (b'{"body":"[]"}', "`status` must be"),
        (b'{"status":true,"body":"[]"}', "`status` must be"),
        (b'{"status":206,"headers":[],"body":"[]"}', "`headers` must be an object"),
        (b'{"error":"out of time"}', "streamed response failed: out of time"),
    ],
)
def test_broken_streams_are_errors(body: bytes, message: str) -> None:
    """A stream that was cut off must not look like a result."""
    assert message in answer(201, body).reason


def test_sizes_are_limited_with_a_clear_error() -> None:
    """4 MiB a step, 8 MiB a response; exactly at the limit is fine."""
    fits = "x" * (MAX_OUTPUT_BYTES - 2)
    op = {"id": STEP, "op": "StepRun", "name": "big", "data": fits}
    assert answer(206, [op]).kind == "ops"
    result = answer(206, [op | {"data": fits + "x"}])
    assert result.reason == (
        "output_too_large: the output of step big has 4194305 bytes, at most 4194304 are allowed"
    )
    assert error_of(result)["name"] == "output_too_large"
    whole = answer(200, b'"' + b"x" * (MAX_RESPONSE_BYTES - 2) + b'"')
    assert whole.kind == "output"
    assert answer(200, b'"' + b"x" * MAX_RESPONSE_BYTES + b'"').reason.startswith(
        "output_too_large: the response"
    )
    failed = answer(206, [{"id": STEP, "op": "StepFailed", "error": {"message": fits}}])
    assert failed.reason.startswith("output_too_large: the error of a step")


@given(st.sampled_from([200, 201, 206, 400, 500, 302]), st.binary(max_size=60), st.booleans())
def test_no_response_raises(status: int, body: bytes, sdk: bool) -> None:
    """Bytes from outside never take the process down, and errors always explain themselves."""
    result = read_answer(status, SDK if sdk else {}, body, NOW)
    if result.kind == "error":
        error_of(result)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
op_like = st.fixed_dictionaries(
    {},
    optional={
        "id": st.just(STEP) | json_values,
        "op": st.sampled_from([kind.value for kind in OpKind]) | json_values,
        "name": json_values,
        "displayName": json_values,
        "opts": json_values,
        "data": json_values,
        "error": json_values,
    },
)


@given(st.sampled_from([200, 201, 206, 500]), st.lists(op_like, max_size=3) | op_like | json_values)
def test_no_json_of_any_shape_raises(status: int, body: Any) -> None:
    """The same for well-formed JSON in the wrong shape; results are canonical."""
    raw = json.dumps(body).encode()
    result = read_answer(status, SDK, raw, NOW)
    for op in result.ops:
        assert op.data is None or canonical(json.loads(op.data)) == op.data


@pytest.mark.parametrize("recorded", CHECKPOINTS, ids=range(len(CHECKPOINTS)))
def test_recorded_checkpoints_are_understood(recorded: dict[str, Any]) -> None:
    """The SDK's internals inside the operations are ignored."""
    checkpoint = read_checkpoint(orjson.dumps(recorded))
    assert checkpoint.run_id == recorded["run_id"]
    assert checkpoint.request_id == recorded["request_id"]
    assert checkpoint.generation_id == recorded["generation_id"]
    assert checkpoint.item_id
    assert "::" not in checkpoint.item_id
    assert [op.data for op in checkpoint.steps] == [canonical(step["data"]) for step in recorded["steps"]]


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"run_id": None}, 400, "`run_id` must be text"),
        ({"request_id": 5}, 400, "`request_id` must be text"),
        ({"qi_id": "bogus"}, 400, "qi_id is not one that this server gave"),
        ({"generation_id": "1"}, 400, "`generation_id` must be a whole number"),
        ({"generation_id": True}, 400, "`generation_id` must be a whole number"),
        ({"steps": {}}, 400, "`steps` must be an array"),
        (
            {"steps": [{"id": "x", "op": "Sleep", "name": "1s"}]},
            400,
            "operation Sleep of step 1s is not allowed",
        ),
        ({"steps": [{"id": "x", "op": "StepFailed", "name": "a"}]}, 400, "operation StepFailed of step a"),
        ({"steps": [{"id": "x", "op": "Nope"}]}, 400, "unknown operation 'Nope'"),
        ({"steps": [{"id": "x", "op": "StepRun", "data": "x" * MAX_OUTPUT_BYTES}]}, 413, "output_too_large"),
    ],
)
def test_bad_checkpoints_are_refused_with_a_status(change: dict[str, Any], status: int, message: str) -> None:
    """Nothing of a checkpoint is stored unless all of it is understood."""
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(orjson.dumps(CHECKPOINTS[0] | change))
    assert caught.value.status == status


@given(st.binary(max_size=40) | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_checkpoint_raises_anything_else(body: bytes) -> None:
    """It comes from outside."""
    with pytest.raises(CheckpointError):
        read_checkpoint(body)
