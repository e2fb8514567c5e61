"""Bodies are read within bounds, whatever the sender says about them."""

import asyncio
import gzip
import zlib
from collections.abc import MutableMapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_gateway.bodies import BodyError, ClientGoneError, Header, Receive, Turns, read_body, unpack


def receiver(*chunks: bytes, gone: bool = False) -> Receive:
    """Receives `chunks`, and then the end or a closed connection."""
    messages: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": chunk, "more_body": gone or n < len(chunks)}
        for n, chunk in enumerate(chunks, 1)
    ]
    messages.append({"type": "http.disconnect"})
    waiting = iter(messages)

    async def receive() -> MutableMapping[str, Any]:
        return next(waiting)

    return receive


async def refusal(headers: list[Header], receive: Receive, limit: int) -> BodyError:
    with pytest.raises(BodyError) as caught:
        await read_body(headers, receive, limit)
    return caught.value


async def test_a_body_in_pieces_is_joined() -> None:
    assert await read_body([], receiver(b"ab", b"", b"cd"), 4) == b"abcd"


async def test_a_body_is_refused_by_its_announced_length_before_it_is_read() -> None:
    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError("read")

    assert (await refusal([(b"content-length", b"11")], receive, 10)).status == 413


async def test_a_body_is_refused_as_soon_as_it_is_too_long() -> None:
    assert (await refusal([], receiver(b"12345678901"), 10)).status == 413
    assert (await refusal([], receiver(b"123456", b"78901", gone=True), 10)).status == 413


async def test_a_client_that_goes_away_is_told_apart() -> None:
    with pytest.raises(ClientGoneError):
        await read_body([], receiver(b"ab", gone=True), 10)


RAW_DEFLATE = zlib.compressobj(wbits=-15)


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(b"hello", mtime=0)),
        ("GZIP", gzip.compress(b"hel", mtime=0) + gzip.compress(b"lo", mtime=0)),
        ("x-gzip", gzip.compress(b"hello", mtime=0)),
        ("deflate", zlib.compress(b"hello")),
        ("deflate", RAW_DEFLATE.compress(b"hello") + RAW_DEFLATE.flush()),
        ("identity", b"hello"),
    ],
)
async def test_packed_bodies_are_unpacked(encoding: str, packed: bytes) -> None:
    headers = [(b"content-encoding", encoding.encode())]
    assert await read_body(headers, receiver(packed), 100) == b"hello"


async def test_an_encoding_that_is_not_known_is_refused_with_those_that_are() -> None:
    error = await refusal([(b"content-encoding", b"br")], receiver(b"x"), 10)
    assert error.status == 415
    assert "gzip and deflate" in error.message


@pytest.mark.parametrize(
    "packed",
    [b"not packed", gzip.compress(b"hello", mtime=0)[:-9], gzip.compress(b"hello", mtime=0) + b"rest"],
)
async def test_a_body_that_does_not_unpack_is_refused(packed: bytes) -> None:
    error = await refusal([(b"content-encoding", b"gzip")], receiver(packed), 100)
    assert error.status == 400
    assert "cannot be unpacked" in error.message


def test_a_bomb_is_given_up_when_it_goes_over_the_limit() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    assert len(bomb) < 60_000
    with pytest.raises(BodyError) as caught:
        unpack(bomb, 100_000)
    assert caught.value.status == 413


@given(st.binary(max_size=300), st.integers(0, 300))
def test_what_fits_comes_out_and_what_does_not_is_refused(content: bytes, limit: int) -> None:
    packed = gzip.compress(content)
    if len(content) <= limit:
        assert unpack(packed, limit) == content
    else:
        with pytest.raises(BodyError):
            unpack(packed, limit)


@pytest.mark.parametrize("more", [-1, 0, 1, 300])
@pytest.mark.parametrize("steps", [1, 3])
async def test_a_large_body_is_unpacked_in_steps_between_which_others_have_their_turn(
    steps: int, more: int
) -> None:
    """Also where a step ends just before the end."""
    content = b"ab" * (steps * 128 * 1024) + b"c" * max(more, 0)
    content = content[: len(content) + min(more, 0)]
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await asyncio.sleep(0)
    for packed in (gzip.compress(content), gzip.compress(content[:7]) + gzip.compress(content[7:])):
        before = turns
        body = await read_body([(b"content-encoding", b"gzip")], receiver(packed), len(content))
        assert body == content
        assert turns - before >= steps - 1
    task.cancel()


async def test_each_sender_has_one_body_unpacked_at_a_time() -> None:
    turns = Turns()
    async with turns.of("a"):
        async with turns.of("b"):
            pass
        waiting = asyncio.create_task(
            read_body(
                [(b"content-encoding", b"gzip")], receiver(gzip.compress(b"x")), 100, turn=turns.of("a")
            )
        )
        await asyncio.sleep(0.01)
        assert not waiting.done()
    assert await waiting == b"x"
    assert not len(turns._locks)


def test_a_body_of_very_many_members_is_refused_at_once() -> None:
    """Each member's rest is copied: a million empty ones in 10 MiB would hold the server up for minutes."""
    empty = gzip.compress(b"")
    assert unpack(gzip.compress(b"a") * 64, 64) == b"a" * 64
    with pytest.raises(BodyError, match="more than 64 gzip members"):
        unpack(empty * 50_000, 10)
