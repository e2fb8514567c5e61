"""What nobody should send: bodies, headers and requests that are nearly right, and some that are not at all."""

import copy
import gzip
import zlib
from typing import Any

import orjson
from hypothesis import strategies as st

Header = tuple[bytes, bytes]

# As JSON texts, since some of them are no values of Python's, or no JSON.
NASTY: tuple[bytes, ...] = (
    b"null",
    b"true",
    b"-0",
    b"1e400",
    b"-1e-400",
    b"NaN",
    b"Infinity",
    b"9" * 400,
    b"18446744073709551616",
    b"1.7976931348623157e308",
    b'""',
    b'"\\u0000"',
    b'"\\ud800"',
    b'"\\udfff\\ud800"',
    b'"\xff"',
    b'"\xe2\x80\xa8"',
    b'"' + b"a" * 5_000 + b'"',
    b'"__proto__"',
    b'{"__proto__":{"x":1},"constructor":{"prototype":{}}}',
    b'{"a":1,"a":2}',
    b"[]",
    b"{}",
    b"[" * 300 + b"]" * 300,
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'"../../../etc/passwd"',
    b'"\'; FLUSHALL\\r\\n"',
    b'"$(id)`id`${id}{{7*7}}"',
    b'"\\r\\nSet-Cookie: a=b"',
    b'"http://169.254.169.254/latest/"',
    b'"(a+)+$"',
)

_MARK = "\u2603MARK\u2603"


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The way to each part of a JSON document, itself included."""
    found = [path]
    if isinstance(value, dict):
        for key, each in value.items():
            found += places(each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            found += places(each, (*path, index))
    return found


@st.composite
def nearly(draw: st.DrawFn, document: Any) -> bytes:
    """The document as JSON, with a part or two replaced by something nasty, or left out."""
    changed = copy.deepcopy(document)
    replacements = []
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(places(changed)))
        if not path:
            return draw(st.sampled_from(NASTY))
        parent = changed
        for part in path[:-1]:
            parent = parent[part]
        if draw(st.integers(0, 5)) == 0:
            del parent[path[-1]]
            continue
        parent[path[-1]] = _MARK
        replacements.append(draw(st.one_of(st.sampled_from(NASTY), json_texts)))
    text = orjson.dumps(changed)
    for replacement in replacements:
        text = text.replace(f'"{_MARK}"'.encode(), replacement, 1)
    return text


json_texts = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
).map(lambda value: orjson.dumps(value, option=orjson.OPT_PASSTHROUGH_SUBCLASS) if _dumps(value) else b"0")


def _dumps(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


@st.composite
def broken(draw: st.DrawFn, whole: bytes) -> bytes:
    """Some bytes of it changed, left out, or come twice."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.integers(0, 3)):
            case 0 if data:
                data[at] = draw(st.integers(0, 255))
            case 1:
                del data[at : at + draw(st.integers(1, 20))]
            case 2:
                data[at:at] = draw(st.binary(max_size=20))
            case _:
                data[at:at] = data[at : at + 20]
    return bytes(data)


@st.composite
def packed(draw: st.DrawFn, bodies: st.SearchStrategy[bytes]) -> tuple[bytes, list[Header]]:
    """A body, now and then compressed or said to be, and the headers that say so."""
    body = draw(bodies)
    match draw(st.integers(0, 9)):
        case 0:
            return gzip.compress(body, 1), [(b"content-encoding", b"gzip")]
        case 1:
            return zlib.compress(body), [(b"content-encoding", b"deflate")]
        case 2:
            return draw(broken(gzip.compress(body, 1))), [(b"content-encoding", b"gzip")]
        case 3:
            return body, [
                (b"content-encoding", draw(st.sampled_from([b"gzip", b"br", b"identity", b"\xff"])))
            ]
        case _:
            return body, []


values = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60).map(str.encode),
    st.binary(max_size=40).map(lambda raw: bytes(each for each in raw if each >= 32 and each != 127)),
    st.sampled_from(
        [b"", b"0", b"-1", b"9" * 30, b"application/json; charset=utf-16", b"t=,v1=", b"v1,", b"Bearer "]
    ),
)
"""What may stand in a header at all."""

SIGNATURES = (
    b"x-hub-signature-256",
    b"stripe-signature",
    b"x-slack-signature",
    b"x-slack-request-timestamp",
    b"webhook-id",
    b"webhook-timestamp",
    b"webhook-signature",
    b"authorization",
    b"x-inngest-signature",
    b"x-inngest-env",
    b"x-inngest-event-id-seed",
    b"x-inngest-sdk",
    b"x-forwarded-for",
    b"traceparent",
    b"content-type",
)

_time = st.one_of(st.integers(-(2**70), 2**70), st.just(1_700_000_000)).map(lambda n: b"%d" % n)
_hex = st.binary(max_size=40).map(lambda raw: raw.hex().encode())

signatures = st.one_of(
    values,
    st.builds(b"t=%b,v1=%b,v1=%b".__mod__, st.tuples(_time, _hex, _hex)),
    st.builds(b"t=%b&s=%b".__mod__, st.tuples(_time, _hex)),
    st.builds(b"v1,%b v1a,%b".__mod__, st.tuples(_hex, _hex)),
    st.builds(b"sha256=%b".__mod__, _hex),
    st.builds(b"v0=%b".__mod__, _hex),
    _time,
)
"""What looks like a signature, or the time of one."""

header_lists = st.lists(st.tuples(st.sampled_from(SIGNATURES), signatures), max_size=6)
