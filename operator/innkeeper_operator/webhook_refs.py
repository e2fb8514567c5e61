"""What a Webhook refers to, by name: all of it in its own namespace. Pure."""

from collections.abc import Iterable
from typing import TypeAlias

from innkeeper_engine.model.webhooks import ProofKind
from innkeeper_operator.objects import Unreadable, WebhookObject
from innkeeper_operator.specs import HmacVerify, SecretVerify, Verify

OneProof: TypeAlias = SecretVerify | HmacVerify


def proof_of(verify: Verify) -> tuple[ProofKind, OneProof] | None:
    """Which kind of proof is wanted; None where none is set, which the API server does not let happen."""
    kinds: tuple[tuple[ProofKind, OneProof | None], ...] = (
        ("github", verify.github),
        ("stripe", verify.stripe),
        ("slack", verify.slack),
        ("standardWebhooks", verify.standard_webhooks),
        ("hmac", verify.hmac),
        ("basic", verify.basic),
        ("bearer", verify.bearer),
    )
    return next(((kind, found) for kind, found in kinds if found is not None), None)


def url_secret_name(webhook: str) -> str:
    """Name of the Secret that holds a Webhook's URL."""
    return f"{webhook}-webhook-url"


def secrets_of_webhook(webhook: WebhookObject | Unreadable) -> set[str]:
    """Names of the Secrets that a Webhook needs."""
    if isinstance(webhook, Unreadable):
        return set()
    found = {url_secret_name(webhook.meta.name)}
    proof = proof_of(webhook.spec.verify) if webhook.spec.verify is not None else None
    return found if proof is None else {*found, proof[1].secret_ref.name}


def config_map_of(webhook: WebhookObject | Unreadable) -> str:
    """Name of the ConfigMap that holds a Webhook's transform; empty where it holds it itself."""
    if isinstance(webhook, Unreadable) or webhook.spec.transform.config_map_ref is None:
        return ""
    return webhook.spec.transform.config_map_ref.name


def wanted_config_maps(webhooks: Iterable[WebhookObject | Unreadable]) -> set[tuple[str, str]]:
    """Namespace and name of each ConfigMap that these Webhooks need."""
    return {(hook.meta.namespace, name) for hook in webhooks if (name := config_map_of(hook))}


def wanted_webhook_secrets(webhooks: Iterable[WebhookObject | Unreadable]) -> set[tuple[str, str]]:
    """Namespace and name of each Secret that these Webhooks need."""
    return {(hook.meta.namespace, name) for hook in webhooks for name in secrets_of_webhook(hook)}
