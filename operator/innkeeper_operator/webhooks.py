"""What a Webhook means: its record in the store, its URL, its status. Pure.

The URL is `/w/` and a random token, which is kept in a Secret of the operator's own: it outlives operators and Redis,
and whoever deletes that Secret gets another URL. The store has the token's digest only.

While a spec cannot be used, the record made of the one before it stays in force: providers send once and give up.
"""

import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import msgspec

from innkeeper_apps.webhook_proofs import SecretError, check_secret
from innkeeper_engine.durations import MINUTE_MS, SECOND_MS, parse_duration_ms
from innkeeper_engine.model.environments import key_digest
from innkeeper_engine.model.webhooks import DEFAULT_TOLERANCE_MS, Proof, ProofKind, Webhook
from innkeeper_operator.actions import Action, Apply, Create, Level, Tell, set_status, tell
from innkeeper_operator.conditions import READY, Said, conditions, find
from innkeeper_operator.keys import WEBHOOK, Opens, labelled, secret_text
from innkeeper_operator.made_secrets import TOKEN, URL, is_ours, url_secret
from innkeeper_operator.objects import (
    KEY_LABEL,
    WEBHOOK_KIND,
    ConfigMapObject,
    Json,
    SecretObject,
    WebhookObject,
)
from innkeeper_operator.specs import HmacVerify, SecretKeyRef, Verify
from innkeeper_operator.webhook_refs import proof_of, url_secret_name

FALLBACK: Final = "-fallback"
"""Behind the name of an entry of a Secret: the entry with the secret that is valid beside it."""

LAST_RECEIVED: Final = "lastReceivedTime"
"""Of the status: what `received.py` writes, and plans leave as it is."""

_TOKEN_FORM = re.compile(r"[A-Za-z0-9_-]{32,255}")
_RETRY_MS: Final = 5 * SECOND_MS


class UnusableError(Exception):
    """Something that a Webhook names cannot be used; the message says what to do.

    `reason`: for the condition, CamelCase.
    """

    def __init__(self, reason: str, message: str, status: Literal["False", "Unknown"] = "False") -> None:
        super().__init__(message)
        self.reason = reason
        self.status: Literal["False", "Unknown"] = status


class Verdict(msgspec.Struct, frozen=True):
    """What the sandbox says of a transform."""

    problem: str = ""
    """What is wrong, and where; empty: nothing."""
    tried: bool = True
    """False: it could not be; `problem` says why."""
    lasting: bool = True
    """False: a busy machine may have been the cause, so it is tried again."""


class WebhookView(msgspec.Struct, frozen=True, kw_only=True):
    """All that a plan for one Webhook looks at. Printing it shows no key."""

    webhook: WebhookObject
    env: str
    """The environment of its namespace."""
    stored: Webhook | None
    """Its record as it is, possibly of another environment."""
    digests: dict[str, str]
    """Which records have which digest: name by digest, without its own."""
    config_map: ConfigMapObject | None
    """The one that holds the transform."""
    secret: SecretObject | None
    """The one that holds the secret of the proof."""
    url_secret: SecretObject | None
    makes_secrets: bool
    """Whether the operator makes Secrets there."""
    base_url: str
    """Where providers reach the gateway; empty: not known."""
    now_ms: int


class WebhookPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do for one Webhook: make `record` its only one, then the actions."""

    record: Webhook | None = None
    """None: it has none, and there is none to be kept."""
    actions: tuple[Action, ...] = ()
    wake_ms: int | None = None
    """When to look again although nothing has changed."""


def record_name(namespace: str, name: str) -> str:
    """What a Webhook is called in the store."""
    return f"{namespace}/{name}"


def record_key(name: str) -> tuple[str, str]:
    """Namespace and name of the Webhook whose record is called so."""
    namespace, _, rest = name.partition("/")
    return namespace, rest


# ---- the URL


def plan_url(view: WebhookView, random_hex: Callable[[], str]) -> Apply | Create | None:
    """How the Secret with the URL becomes right; None where it is, or where it is not the operator's to make."""
    there = view.url_secret
    if not view.makes_secrets or (there is not None and not is_ours(there, WEBHOOK)):
        return None
    known = secret_text(there, TOKEN) if there is not None else ""
    token = known if _TOKEN_FORM.fullmatch(known) else random_hex()
    try:
        return url_secret(view.webhook, token, _url(view, token), there)
    except ValueError:
        # `_token` says so.
        return None


def _url(view: WebhookView, token: str) -> str:
    return f"{view.base_url.rstrip('/')}/w/{token}"


def _token(view: WebhookView) -> str:
    """Raises UnusableError where there is none that can be used."""
    name, there = url_secret_name(view.webhook.meta.name), view.url_secret
    if there is None and len(name) > 253:
        raise UnusableError("NameTooLong", "its name is too long: the Secret with its URL could have none")
    if there is None:
        how = (
            f"one of that name which is there without the label {KEY_LABEL}: {WEBHOOK} is not touched: label it or take "
            "it away"
            if view.makes_secrets
            else f"make one with the label {KEY_LABEL}: {WEBHOOK} and the key {TOKEN}, 32 random characters or more"
        )
        raise UnusableError("SecretNotFound", f"there is no Secret {name} that holds the URL; {how}")
    if not labelled(there, WEBHOOK):
        raise UnusableError("SecretNotLabelled", _unlabelled(there))
    token = secret_text(there, TOKEN)
    if not _TOKEN_FORM.fullmatch(token):
        form = "32 to 255 letters, digits, dashes and underscores"
        raise UnusableError("InvalidKey", f"the key {TOKEN} of the Secret {name} must be {form}")
    owner = view.digests.get(key_digest(token))
    if owner is not None:
        raise UnusableError(
            "KeyShared",
            f"the token in the Secret {name} is also that of the Webhook {owner}, which had it first: take the Secret "
            "away, and another URL is made",
        )
    return token


# ---- what the spec says


def read_transform(view: WebhookView) -> str:
    """The JavaScript.

    Raises:
        UnusableError: there is none.
    """
    ref, script = view.webhook.spec.transform.config_map_ref, view.webhook.spec.transform.script
    if ref is None:
        return script or ""
    if view.config_map is None:
        raise UnusableError(
            "ConfigMapNotFound",
            f"there is no ConfigMap {ref.name} in namespace {view.webhook.meta.namespace}, or it may not be read",
        )
    if ref.key not in view.config_map.data:
        has = ", ".join(sorted(view.config_map.data)) or "none"
        raise UnusableError(
            "InvalidConfigMap", f"the ConfigMap {ref.name} has no key {ref.key}: it has {has}"
        )
    return view.config_map.data[ref.key]


def _proof(view: WebhookView, sealer: Opens | None) -> Proof | None:
    """Raises UnusableError where it cannot be used."""
    verify = view.webhook.spec.verify
    if verify is None:
        return None
    found = proof_of(verify)
    if found is None:
        raise UnusableError("InvalidSpec", "spec.verify must name one kind of proof")
    kind, spec = found
    plain = _secrets(view, kind, spec.secret_ref)
    if sealer is None:
        raise UnusableError(
            "NoWebhookKey",
            "the operator has no key to encrypt the proof's secret with: set INNKEEPER_WEBHOOK_KEY (32 bytes, from "
            "openssl rand -hex 32) to the same for the operator and the gateways",
        )
    more: dict[str, Any] = {}
    if isinstance(spec, HmacVerify):
        given = {"algorithm": spec.algorithm, "encoding": spec.encoding, "prefix": spec.prefix}
        more = {"header": spec.header} | {name: value for name, value in given.items() if value is not None}
    return Proof(
        kind=kind,
        secrets=_sealed(plain, view.stored, sealer),
        tolerance_ms=_tolerance_ms(verify),
        **more,
    )


def _tolerance_ms(verify: Verify) -> int:
    if verify.tolerance is None:
        return DEFAULT_TOLERANCE_MS
    try:
        return parse_duration_ms(verify.tolerance)
    except ValueError as error:
        raise UnusableError("InvalidSpec", f"spec.verify.tolerance: {error}") from None


def _secrets(view: WebhookView, kind: ProofKind, ref: SecretKeyRef) -> list[bytes]:
    """The current one first; without the line break that editors leave."""
    secret = view.secret
    if secret is None:
        raise UnusableError(
            "SecretNotFound",
            f"there is no Secret {ref.name} with the label {KEY_LABEL}: {WEBHOOK} in namespace "
            f"{view.webhook.meta.namespace}",
        )
    if not labelled(secret, WEBHOOK):
        raise UnusableError("SecretNotLabelled", _unlabelled(secret))
    if ref.key not in secret.data:
        has = ", ".join(sorted(secret.data)) or "none"
        raise UnusableError("InvalidKey", f"the Secret {ref.name} has no key {ref.key}: its keys are {has}")
    found = []
    for entry in (ref.key, f"{ref.key}{FALLBACK}"):
        if entry in secret.data:
            value = secret.data[entry].strip()
            try:
                check_secret(kind, value)
            except SecretError as error:
                raise UnusableError(
                    "InvalidKey", f"the key {entry} of the Secret {ref.name}: {error}"
                ) from None
            found.append(value)
    return found


def _unlabelled(secret: SecretObject) -> str:
    return f"the Secret {secret.meta.name} may not be read for a webhook: label it {KEY_LABEL}: {WEBHOOK}"


def _sealed(plain: Sequence[bytes], stored: Webhook | None, sealer: Opens) -> tuple[bytes, ...]:
    """Encrypted; what the record holds already as it is there, so that nothing is written where nothing changed."""
    known: dict[bytes, bytes] = {}
    for sealed in stored.proof.secrets if stored is not None and stored.proof is not None else ():
        try:
            known.setdefault(sealer.unseal(sealed), sealed)
        except ValueError:
            # Of another key: it is encrypted anew.
            continue
    return tuple(known.get(each) or sealer.seal(each) for each in plain)


def _networks(cidrs: Sequence[str]) -> tuple[str, ...]:
    try:
        return tuple(str(ipaddress.ip_network(each, strict=False)) for each in cidrs)
    except ValueError as error:
        raise UnusableError("InvalidSpec", f"spec.allowCIDRs: {str(error)[:200]}") from None


# ---- the plan


def plan_webhook(view: WebhookView, verdict: Verdict | None, sealer: Opens | None) -> WebhookPlan:
    """What to do for a Webhook.

    Args:
        view: all that is seen of it; its URL's Secret has been made by now, where it could be.
        verdict: of what `read_transform` says; None where that failed.
        sealer: encrypts the secrets of proofs for the store; None: there is no key for that.
    """
    token, wrong = "", None
    try:
        token = _token(view)
        record: Webhook | None = _record(view, token, verdict, sealer)
    except UnusableError as error:
        wrong = error
        record = _kept(view, token)
    said = _said(view, wrong, record)
    status = _status(view, said, token, record)
    actions: list[Action] = []
    if status != view.webhook.status:
        actions.append(set_status(WEBHOOK_KIND, view.webhook.meta, status))
    actions += _news(view, said)
    return WebhookPlan(record=record, actions=tuple(actions), wake_ms=_wake_ms(view, verdict, wrong))


def _record(view: WebhookView, token: str, verdict: Verdict | None, sealer: Opens | None) -> Webhook:
    transform = read_transform(view)
    if verdict is None or not verdict.tried:
        why = verdict.problem if verdict is not None else "it was not tried yet"
        raise UnusableError("NotChecked", f"the transform could not be tried yet: {why}", "Unknown")
    if verdict.problem:
        raise UnusableError("InvalidTransform", verdict.problem)
    meta = view.webhook.meta
    return Webhook(
        name=record_name(meta.namespace, meta.name),
        env=view.env,
        digest=key_digest(token),
        transform=transform,
        proof=_proof(view, sealer),
        cidrs=_networks(view.webhook.spec.allow_cidrs),
    )


def _kept(view: WebhookView, token: str) -> Webhook | None:
    """The last good record, where the namespace is by now, and with the URL that the Webhook has by now."""
    if view.stored is None:
        return None
    digest = key_digest(token) if token else view.stored.digest
    return msgspec.structs.replace(view.stored, env=view.env, digest=digest)


def _said(view: WebhookView, wrong: UnusableError | None, record: Webhook | None) -> Said:
    if wrong is not None:
        goes_on = " Until then it goes on as it was before." if record is not None else ""
        return Said(wrong.status, wrong.reason, f"{wrong}.{goes_on}" if goes_on else str(wrong))
    where = "status.url" if record is not None and record.proof is not None else "the URL of its Secret"
    message = f"requests are taken: paste {where} into the provider"
    if not view.base_url:
        message += ", with the gateway's address before it, which the operator was not told"
    return Said("True", "Ready", message)


def _status(view: WebhookView, said: Said, token: str, record: Webhook | None) -> Json:
    meta = view.webhook.meta
    status: Json = {
        "observedGeneration": meta.generation,
        "conditions": conditions(
            {READY: said}, view.webhook.status, generation=meta.generation, now_ms=view.now_ms
        ),
    }
    if LAST_RECEIVED in view.webhook.status:
        status[LAST_RECEIVED] = view.webhook.status[LAST_RECEIVED]
    if token and view.url_secret is not None:
        entry = URL if URL in view.url_secret.data else TOKEN
        status["urlSecretRef"] = {"name": view.url_secret.meta.name, "key": entry}
        # Providers want it before they show their secret. As long as it is a key, it is not for everybody's eyes.
        if view.webhook.spec.verify is not None and (record is None or record.proof is not None):
            status["url"] = _url(view, token)
    return status


def _news(view: WebhookView, said: Said) -> list[Tell]:
    """What is told when a Webhook becomes ready or not."""
    before = find(view.webhook.status, READY)
    if said.status == "Unknown":
        return []
    if before is not None and (before.status, before.reason) == (said.status, said.reason):
        return []
    level: Level = "Normal" if said.status == "True" else "Warning"
    return [tell(WEBHOOK_KIND, view.webhook.meta, level, said.reason, said.message)]


def _wake_ms(view: WebhookView, verdict: Verdict | None, wrong: UnusableError | None) -> int | None:
    if wrong is None:
        return None
    if verdict is not None and not verdict.tried:
        return view.now_ms + _RETRY_MS
    # A Secret without the label is not seen, nor is it seen to go.
    hidden = view.url_secret is None and view.makes_secrets
    return view.now_ms + MINUTE_MS if hidden or (verdict is not None and not verdict.lasting) else None
