"""Proofs of providers, with the examples that they publish."""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innkeeper_apps.webhook_proofs import SecretError, VerificationError, check_secret, verify
from innkeeper_engine.model.webhooks import Proof, ProofKind

Headers = dict[str, str]

NOW_MS = 1_700_000_000_000
NOW_S = NOW_MS // 1000
BODY = b'{"id":"evt_1","type":"charge.updated"}'


def proof(kind: ProofKind, **settings: Any) -> Proof:
    return Proof(kind=kind, secrets=(), **settings)


def attempt(
    proof: Proof, secrets: Sequence[bytes], headers: Headers, body: bytes = BODY, now_ms: int = NOW_MS
) -> None:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    verify(proof, secrets, raw, body, now_ms)


def refusal(*args: Any, **named: Any) -> VerificationError:
    with pytest.raises(VerificationError) as caught:
        attempt(*args, **named)
    return caught.value


def hexed(secret: bytes, signed: bytes, algorithm: str = "sha256") -> str:
    return hmac.new(secret, signed, algorithm).hexdigest()


def stripe(secret: bytes, body: bytes = BODY, at_s: int = NOW_S) -> str:
    return f"t={at_s},v1={hexed(secret, f'{at_s}.'.encode() + body)}"


def standard(key: bytes, body: bytes = BODY, at_s: int = NOW_S) -> Headers:
    digest = hmac.new(key, f"msg_1.{at_s}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(at_s),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def slack(secret: bytes, body: bytes = BODY, at_s: int = NOW_S) -> Headers:
    return {
        "X-Slack-Request-Timestamp": str(at_s),
        "X-Slack-Signature": f"v0={hexed(secret, f'v0:{at_s}:'.encode() + body)}",
    }


# ---- the examples that providers publish


def test_github_s_example() -> None:
    """docs.github.com, "Validating webhook deliveries"."""
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    attempt(
        proof("github"),
        [b"It's a Secret to Everybody"],
        {"X-Hub-Signature-256": signature},
        b"Hello, World!",
    )
    error = refusal(
        proof("github"),
        [b"It's a Secret to Everybody"],
        {"X-Hub-Signature-256": signature},
        b"Hello, World?",
    )
    assert error.why == "wrong"


def test_slack_s_example() -> None:
    """api.slack.com, "Verifying requests from Slack"."""
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
        b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
        b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554"
        b"%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    headers = {
        "X-Slack-Request-Timestamp": "1531420618",
        "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    secret = b"8f742231b10e8888abcd99yyyzzz85a5"
    attempt(proof("slack"), [secret], headers, body, 1_531_420_618_000)
    assert refusal(proof("slack"), [secret], headers, body + b"&", 1_531_420_618_000).why == "wrong"


@pytest.mark.parametrize("prefix", ["svix", "webhook"])
@pytest.mark.parametrize(
    ("secret", "message_id", "at_s", "body", "signature"),
    [
        (  # docs.svix.com, "Verifying webhooks manually"
            b"whsec_plJ3nmyCDGBKInavdOK15jsl",
            "msg_loFOjxBNrRLzqYUf",
            1_731_705_121,
            b'{"event_type":"ping","data":{"success":true}}',
            "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
        ),
        (  # docs.svix.com, "How to verify webhooks with the Svix libraries"
            b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            b'{"test": 2432232314}',
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
    ],
)
def test_standard_webhooks_examples(
    prefix: str, secret: bytes, message_id: str, at_s: int, body: bytes, signature: str
) -> None:
    headers = {
        f"{prefix}-id": message_id,
        f"{prefix}-timestamp": str(at_s),
        f"{prefix}-signature": f"v1a,other v2,{'A' * 43}= {signature} v1,bm9wZQ==",
    }
    kind = proof("standardWebhooks")
    attempt(kind, [secret], headers, body, at_s * 1000)
    attempt(kind, [secret.removeprefix(b"whsec_")], headers, body, at_s * 1000)
    changed = {**headers, f"{prefix}-id": "msg_other"}
    assert refusal(kind, [secret], changed, body, at_s * 1000).why == "wrong"


def test_stripe_s_scheme() -> None:
    """docs.stripe.com, "Verify webhook signatures manually": several v1 while a secret is rolled, v0 is not looked at."""
    secret = b"whsec_12345"
    good = hexed(secret, b"1492774577." + BODY)
    shown = f"t=1492774577,v1={'0' * 64},v1={good},v0=6ffbb59b2300aae63f272406069a9788598b792a944a07aba816edb039989a39"
    attempt(proof("stripe"), [secret], {"Stripe-Signature": shown}, BODY, 1_492_774_577_000)
    only_v0 = f"t=1492774577,v0={good}"
    error = refusal(proof("stripe"), [secret], {"Stripe-Signature": only_v0}, BODY, 1_492_774_577_000)
    assert error.why == "malformed"


# ---- times


@pytest.mark.parametrize("off_s", [-300, 0, 300])
def test_a_signature_of_the_last_five_minutes_counts(off_s: int) -> None:
    attempt(proof("stripe"), [b"s"], {"Stripe-Signature": stripe(b"s", at_s=NOW_S + off_s)})
    attempt(proof("standardWebhooks"), [b"a2V5"], standard(b"key", at_s=NOW_S + off_s))
    attempt(proof("slack"), [b"s"], slack(b"s", at_s=NOW_S + off_s))


@pytest.mark.parametrize(("off_s", "said"), [(-301, "301 s ago"), (301, "301 s ahead"), (-(10**9), "ago")])
def test_an_older_one_is_a_replay(off_s: int, said: str) -> None:
    error = refusal(proof("stripe"), [b"s"], {"Stripe-Signature": stripe(b"s", at_s=NOW_S + off_s)})
    assert error.why == "stale"
    assert said in error.message
    error = refusal(proof("standardWebhooks"), [b"a2V5"], standard(b"key", at_s=NOW_S + off_s))
    assert error.why == "stale"
    error = refusal(proof("slack"), [b"s"], slack(b"s", at_s=NOW_S + off_s))
    assert error.why == "stale"


def test_the_tolerance_can_be_set() -> None:
    headers = {"Stripe-Signature": stripe(b"s", at_s=NOW_S - 20)}
    assert refusal(proof("stripe", tolerance_ms=10_000), [b"s"], headers).why == "stale"
    attempt(proof("stripe", tolerance_ms=3_600_000), [b"s"], headers)


@pytest.mark.parametrize("time", ["", "now", "-1", "1e9", "١٢٣", "9" * 13, "1.5", "+5"])
def test_a_time_that_is_none_is_refused(time: str) -> None:
    shown = stripe(b"s").partition(",")[2]
    raw = [(b"stripe-signature", f"t={time},{shown}".encode())]
    with pytest.raises(VerificationError, match="seconds since 1970"):
        verify(proof("stripe"), [b"s"], raw, BODY, NOW_MS)


# ---- HMACs of one's own choice, and passwords


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("prefix", ["", "sha=", "v1,"])
def test_an_hmac_of_any_kind(algorithm: str, encoding: str, prefix: str) -> None:
    digest = hmac.new(b"secret", BODY, algorithm).digest()
    shown = digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()
    settings = proof("hmac", header="X-Acme-Sig", algorithm=algorithm, encoding=encoding, prefix=prefix)
    attempt(settings, [b"secret"], {"X-Acme-Sig": prefix + shown})
    if encoding == "hex":
        attempt(settings, [b"secret"], {"X-Acme-Sig": prefix + shown.upper()})
    assert refusal(settings, [b"secret"], {"X-Acme-Sig": prefix + shown}, BODY + b" ").why == "wrong"
    assert refusal(settings, [b"other"], {"X-Acme-Sig": prefix + shown}).why == "wrong"
    assert refusal(settings, [b"secret"], {"X-Acme-Sig": prefix + "~" + shown}).why == "malformed"
    assert refusal(settings, [b"secret"], {"X-Acme-Sig": prefix}).why in {"malformed", "missing"}
    assert refusal(settings, [b"secret"], {}).why == "missing"


def basic(credentials: bytes) -> Headers:
    return {"Authorization": "Basic " + base64.b64encode(credentials).decode()}


def test_basic_authentication() -> None:
    """RFC 7617, section 2, with its example."""
    attempt(proof("basic"), [b"Aladdin:open sesame"], {"Authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="})
    attempt(proof("basic"), ["u:pä:ss".encode()], basic("u:pä:ss".encode()))
    attempt(proof("basic"), [b"u:p"], {"Authorization": "bAsIc dTpw"})
    for wrong in (b"u:", b"u:pp", b"U:p", b":p", b"", b"u"):
        assert refusal(proof("basic"), [b"u:p"], basic(wrong)).why in {"wrong", "malformed"}
    assert refusal(proof("basic"), [b"u:p"], {"Authorization": "Bearer u:p"}).why == "malformed"
    assert refusal(proof("basic"), [b"u:p"], {"Authorization": "Basic ~"}).why == "malformed"
    assert refusal(proof("basic"), [b"u:p"], {}).why == "missing"


def test_bearer_tokens() -> None:
    attempt(proof("bearer"), [b"token"], {"Authorization": "Bearer token"})
    attempt(proof("bearer"), [b"token"], {"Authorization": "bearer  token "})
    for wrong in ("Bearer tokens", "Bearer toke", "Bearer Token", "Bearer té"):
        assert refusal(proof("bearer"), [b"token"], {"Authorization": wrong}).why == "wrong"
    for odd in ("token", "Basic token", "Bearer", "Bearer "):
        assert refusal(proof("bearer"), [b"token"], {"Authorization": odd}).why == "malformed"


# ---- every kind

SHOWN: dict[str, tuple[Proof, bytes, Headers]] = {
    "github": (
        proof("github"),
        b"the-secret",
        {"X-Hub-Signature-256": "sha256=" + hexed(b"the-secret", BODY)},
    ),
    "stripe": (proof("stripe"), b"the-secret", {"Stripe-Signature": stripe(b"the-secret")}),
    "slack": (
        proof("slack"),
        b"the-secret",
        {
            "X-Slack-Request-Timestamp": str(NOW_S),
            "X-Slack-Signature": "v0=" + hexed(b"the-secret", f"v0:{NOW_S}:".encode() + BODY),
        },
    ),
    "standardWebhooks": (
        proof("standardWebhooks"),
        b"whsec_" + base64.b64encode(b"the-secret"),
        standard(b"the-secret"),
    ),
    "hmac": (proof("hmac", header="X-Sig"), b"the-secret", {"X-Sig": hexed(b"the-secret", BODY)}),
    "basic": (proof("basic"), b"user:the-secret", basic(b"user:the-secret")),
    "bearer": (proof("bearer"), b"the-secret", {"Authorization": "Bearer the-secret"}),
}
OTHER: dict[str, bytes] = {"standardWebhooks": b"whsec_b3RoZXI=", "basic": b"user:other"}


@pytest.mark.parametrize("kind", SHOWN)
def test_any_of_several_secrets_will_do(kind: str) -> None:
    settings, secret, headers = SHOWN[kind]
    other = OTHER.get(kind, b"other")
    attempt(settings, [secret], headers)
    attempt(settings, [secret, other], headers)
    attempt(settings, [other, secret], headers)
    assert refusal(settings, [other], headers).why == "wrong"


@pytest.mark.parametrize("kind", SHOWN)
def test_without_a_secret_nobody_is_let_in(kind: str) -> None:
    settings, _, headers = SHOWN[kind]
    assert refusal(settings, [], headers).why == "wrong"
    if kind != "standardWebhooks":
        assert refusal(settings, [b""], headers).why == "wrong"


def test_an_empty_secret_is_not_one_that_everybody_knows() -> None:
    assert (
        refusal(proof("github"), [b""], {"X-Hub-Signature-256": "sha256=" + hexed(b"", BODY)}).why == "wrong"
    )
    assert refusal(proof("basic"), [b""], {"Authorization": "Basic ===="}).why in {"wrong", "malformed"}


@pytest.mark.parametrize("kind", SHOWN)
def test_a_request_without_proof_is_told_what_is_missing(kind: str) -> None:
    settings, secret, headers = SHOWN[kind]
    for name in headers:
        error = refusal(settings, [secret], {other: headers[other] for other in headers if other != name})
        assert error.why == "missing"
        assert name.lower() in error.message


@pytest.mark.parametrize("kind", SHOWN)
@settings(max_examples=25)
@given(garbage=st.text(st.characters(max_codepoint=255), max_size=80))
def test_garbage_is_refused_in_words_that_give_nothing_away(kind: str, garbage: str) -> None:
    settings, secret, headers = SHOWN[kind]
    last = list(headers)[-1]
    if garbage.strip() == headers[last]:
        return
    error = refusal(settings, [secret], {**headers, last: garbage}, b"BODY-OF-THIS-REQUEST")
    assert error.why in {"missing", "malformed", "wrong", "stale"}
    assert "the-secret" not in str(error)
    assert "BODY-OF" not in str(error)


def test_signatures_without_end_are_not_looked_at() -> None:
    many = f"t={NOW_S}" + f",v1={'0' * 64}" * 33
    assert refusal(proof("stripe"), [b"s"], {"Stripe-Signature": many}).why == "malformed"
    headers = {**standard(b"key"), "webhook-signature": "v1,AAAA " * 33}
    assert refusal(proof("standardWebhooks"), [b"a2V5"], headers).why == "malformed"


@pytest.mark.parametrize(
    ("kind", "secret", "said"),
    [
        ("github", b"", "empty"),
        ("github", b"secret\n", "white space"),
        ("standardWebhooks", b"whsec_ not base64", "whsec_ and base64"),
        ("standardWebhooks", b"whsec_", "whsec_ and base64"),
        ("basic", b"no-colon", "user:password"),
    ],
)
def test_a_secret_is_checked_before_it_is_used(kind: ProofKind, secret: bytes, said: str) -> None:
    with pytest.raises(SecretError, match=said) as caught:
        check_secret(kind, secret)
    assert not secret.strip() or secret.decode() not in str(caught.value).replace("whsec_", "")


@pytest.mark.parametrize("kind", SHOWN)
def test_a_secret_in_order_passes(kind: ProofKind) -> None:
    check_secret(kind, SHOWN[kind][1])


def test_a_secret_that_cannot_be_used_is_no_fault_of_the_sender() -> None:
    with pytest.raises(SecretError, match="base64"):
        attempt(proof("standardWebhooks"), [b"whsec_~"], standard(b"key"))
