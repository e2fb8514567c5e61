"""Calls as HTTP requests: equal, byte for byte, to what was recorded."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_apps.wire.canonical import canonical, canonical_json
from innkeeper_apps.wire.keys import verify
from innkeeper_apps.wire.request import (
    call_body,
    call_headers,
    call_url,
    decode_item_id,
    encode_item_id,
    needs_api,
)
from innkeeper_engine.model.calls import Call

KEY = "signkey-prod-0123456789abcdef0123456789abcdef"
RECORDED = json.loads((Path(__file__).parent / "fixtures" / "wire-calls.json").read_bytes())
EVENT = b'{"data":{},"id":"01","name":"a","ts":1,"user":{}}'


def make_call(**changes: Any) -> Call:
    """A small call, with changes."""
    fields: dict[str, Any] = {
        "url": "http://app:3000/api/inngest?fnId=app-fn&stepId=step",
        "slug": "app-fn",
        "fn_uuid": "a4dd85f5-e0fc-5e04-bba3-9d5a6f15dc0e",
        "run_id": "01M81CTARKW5SKMYZB787D66VA",
        "item_id": "item1",
        "request_id": "01M81CTAX26XTFACW56WN4MRFD",
        "events": (EVENT,),
    }
    return Call(**(fields | changes))


def from_recorded(recorded: dict[str, Any]) -> Call:
    """The call that must have led to a recorded request."""
    body = recorded["body"]
    ctx = body["ctx"]
    return Call(
        url="http://localhost" + re.sub("stepId=.*", "stepId=any", recorded["path"]),
        slug="unused",
        fn_uuid=ctx["fn_id"],
        run_id=ctx["run_id"],
        step_id=recorded["headers"]["x-inngest-step-id"],
        attempt=ctx["attempt"],
        max_attempts=ctx["max_attempts"],
        item_id=ctx["job_id"],
        request_id=ctx["request_id"],
        generation=ctx["generation_id"],
        version=body["version"],
        plan_only=ctx["disable_immediate_execution"],
        use_api=body["use_api"],
        stack=tuple(ctx["stack"]["stack"]),
        steps={id_: canonical(data) for id_, data in body["steps"].items()},
        events=tuple(canonical(event) for event in body["events"]),
        env=ctx["env"],
        traceparent=recorded["headers"]["traceparent"],
    )


@pytest.mark.parametrize("recorded", RECORDED, ids=[recorded["name"] for recorded in RECORDED])
def test_the_request_equals_the_recorded_one(recorded: dict[str, Any]) -> None:
    """Body by bytes and length, headers by value, query by text."""
    call = from_recorded(recorded)
    body = call_body(call)
    assert body == canonical(recorded["body"])
    if recorded["raw_len"]:
        assert len(body) == recorded["raw_len"]
    signature = recorded["headers"].get("x-inngest-signature")
    now_s = int(signature[2:12]) if signature else 0
    headers = {
        name.lower(): value for name, value in call_headers(call, body, signature and KEY, now_s).items()
    }
    for name, value in recorded["headers"].items():
        assert headers[name] == value, name
    assert call_url(call) == "http://localhost" + recorded["path"]


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
pieces = st.recursive(
    st.none() | st.integers(-(2**53), 2**53) | text,
    lambda x: st.lists(x) | st.dictionaries(text, x),
    max_leaves=5,
).map(canonical)


@given(
    st.dictionaries(text, pieces, max_size=4),
    st.lists(st.dictionaries(text, st.integers(0, 9)).map(canonical), min_size=1, max_size=3),
    text,
    st.booleans(),
)
def test_the_joined_body_is_canonical(
    steps: dict[str, bytes], events: list[bytes], env: str, use_api: bool
) -> None:
    """Parsing and writing it again changes nothing, so it can be signed as it is."""
    call = make_call(steps=steps, events=tuple(events), env=env, use_api=use_api, stack=tuple(steps))
    body = call_body(call)
    assert canonical_json(body) == body
    sent = json.loads(body)
    assert set(sent["steps"]) == (set() if use_api else set(steps))
    assert sent["use_api"] is sent["ctx"]["use_api"] is use_api


@pytest.mark.parametrize(
    ("url", "step_id", "expected"),
    [
        ("http://a/x?fnId=f&stepId=step", "abc", "http://a/x?fnId=f&stepId=abc"),
        ("http://a/x?stepId=step&fnId=f&z=1", "abc", "http://a/x?stepId=abc&fnId=f&z=1"),
        ("http://a/x?fnId=my%20app-a%2Fb&stepId=step", "s", "http://a/x?fnId=my%20app-a%2Fb&stepId=s"),
        ("http://a/x?fnId=my app-ü&stepId=step#top", "s", "http://a/x?fnId=my%20app-%C3%BC&stepId=s"),
        ("http://a/x?fnId=f", "s", "http://a/x?fnId=f&stepId=s"),
        ("http://a/x", "s", "http://a/x?fnId=my%20app-a%2Fb&stepId=s"),
        ("http://a/x?fnId=f&stepId=step&stepId=step", "a/b c&d", "http://a/x?fnId=f&stepId=a%2Fb%20c%26d"),
        ("http://[::1]:3000/x?fnId=f&stepId=step", "s", "http://[::1]:3000/x?fnId=f&stepId=s"),
    ],
)
def test_only_the_step_id_of_the_registered_url_changes(url: str, step_id: str, expected: str) -> None:
    """Ids may hold slashes, spaces and letters of any script."""
    assert call_url(make_call(url=url, slug="my app-a/b", step_id=step_id)) == expected


def test_a_state_of_more_than_4_mib_needs_the_api() -> None:
    """The estimate is never below the real size."""
    small = make_call(steps={"a" * 40: b'"x"'}, stack=("a" * 40,))
    assert not needs_api(small)
    large = make_call(steps={"a" * 40: b'"' + b"x" * 4_194_304 + b'"'})
    assert needs_api(large)
    assert not needs_api(make_call(steps={"a" * 40: b'"' + b"x" * 4_000_000 + b'"'}))


def test_with_the_api_a_huge_event_is_sent_once() -> None:
    """Twice 3 MiB would be over the limit again."""
    huge = b'{"data":{"x":"' + b"y" * 3_000_000 + b'"},"id":"1","name":"a","ts":1,"user":{}}'
    body = json.loads(call_body(make_call(use_api=True, events=(huge, EVENT))))
    assert body["events"] == []
    assert body["event"]["id"] == "1"


def test_only_signed_where_there_is_a_key() -> None:
    """A development server has none."""
    call = make_call()
    body = call_body(call)
    assert "X-Inngest-Signature" not in call_headers(call, body, None, 5)
    signed = call_headers(call, body, KEY, 5)
    assert verify(signed["X-Inngest-Signature"], body, [KEY], 5) == KEY
    assert "X-Inngest-Server-Kind" not in signed
    assert "Traceparent" not in signed


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_queue_item_ids_come_back(item_id: str) -> None:
    """What the SDK returns with a checkpoint names the item again."""
    assert decode_item_id(encode_item_id(item_id)) == item_id


@pytest.mark.parametrize("qi_id", ["", "x", "Zm9v", "OjpkZWZhdWx0", "ü", "/w=="])
def test_foreign_queue_item_ids_are_refused(qi_id: str) -> None:
    """Not ours, not base64, no item in it."""
    with pytest.raises(ValueError, match="not one that this server gave"):
        decode_item_id(qi_id)
