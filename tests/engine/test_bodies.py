"""Bodies that are kept compressed: what comes back, what is joined in Python and in Lua, what is refused."""

import re
import secrets
import tracemalloc
from collections.abc import Callable, Iterator
from importlib import resources

import msgpack
import pytest
import redis
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from innkeeper_engine.store import scripts
from innkeeper_engine.store.bodies import (
    MOST_BYTES,
    UnreadableBodyError,
    decode_body,
    encode_body,
    join_bodies,
    raw_length,
)
from innkeeper_engine.store.connection import Address

OVER = 64
_PARTS = ("12_bodies.lua", "13_joining.rare.lua")
_LUA = (
    "local function digits(n) return string.format('%.0f', n) end\n"
    + "".join(resources.files(scripts).joinpath("lib", part).read_text("utf-8") for part in _PARTS)
    + """
local pieces = cmsgpack.unpack(ARGV[1])
local lengths = {}
for n, piece in ipairs(pieces) do lengths[n] = raw_length(piece) end
return {join_bodies(pieces), lengths}
"""
)

Join = Callable[[list[bytes]], tuple[bytes, list[int]]]

texts = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda unit, times: unit * times, st.binary(min_size=1, max_size=20), st.integers(0, 20_000)),
    st.just(b"z"),
    st.just(b"z5\n"),
    st.sampled_from([b"", b"{", b",", b'{"data":']),
)
"""Text that does and does not get smaller, up to several blocks of a frame, and such as looks like a head."""


@pytest.fixture(scope="module")
def lua_join(either_server: Address) -> Iterator[Join]:
    """`join_bodies` and `raw_length` of the scripts."""
    with redis.Redis(unix_socket_path=either_server.path) as client:
        run = client.register_script(_LUA)

        def join(pieces: list[bytes]) -> tuple[bytes, list[int]]:
            joined, lengths = run(args=[msgpack.packb(pieces, use_bin_type=False)])
            return joined, lengths

        yield join


@given(texts, st.sampled_from([0, OVER, 10**9]))
def test_what_was_written_comes_back(raw: bytes, over: int) -> None:
    body = encode_body(raw, over)
    assert decode_body(body) == raw
    assert raw_length(body) == len(raw)


@given(raw=texts.filter(lambda text: not text.startswith(b"z")))
def test_what_is_small_or_gets_no_smaller_is_kept_as_it_is(raw: bytes) -> None:
    body = encode_body(raw, OVER)
    assert body is raw or (len(raw) > OVER and len(body) < len(raw) * 0.9 + 12)
    assert encode_body(raw, 0) is raw
    assert encode_body(raw, len(raw)) is raw
    assert encode_body(noise := b"%b" % secrets.token_bytes(OVER * 2).lstrip(b"z"), OVER) is noise


@settings(max_examples=60)
@given(pieces=st.lists(st.tuples(texts, st.booleans()), min_size=1, max_size=8))
def test_joined_in_lua_or_here_any_mix_reads_as_one(pieces: list[tuple[bytes, bool]], lua_join: Join) -> None:
    bodies = [encode_body(raw, 1 if packed else 0) for raw, packed in pieces]
    raw = b"".join(raw for raw, _ in pieces)
    joined, lengths = lua_join(bodies)
    assert joined == join_bodies(bodies)
    assert decode_body(joined) == raw
    assert lengths == [len(raw) for raw, _ in pieces]
    assert raw_length(joined) == len(raw)
    # What was joined is joined again: an error in an event in an event.
    assert decode_body(join_bodies([joined, b",", joined])) == raw + b"," + raw


@given(raw=texts, over=st.sampled_from([1, 10**9]), data=st.data())
def test_a_body_that_was_damaged_is_refused_or_as_it_was(raw: bytes, over: int, data: st.DataObject) -> None:
    body = bytearray(encode_body(raw, over))
    if body[:1] != b"z":
        return
    at = data.draw(st.integers(1, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    try:
        found = decode_body(bytes(body))
    except UnreadableBodyError:
        return
    # A frame of raw blocks, as joins make, has no checksum: its text may differ, its length may not.
    assert found == raw or len(found) == raw_length(bytes(body))


@pytest.mark.parametrize("length", [0, 1, 9, 11, 10**6, MOST_BYTES, MOST_BYTES + 1, 10**11])
def test_a_head_that_lies_is_refused_and_takes_no_memory(length: int) -> None:
    honest = encode_body(b"a" * 10 + b"b" * 100_000, 1)
    lying = b"z%d\n%b" % (length, honest.split(b"\n", 1)[1])
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableBodyError, match="claims"):
            decode_body(lying)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_frames_that_hold_more_than_the_head_says_are_not_unpacked() -> None:
    bomb = b"z1000\n" + zstandard.compress(bytes(100 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableBodyError, match=r"claims 1000 bytes and has more"):
            decode_body(bomb)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "body",
    [b"z", b"z\n", b"z-1\n", b"z1e3\n", b"z01\nx", b"zebra", b"z12345678901234\n", b"z 1\n"],
)
def test_what_has_no_head_is_refused(body: bytes) -> None:
    with pytest.raises(UnreadableBodyError, match=re.escape("not with z<length> and a line break")):
        decode_body(body)


@pytest.mark.parametrize(
    "rest", [b"", b"x", b"plain text", b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfd\x00\xff\x00"]
)
def test_what_is_no_frame_is_refused(rest: bytes) -> None:
    with pytest.raises(UnreadableBodyError):
        decode_body(b"z5\n" + rest)
