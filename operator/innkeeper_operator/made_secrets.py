"""Secrets that the operator makes: a namespace's own keys, the environment variables of an app's pods, and the URL of a
Webhook. Pure.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from innkeeper_operator.actions import Apply, Create
from innkeeper_operator.keys import (
    EVENT,
    EVENT_KEY,
    SIGNING,
    SIGNING_KEY,
    WEBHOOK,
    WORKLOAD,
    labelled,
    secret_text,
)
from innkeeper_operator.objects import (
    APP_KIND,
    KEY_LABEL,
    MANAGED_BY,
    MANAGED_BY_VALUE,
    NAMESPACE_KEYS,
    WEBHOOK_KIND,
    AppObject,
    Json,
    Meta,
    SecretObject,
    WebhookObject,
)
from innkeeper_operator.specs import API_VERSION
from innkeeper_operator.webhook_refs import url_secret_name

TOKEN: Final = "token"  # noqa: S105 - the name of an entry
URL: Final = "url"
"""Entries of the Secret that holds a Webhook's URL."""

_LONGEST_NAME: Final = 253
_NOT_IN_PREFIX = re.compile(r"[^A-Za-z0-9_]")


def namespace_keys(namespace: str, environment: str, random_hex: Callable[[], str]) -> Json:
    """A new Secret `innkeeper-keys`. To be created, never applied: other keys may be there by then.

    `random_hex`: 64 random hex digits at each call.
    """
    # SDKs take `signkey-`, letters, digits and underscores, and `-` off a key.
    prefix = _NOT_IN_PREFIX.sub("_", environment)
    data = {EVENT_KEY: random_hex(), SIGNING_KEY: f"signkey-{prefix}-{random_hex()}"}
    return _secret(namespace, NAMESPACE_KEYS, f"{EVENT}.{SIGNING}", data)


def workload_secret_name(app: str) -> str:
    """Name of the Secret with the environment variables of an app's pods."""
    return f"{app}-inngest-env"


def workload_secret(app: AppObject, wanted: Mapping[str, str], there: SecretObject | None) -> list[Apply]:
    """How the Secret of an app's pods becomes right; nothing where it is, or where it is a person's.

    Raises:
        ValueError: no Secret can have that name; the message says so.
    """
    name = workload_secret_name(app.meta.name)
    _check_length(name)
    if there is not None and (not is_ours(there, WORKLOAD) or _is_right(there, wanted, app.meta)):
        return []
    manifest = _secret(app.meta.namespace, name, WORKLOAD, wanted, (APP_KIND, app.meta))
    # Not by force where it was not seen: a person may have made it, without the label by which it would be.
    return [Apply(manifest=manifest, force=there is not None)]


def workload_variables(
    app: AppObject,
    keys: Sequence[str],
    event_key: str,
    *,
    url: str,
    base_url: str,
    there: SecretObject | None,
) -> dict[str, str]:
    """The environment variables of an app's pods.

    Args:
        app: the InngestApp.
        keys: its signing keys, the current one first.
        event_key: its namespace's.
        url: how it is called; empty while not known.
        base_url: where it reaches the gateway.
        there: the Secret as it is.
    """
    data = {
        "INNGEST_BASE_URL": base_url,
        "INNGEST_DEV": "0",
        "INNGEST_EVENT_KEY": event_key,
        "INNGEST_SIGNING_KEY": keys[0],
    }
    if len(keys) > 1:
        data["INNGEST_SIGNING_KEY_FALLBACK"] = keys[1]
    if app.spec.branch:
        data["INNGEST_ENV"] = app.spec.branch
    # The second is what version 3 of the TypeScript SDK reads; later ones prefer the first.
    for name in ("INNGEST_SERVE_ORIGIN", "INNGEST_SERVE_HOST"):
        if url:
            data[name] = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        elif there is not None and name in there.data:
            # The Service is gone for now; its name has not changed.
            data[name] = secret_text(there, name)
    return data


def url_secret(
    webhook: WebhookObject, token: str, url: str, there: SecretObject | None
) -> Apply | Create | None:
    """How the Secret that holds a Webhook's URL becomes right; None where it is.

    `there`: as it is, one of the operator's own. None: it was not seen, and a person's that has the name stays as it is.

    Raises:
        ValueError: no Secret can have that name; the message says so.
    """
    wanted = {TOKEN: token, URL: url}
    if there is not None and _is_right(there, wanted, webhook.meta):
        return None
    name = url_secret_name(webhook.meta.name)
    _check_length(name)
    manifest = _secret(webhook.meta.namespace, name, WEBHOOK, wanted, (WEBHOOK_KIND, webhook.meta))
    return Create(manifest=manifest) if there is None else Apply(manifest=manifest)


def first_url_secret(namespace: str, webhook: str, token: str, base_url: str) -> Json:
    """The Secret with the URL of a Webhook that is not there yet, to be created before it; it has no owner so far."""
    data = {TOKEN: token, URL: f"{base_url.rstrip('/')}/w/{token}"}
    return _secret(namespace, url_secret_name(webhook), WEBHOOK, data)


def is_ours(secret: SecretObject, use: str) -> bool:
    """Whether the operator has made a Secret, for this use."""
    return labelled(secret, use) and secret.meta.labels.get(MANAGED_BY) == MANAGED_BY_VALUE


def _check_length(name: str) -> None:
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"the name is too long: no Secret can be called {name[:20]}...{name[-32:]}")


def _is_right(secret: SecretObject, data: Mapping[str, str], owner: Meta) -> bool:
    there = {name: value.decode("utf-8", "replace") for name, value in secret.data.items()}
    return there == data and owner.uid in secret.meta.owner_uids


def _secret(
    namespace: str, name: str, use: str, data: Mapping[str, str], owner: tuple[str, Meta] | None = None
) -> Json:
    meta: Json = {
        "name": name,
        "namespace": namespace,
        "labels": {KEY_LABEL: use, MANAGED_BY: MANAGED_BY_VALUE},
    }
    if owner is not None:
        kind, of = owner
        meta["ownerReferences"] = [{"apiVersion": API_VERSION, "kind": kind, "name": of.name, "uid": of.uid}]
    encoded = {entry: b64encode(value.encode()).decode() for entry, value in sorted(data.items())}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "data": encoded}
