"""Bodies, queries and headers as a transform sees them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_gateway.webhooks.payloads import (
    PayloadError,
    headers_json,
    kept_headers,
    query_json,
    read_payload,
)

FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "application/json; charset=utf-8",
        "application/cloudevents+json",
        "text/json",
        FORM,
    ],
)
def test_json_is_json_whatever_it_is_called(content_type: str) -> None:
    payload = read_payload(content_type, b' {"msg":"hi"} ')
    assert (payload.mode, payload.raw) == ("json", ' {"msg":"hi"} ')


@pytest.mark.parametrize("body", [b"[1]", b"\n\t{}", b"\xef\xbb\xbf{}"])
def test_json_that_curl_sends_as_a_form_is_json(body: bytes) -> None:
    assert read_payload(FORM, body).mode == "json"


@pytest.mark.parametrize(
    "content_type", ["text/plain", "text/xml; charset=utf-8", "multipart/form-data; boundary=x"]
)
def test_of_other_types_json_is_taken_and_all_else_left_in_raw(content_type: str) -> None:
    payload = read_payload(content_type, "<é/>".encode())
    assert (payload.mode, payload.raw) == ("any", "<é/>")


@pytest.mark.parametrize(("body", "fields"), [(b"[a]=1&b=2", {"[a]": "1", "b": "2"}), (b"{no", {"{no": ""})])
def test_a_form_may_begin_like_json(body: bytes, fields: dict[str, str]) -> None:
    payload = read_payload(FORM, body)
    assert payload.mode == "given"
    assert json.loads(payload.given) == fields


def test_a_form_becomes_its_fields() -> None:
    body = b"a=1&b=x+y%20z&c=&a=2&d&__proto__=p&e=%C3%A9&f=%FF&payload=%7B%22x%22%3A1%7D&a=3"
    payload = read_payload(FORM + "; charset=UTF-8", body)
    assert payload.mode == "given"
    assert payload.raw == body.decode()
    assert json.loads(payload.given) == {
        **{"a": ["1", "2", "3"], "b": "x y z", "c": "", "d": "", "__proto__": "p", "e": "é", "f": "\ufffd"},
        "payload": '{"x":1}',
    }


@pytest.mark.parametrize("body", [b"", b" \r\n"])
@pytest.mark.parametrize("content_type", ["", "application/json", FORM, "text/xml"])
def test_an_empty_body_is_an_empty_object(content_type: str, body: bytes) -> None:
    payload = read_payload(content_type, body)
    assert (payload.mode, payload.given, payload.raw) == ("given", "{}", body.decode())


def test_bytes_that_are_no_utf_8_are_kept_one_by_one_unless_they_should_be_json() -> None:
    body = bytes(range(1, 256))
    assert read_payload("application/octet-stream", body).raw.encode("latin-1") == body
    with pytest.raises(PayloadError, match="byte 1 is not UTF-8"):
        read_payload("application/json", b'"\xff"')
    with pytest.raises(PayloadError, match="byte 0 is not UTF-8"):
        read_payload("", b"\xff")


def test_fields_are_counted() -> None:
    with pytest.raises(PayloadError, match="the form has more than 1000 fields"):
        read_payload(FORM, b"a&" * 1_001)
    with pytest.raises(PayloadError, match="the query has more than 1000 fields"):
        query_json("a&" * 1_001)


def test_the_query_is_an_object() -> None:
    assert query_json("") == "{}"
    assert json.loads(query_json("x-inngest-env=feature%2Fa&n=1&n=2&flag")) == {
        **{"x-inngest-env": "feature/a", "n": ["1", "2"], "flag": ""}
    }


def test_headers_are_spelt_as_documented_and_joined() -> None:
    headers = kept_headers(
        [
            (b"x-github-event", b"push"),
            (b"authorization", b"Bearer secret"),
            (b"accept", b"a"),
            (b"accept", b"b"),
            (b"cookie", b"a=1"),
            (b"cookie", b"b=2"),
            (b"x-latin", b"\xe9"),
            (b"content-encoding", b"gzip"),
            (b"content-length", b"3"),
        ],
        without="authorization",
    )
    assert json.loads(headers_json(headers)) == {
        **{"X-Github-Event": "push", "Accept": "a, b", "Cookie": "a=1; b=2", "X-Latin": "é"}
    }


@given(st.binary(max_size=60), st.sampled_from(["", FORM, "text/plain", "application/json;x", "é/ü"]))
def test_any_body_is_read_or_refused(body: bytes, content_type: str) -> None:
    try:
        payload = read_payload(content_type, body)
    except PayloadError:
        return
    assert body in (payload.raw.encode("utf-8"), payload.raw.encode("latin-1", "replace"))
    if payload.mode == "given":
        assert isinstance(json.loads(payload.given), dict)
