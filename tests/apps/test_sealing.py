"""What lies sealed in Redis cannot be read or changed there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_apps.sealing import Sealer

KEY = bytes(range(32))


@given(st.binary(max_size=2_000))
def test_what_was_sealed_opens_again(plain: bytes) -> None:
    """Byte for byte, and by another process with the same key."""
    assert Sealer(KEY).unseal(Sealer(KEY).seal(plain)) == plain


def test_the_same_text_is_sealed_differently_each_time() -> None:
    """Nobody sees that two requests are the same; nor does a nonce come twice."""
    sealer = Sealer(KEY)
    sealed = {sealer.seal(b"the same") for _ in range(1_000)}
    assert len(sealed) == len({text[1:13] for text in sealed}) == 1_000


def test_the_text_is_not_in_what_is_stored() -> None:
    """Keys of others are in it."""
    assert b"sk-secret" not in Sealer(KEY).seal(b'{"auth":"sk-secret"}')


def test_another_key_opens_nothing() -> None:
    """The message says what to look at."""
    with pytest.raises(ValueError, match="does not open with this encryption key"):
        Sealer(bytes(32)).unseal(Sealer(KEY).seal(b"x"))


@pytest.mark.parametrize("position", range(len(Sealer(KEY).seal(b"four"))))
def test_a_changed_byte_is_noticed_wherever_it_is(position: int) -> None:
    """The first byte, which says the form, is covered too."""
    sealed = bytearray(Sealer(KEY).seal(b"four"))
    sealed[position] ^= 0x01
    with pytest.raises(ValueError, match=r"encryption key|unknown form"):
        Sealer(KEY).unseal(bytes(sealed))


@pytest.mark.parametrize("length", range(29))
def test_a_text_that_was_cut_off_does_not_open(length: int) -> None:
    """However much is missing, it is the documented error."""
    with pytest.raises(ValueError, match=r"encryption key|unknown form"):
        Sealer(KEY).unseal(Sealer(KEY).seal(b"")[:length])


def test_a_form_of_a_later_version_is_named_as_such() -> None:
    """Not taken for a wrong key."""
    with pytest.raises(ValueError, match="unknown form; was it written by a newer version"):
        Sealer(KEY).unseal(b"\x02" + Sealer(KEY).seal(b"x")[1:])


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_key_has_32_bytes(length: int) -> None:
    """AES-256; the message says how many came."""
    with pytest.raises(ValueError, match=f"has 32 bytes, this one {length}"):
        Sealer(bytes(length))
