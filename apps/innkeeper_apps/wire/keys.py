"""Signing keys: how they are compared, how they sign a body, how a signature is checked.

The three forms in which an SDK shows its key (Inngest SDK specification, section 4):

- the *normalised* key is the key without its prefix `signkey-<env>-`; its ASCII text is the HMAC key;
- the *bearer hash* is the hex SHA-256 of the **bytes** that the normalised key spells in hex.
"""

import hashlib
import hmac
import re
from collections.abc import Sequence

from innkeeper_apps.wire.canonical import NotJsonError, canonical_json
from innkeeper_engine.model.environments import key_digest

_PREFIX = re.compile(r"^signkey-\w+-")
_SIGNATURE = re.compile(r"(?:t=(?P<t>\d{1,15})&s=(?P<s>[0-9a-fA-F]{64}))")

MAX_SKEW_S = 300
"""How old, or how far ahead, a signature may be: what the TypeScript SDK allows."""


def normalise(key: str) -> str:
    """The key without surrounding space and without the prefix `signkey-<env>-`."""
    return _PREFIX.sub("", key.strip(), count=1)


def bearer_hash(key: str) -> str:
    """The hex SHA-256 by which SDKs name a signing key without showing it.

    Raises:
        ValueError: the key is empty or not hex; what hashing such a key would give is known to all.
    """
    try:
        secret = bytes.fromhex(normalise(key))
    except ValueError:
        secret = b""
    if not secret:
        raise ValueError("a signing key is `signkey-<env>-` followed by an even number of hex digits")
    return hashlib.sha256(secret).hexdigest()


def bearer_accepted(header: str | None, keys: Sequence[str]) -> bool:
    """Whether an `Authorization` header shows one of `keys`, in constant time.

    Accepted are the raw key (REST examples), the prefixed hash (TypeScript) and the bare hash (Python).
    With no keys nothing is accepted: whether a server without keys asks at all is for its caller to decide.
    """
    scheme, _, token = (header or "").strip().partition(" ")
    shown = normalise(token).encode()
    accepted = False
    for key in keys:
        for known in _shown_as(key):
            accepted |= hmac.compare_digest(shown, known.encode())
    return accepted and scheme.lower() == "bearer"


def bearer_digest(header: str | None) -> str | None:
    """Under what a signing key is looked up that an `Authorization` header shows in any form; None: it shows none."""
    scheme, _, token = (header or "").strip().partition(" ")
    shown = normalise(token)
    return key_digest(shown) if shown and scheme.lower() == "bearer" else None


def signing_key_digests(key: str) -> tuple[str, ...]:
    """`bearer_digest` of every header that shows this key: for `SigningKey.digests`."""
    return tuple(key_digest(shown) for shown in _shown_as(key))


def _shown_as(key: str) -> tuple[str, ...]:
    plain = normalise(key)
    if not plain:
        return ()
    try:
        return plain, bearer_hash(plain)
    except ValueError:
        return (plain,)


def sign(body: bytes, key: str, now_s: int) -> str:
    """The header `X-Inngest-Signature` for `body` (canonical JSON), signed at `now_s` (Unix seconds)."""
    return f"t={now_s}&s={_mac(body, key, str(now_s))}"


def verify(
    header: str | None, body: bytes, keys: Sequence[str], now_s: int, max_skew_s: int = MAX_SKEW_S
) -> str | None:
    """The first of `keys` that made this signature of `body`; None if none did within `max_skew_s`."""
    match = _SIGNATURE.fullmatch((header or "").strip())
    if match is None or abs(now_s - int(match["t"])) > max_skew_s:
        return None
    found: str | None = None
    for key in keys:
        good = hmac.compare_digest(_mac(body, key, match["t"]), match["s"].lower())
        if good and found is None and normalise(key):
            found = key
    return found


def verify_response(
    header: str | None, body: bytes, keys: Sequence[str], now_s: int, max_skew_s: int
) -> bool:
    """Whether one of `keys` signed this response body: as it is, or its canonical form.

    SDKs that only see a parsed body sign that form.
    """
    if verify(header, body, keys, now_s, max_skew_s) is not None:
        return True
    try:
        return verify(header, canonical_json(body), keys, now_s, max_skew_s) is not None
    except NotJsonError:
        return False


def _mac(body: bytes, key: str, t: str) -> str:
    mac = hmac.new(normalise(key).encode(), body, hashlib.sha256)
    mac.update(t.encode())
    return mac.hexdigest()
