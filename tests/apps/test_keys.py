"""Signing keys, with values taken from the protocol's description and from recorded traffic."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_apps.wire.canonical import canonical
from innkeeper_apps.wire.keys import (
    bearer_accepted,
    bearer_digest,
    bearer_hash,
    normalise,
    sign,
    signing_key_digests,
    verify,
)

KEY = "signkey-prod-0123456789abcdef0123456789abcdef"
HASH = "223e0a160af9da0a03e6dd2c4719c56f5d66a633cbe84e78aaa9f3735865522a"
OTHER = "signkey-test-" + "ab" * 16
FIXTURES = Path(__file__).parent / "fixtures"
CALLS = json.loads((FIXTURES / "wire-calls.json").read_bytes())
SIGNED = [call for call in CALLS if "x-inngest-signature" in call["headers"]]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (KEY, "0123456789abcdef0123456789abcdef"),
        ("signkey-branch_1-abcd", "abcd"),
        ("  abcd\n", "abcd"),
        ("signkey-prod-signkey-prod-ab", "signkey-prod-ab"),
    ],
)
def test_a_key_is_normalised_by_stripping_its_prefix_once(key: str, expected: str) -> None:
    """The environment's name is no part of the secret."""
    assert normalise(key) == expected


def test_bearer_hash_is_over_the_decoded_bytes() -> None:
    """The documented example."""
    assert bearer_hash(KEY) == HASH


@pytest.mark.parametrize("key", ["", "signkey-prod-", "signkey-prod-xyz", "abc"])
def test_a_key_that_is_not_hex_has_no_hash(key: str) -> None:
    """JavaScript would hash nothing for it, and everybody knows that hash."""
    with pytest.raises(ValueError, match="hex digits"):
        bearer_hash(key)


@pytest.mark.parametrize(
    ("header", "keys", "accepted"),
    [
        (f"Bearer {KEY}", [KEY], True),
        (f"Bearer signkey-prod-{HASH}", [KEY], True),
        (f"Bearer {HASH}", [KEY], True),
        (f"bearer  {HASH}", [OTHER, KEY], True),
        (f"Bearer {HASH}", [OTHER], False),
        (f"Basic {HASH}", [KEY], False),
        (HASH, [KEY], False),
        ("Bearer ", [KEY], False),
        ("Bearer undefined", [KEY], False),
        ("Bearer ü", [KEY], False),
        (None, [KEY], False),
        (f"Bearer {HASH}", [], False),
        ("Bearer ", [""], False),
        ("Bearer signkey-prod-", ["signkey-prod-"], False),
        ("Bearer e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", ["nothex"], False),
        ("Bearer nothex", ["nothex"], True),
    ],
)
def test_bearer_forms(header: str | None, keys: list[str], accepted: bool) -> None:
    """Raw key, prefixed hash, bare hash; nothing else."""
    assert bearer_accepted(header, keys) is accepted


@pytest.mark.parametrize("call", SIGNED, ids=[call["name"] for call in SIGNED])
def test_recorded_requests_and_responses_verify(call: dict[str, Any]) -> None:
    """What a real server signed, and what the SDKs signed in return."""
    header = call["headers"]["x-inngest-signature"]
    now_s = int(header[2:12])
    body = canonical(call["body"])
    assert verify(header, body, [OTHER, KEY], now_s) == KEY
    assert sign(body, KEY, now_s) == header
    response = call["response"]
    answer = response["headers"]["x-inngest-signature"]
    separators = (",", ":") if call["name"].startswith("js") else None  # Python writes spaces
    text = json.dumps(response["body"], separators=separators).encode()
    assert verify(answer, text, [KEY], now_s) == KEY


def test_there_is_signed_traffic_to_check() -> None:
    """Guards the test above against an empty fixture."""
    assert len(SIGNED) >= 3


@given(st.binary(max_size=50), st.integers(0, 10**10), st.integers(-400, 400))
def test_a_signature_holds_within_five_minutes_for_its_body_only(
    body: bytes, now_s: int, skew_s: int
) -> None:
    """Changed body, time or key: refused."""
    header = sign(body, KEY, now_s)
    assert verify(header, body, [KEY], now_s + skew_s) == (KEY if abs(skew_s) <= 300 else None)
    assert verify(header, body + b" ", [KEY], now_s) is None
    assert verify(header, body, [OTHER], now_s) is None
    assert verify(header.replace("t=", "t=1"), body, [KEY], now_s, max_skew_s=10**16) is None


@pytest.mark.parametrize(
    "header", [None, "", "t=1", "s=00", "t=x&s=" + "0" * 64, "t=1&s=zz", "t=1&s=" + "0" * 63]
)
def test_what_is_no_signature_is_refused(header: str | None) -> None:
    """Never an exception: this comes from outside."""
    assert verify(header, b"", [KEY], 1) is None


def test_an_empty_key_signs_nothing() -> None:
    """A signature made with an empty key is known to all."""
    assert verify(sign(b"x", "", 5), b"x", ["", "signkey-prod-"], 5) is None


@pytest.mark.parametrize("shown", [KEY, KEY.removeprefix("signkey-prod-"), bearer_hash(KEY)])
@pytest.mark.parametrize("prefix", ["", "signkey-prod-", "signkey-test-"])
def test_a_key_is_looked_up_by_the_digest_of_any_form_in_which_it_is_shown(shown: str, prefix: str) -> None:
    """The same forms that `bearer_accepted` takes."""
    header = f"Bearer {prefix if not shown.startswith('signkey') else ''}{shown}"
    assert bearer_accepted(header, [KEY])
    assert bearer_digest(header) in signing_key_digests(KEY)
    assert bearer_digest(header) not in signing_key_digests(KEY[:-2])


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer signkey-prod-", f"Basic {KEY}", KEY]
)
def test_what_shows_no_key_has_no_digest(header: str | None) -> None:
    """An empty key would have one that everybody knows."""
    assert bearer_digest(header) is None


def test_digests_show_nothing_of_a_key() -> None:
    """Nor is there one of an empty key."""
    assert len(signing_key_digests(KEY)) == 2
    assert not [digest for digest in signing_key_digests(KEY) if digest in (KEY, bearer_hash(KEY))]
    assert signing_key_digests("signkey-prod-") == ()
    assert len(signing_key_digests("not-hex")) == 1
