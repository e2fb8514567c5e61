"""Whether a request proves that it comes from whom its webhook is for. Pure.

Each kind is as its provider documents it: GitHub ("Validating webhook deliveries"), Stripe ("Verify webhook signatures
manually"), Slack ("Verifying requests from Slack"), Standard Webhooks 1.0 (and Svix, whose headers have another
prefix), HTTP basic authentication (RFC 7617), bearer tokens (RFC 6750), and an HMAC in a header of one's own choice.

Every secret is tried, and each comparison takes as long for a wrong proof as for a right one. Neither a secret nor
anything of the body is in any error.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from innkeeper_engine.model.webhooks import Proof, ProofKind

MOST_SIGNATURES: Final = 32
"""In one header: senders that rotate their secrets sign with each of them, but they have a handful."""

_WHSEC: Final = "whsec_"
_SECONDS: Final = re.compile(r"[0-9]{1,12}", re.ASCII)

Why = Literal["missing", "malformed", "stale", "wrong"]


class VerificationError(Exception):
    """A request that does not prove where it comes from."""

    def __init__(self, why: Why, message: str) -> None:
        super().__init__(message)
        self.why: Why = why
        """In one word: no proof is shown, it cannot be read, it is too old or from the future, or it is wrong."""
        self.message = message
        """What was expected and what came instead; it may be shown to the sender."""


class SecretError(ValueError):
    """A secret that cannot be one of its kind; says what would be right, never the secret."""


def verify(
    proof: Proof, secrets: Sequence[bytes], headers: Iterable[tuple[bytes, bytes]], body: bytes, now_ms: int
) -> None:
    """Return if the request is proved by one of the secrets.

    Args:
        secrets: those of the proof, in clear; with none of them nothing is proved.
        headers: as ASGI has them, names in lower case.
        body: as it came, after decompression.
        now_ms: for signatures that hold a time, ms since the epoch.

    Raises:
        VerificationError: it is not.
        SecretError: one of the secrets cannot be one of its kind.
    """
    named: dict[str, str] = {}
    for raw, value in headers:
        named.setdefault(raw.decode("latin-1"), value.decode("latin-1").strip())
    match proof.kind:
        case "github":
            shown = _header(named, "x-hub-signature-256")
            _check_hmac(shown, secrets, body, "sha256", "hex", "sha256=", "x-hub-signature-256")
        case "stripe":
            _check_stripe(named, secrets, body, now_ms, proof.tolerance_ms)
        case "slack":
            _check_slack(named, secrets, body, now_ms, proof.tolerance_ms)
        case "standardWebhooks":
            _check_standard(named, secrets, body, now_ms, proof.tolerance_ms)
        case "hmac":
            name = proof.header.lower()
            _check_hmac(
                _header(named, name), secrets, body, proof.algorithm, proof.encoding, proof.prefix, name
            )
        case "basic":
            _check_basic(named, secrets)
        case "bearer":
            _check_bearer(named, secrets)


def check_secret(kind: ProofKind, secret: bytes) -> None:
    """Look at a secret before it is used.

    Raises:
        SecretError: it cannot be one of that kind.
    """
    if not secret:
        raise SecretError("the secret is empty")
    if secret != secret.strip():
        raise SecretError("the secret begins or ends with white space, such as a line break: take it away")
    if kind == "standardWebhooks":
        _standard_key(secret)
    if kind == "basic" and b":" not in secret:
        raise SecretError("the secret of basic must be user:password")


# ---- signatures


def _check_hmac(
    shown: str,
    secrets: Sequence[bytes],
    signed: bytes,
    algorithm: str,
    encoding: Literal["hex", "base64"],
    prefix: str,
    name: str,
) -> None:
    if not shown.startswith(prefix):
        raise VerificationError("malformed", f"the header {name} must begin with {prefix!r}")
    given = _decoded(shown.removeprefix(prefix), encoding)
    if given is None:
        raise VerificationError("malformed", f"the header {name} must hold an HMAC in {encoding}")
    if not _matches(secrets, signed, algorithm, [given]):
        raise VerificationError("wrong", f"the signature in {name} is not that of this body")


def _check_stripe(
    named: dict[str, str], secrets: Sequence[bytes], body: bytes, now_ms: int, tolerance_ms: int
) -> None:
    name = "stripe-signature"
    time, signatures = "", []
    for part in _header(named, name).split(","):
        key, _, value = part.strip().partition("=")
        if key == "t":
            time = value
        elif key == "v1":
            signatures.append(value)
    _check_time(time, f"t in {name}", now_ms, tolerance_ms)
    given = _all_decoded(signatures, "hex", f"{name} must hold v1=<an HMAC in hex>")
    if not _matches(secrets, time.encode() + b"." + body, "sha256", given):
        raise VerificationError("wrong", f"no signature in {name} is that of this body")


def _check_slack(
    named: dict[str, str], secrets: Sequence[bytes], body: bytes, now_ms: int, tolerance_ms: int
) -> None:
    time = _header(named, "x-slack-request-timestamp")
    shown = _header(named, "x-slack-signature")
    _check_time(time, "x-slack-request-timestamp", now_ms, tolerance_ms)
    signed = b"v0:" + time.encode() + b":" + body
    _check_hmac(shown, secrets, signed, "sha256", "hex", "v0=", "x-slack-signature")


def _check_standard(
    named: dict[str, str], secrets: Sequence[bytes], body: bytes, now_ms: int, tolerance_ms: int
) -> None:
    prefix = "svix" if "webhook-signature" not in named and "svix-signature" in named else "webhook"
    message_id = _header(named, f"{prefix}-id")
    time = _header(named, f"{prefix}-timestamp")
    shown = _header(named, f"{prefix}-signature")
    keys = [_standard_key(secret) for secret in secrets]
    _check_time(time, f"{prefix}-timestamp", now_ms, tolerance_ms)
    # Others are of versions that need no shared secret.
    signatures = [part[3:] for part in shown.split() if part.startswith("v1,")]
    given = _all_decoded(signatures, "base64", f"{prefix}-signature must hold v1,<an HMAC in base64>")
    signed = b".".join((message_id.encode("latin-1"), time.encode(), body))
    if not _matches(keys, signed, "sha256", given):
        raise VerificationError("wrong", f"no signature in {prefix}-signature is that of this body")


def _standard_key(secret: bytes) -> bytes:
    text = secret.decode("latin-1").removeprefix(_WHSEC)
    key = _decoded(text + "=" * (-len(text) % 4), "base64")
    if key is None:
        raise SecretError(f"the secret of standardWebhooks must be {_WHSEC} and base64")
    return key


def _matches(keys: Sequence[bytes], signed: bytes, algorithm: str, given: Sequence[bytes]) -> bool:
    expected = [hmac.new(key, signed, algorithm).digest() for key in keys if key]
    # All are compared, so that the time does not tell which secret is in use.
    found = [hmac.compare_digest(one, other) for one in expected for other in given]
    return any(found)


def _check_time(time: str, what: str, now_ms: int, tolerance_ms: int) -> None:
    if not _SECONDS.fullmatch(time):
        raise VerificationError("malformed", f"{what} must be a time in seconds since 1970")
    off_ms = now_ms - int(time) * 1000
    if abs(off_ms) > tolerance_ms:
        where = "ago" if off_ms > 0 else "ahead"
        raise VerificationError(
            "stale",
            f"{what} lies {abs(off_ms) // 1000} s {where}: {tolerance_ms // 1000} s are allowed (are the clocks right?)",
        )


def _all_decoded(texts: Sequence[str], encoding: Literal["hex", "base64"], expected: str) -> list[bytes]:
    if len(texts) > MOST_SIGNATURES:
        raise VerificationError("malformed", f"the request has more than {MOST_SIGNATURES} signatures")
    given = [decoded for text in texts if (decoded := _decoded(text, encoding)) is not None]
    if not given:
        raise VerificationError("malformed", expected)
    return given


def _decoded(text: str, encoding: Literal["hex", "base64"]) -> bytes | None:
    """The bytes that a text stands for; None where it stands for none."""
    try:
        if encoding == "hex":
            # Not bytes.fromhex, which takes spaces too.
            return binascii.unhexlify(text) or None
        return base64.b64decode(text, validate=True) or None
    except ValueError:  # binascii.Error is one; so is what is not ASCII
        return None


# ---- authentication


def _check_basic(named: dict[str, str], secrets: Sequence[bytes]) -> None:
    given = _decoded(_credentials(named, "basic"), "base64")
    if given is None:
        raise VerificationError("malformed", "Authorization: Basic must be followed by base64")
    if not _is_one_of(given, secrets):
        raise VerificationError("wrong", "the user or the password is wrong")


def _check_bearer(named: dict[str, str], secrets: Sequence[bytes]) -> None:
    if not _is_one_of(_credentials(named, "bearer").encode("latin-1"), secrets):
        raise VerificationError("wrong", "the bearer token is wrong")


def _credentials(named: dict[str, str], scheme: str) -> str:
    kind, _, rest = _header(named, "authorization").partition(" ")
    if kind.lower() != scheme or not rest.strip():
        raise VerificationError("malformed", f"the header authorization must be {scheme.capitalize()} …")
    return rest.strip()


def _is_one_of(given: bytes, secrets: Sequence[bytes]) -> bool:
    # Digests have one length: comparing texts would tell how long the secret is.
    digest = hashlib.sha256(given).digest()
    found = [hmac.compare_digest(digest, hashlib.sha256(secret).digest()) for secret in secrets if secret]
    return any(found)


def _header(named: dict[str, str], name: str) -> str:
    value = named.get(name, "")
    if not value:
        raise VerificationError("missing", f"the request has no header {name}")
    return value
