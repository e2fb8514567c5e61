"""Webhooks under the manifests of `innkeeper dev`: the operator's plans, with no cluster.

ConfigMaps and Secrets that a Webhook names are looked for among the same files, under the same rules as in a cluster. Its
URL is made from the data directory's encryption key, so that it stays the same as long as that directory does; a
Secret `<name>-webhook-url` among the files goes before.
"""

import asyncio
import hashlib
import hmac
from typing import Final

import structlog

from innkeeper_apps.sandbox.pool import Sandbox
from innkeeper_apps.sealing import Sealer
from innkeeper_cli.declared import Declared
from innkeeper_cli.manifests import DEFAULT_NAMESPACE, Manifests
from innkeeper_engine.model.clock import Clock
from innkeeper_engine.model.webhooks import Webhook
from innkeeper_engine.store.connection import StoreError, StoreUnavailableError
from innkeeper_engine.store.webhooks import WebhookStore
from innkeeper_operator.actions import SetStatus
from innkeeper_operator.conditions import READY, find
from innkeeper_operator.judging import judge_transform
from innkeeper_operator.keys import WEBHOOK, secret_text
from innkeeper_operator.made_secrets import TOKEN
from innkeeper_operator.objects import KEY_LABEL, Meta, SecretObject, WebhookObject
from innkeeper_operator.webhook_refs import config_map_of, proof_of, url_secret_name
from innkeeper_operator.webhooks import (
    UnusableError,
    WebhookPlan,
    WebhookView,
    plan_webhook,
    read_transform,
    record_name,
)

LOOK_EVERY_S: Final = 1.0
"""Between two looks at the files."""

_log = structlog.get_logger(__name__)


def webhook_key(encryption_key: bytes) -> bytes:
    """The key of webhooks for a server that has one process, and so one key to keep.

    Hashed with a label, so that nothing which is sealed for webhooks opens with the encryption key, or the other way
    round: what works on a laptop does not come to rely on the two being one.
    """
    return hashlib.sha256(b"innkeeper webhook key\0" + encryption_key).digest()


class DeclaredWebhooks:
    """Makes the store's webhooks what the manifests say, and says on the terminal where they take requests."""

    def __init__(
        self,
        declared: Declared,
        store: WebhookStore,
        sandbox: Sandbox,
        clock: Clock,
        *,
        env: str,
        encryption_key: bytes,
        base_url: str,
    ) -> None:
        """`env`: whose webhooks these are. `base_url`: where the gateway listens."""
        self._declared = declared
        self._store = store
        self._sandbox = sandbox
        self._clock = clock
        self._env = env
        self._key = encryption_key
        self._base_url = base_url
        self._sealer = Sealer(webhook_key(encryption_key))
        self._written: Manifests | None = None

    async def run(self) -> None:
        """Write webhooks whenever the manifests change, until cancelled."""
        while True:
            try:
                await self.write()
            except (StoreError, StoreUnavailableError, TimeoutError) as error:
                _log.warning("webhooks could not be written", why=str(error) or "no answer in time")
            await asyncio.sleep(LOOK_EVERY_S)

    async def write(self) -> None:
        """Write what the manifests say now, and remove what they do not say any more.

        Raises:
            StoreError, StoreUnavailableError, TimeoutError: not all of it is written; the next call does it.
        """
        manifests = self._declared.current()
        if manifests is self._written:
            return
        stored = {each.name: each for each in (await self._store.read()).webhooks if each.env == self._env}
        done = True
        for webhook in manifests.webhooks:
            name = record_name(webhook.meta.namespace, webhook.meta.name)
            view = self._view(manifests, webhook, stored)
            plan, known = await self._plan(view)
            done = done and known
            self._tell(view, plan)
            if plan.record is not None:
                await self._store.write(plan.record)
                stored[name] = plan.record
        wanted = {record_name(each.meta.namespace, each.meta.name) for each in manifests.webhooks}
        for name in stored.keys() - wanted:
            await self._store.remove(self._env, name)
        if done:
            self._written = manifests

    async def _plan(self, view: WebhookView) -> tuple[WebhookPlan, bool]:
        """The operator's plan; and whether it is the last word, since the transform could be tried."""
        try:
            verdict = await judge_transform(self._sandbox, read_transform(view))
        except UnusableError:
            verdict = None
        return plan_webhook(view, verdict, self._sealer), verdict is None or verdict.lasting

    def _view(self, manifests: Manifests, webhook: WebhookObject, stored: dict[str, Webhook]) -> WebhookView:
        namespace = webhook.meta.namespace
        name = record_name(namespace, webhook.meta.name)
        proof = proof_of(webhook.spec.verify) if webhook.spec.verify is not None else None
        url_secret = manifests.secrets.get((namespace, url_secret_name(webhook.meta.name)))
        return WebhookView(
            webhook=webhook,
            env=self._env,
            stored=stored.get(name),
            digests={each.digest: each.name for each in stored.values() if each.name != name},
            config_map=manifests.config_maps.get((namespace, config_map_of(webhook))),
            secret=manifests.secrets.get((namespace, proof[1].secret_ref.name)) if proof else None,
            url_secret=url_secret or self._url_secret(webhook),
            makes_secrets=True,
            base_url=self._base_url,
            now_ms=self._clock.now_ms(),
        )

    def _url_secret(self, webhook: WebhookObject) -> SecretObject:
        """What the operator would make of random bytes."""
        meta = webhook.meta
        name = record_name(meta.namespace, meta.name)
        token = hmac.new(self._key, f"webhook-url {name}".encode(), hashlib.sha256).hexdigest()[:32]
        own = Meta(name=url_secret_name(meta.name), namespace=meta.namespace, labels={KEY_LABEL: WEBHOOK})
        return SecretObject(own, {TOKEN: token.encode()})

    def _tell(self, view: WebhookView, plan: WebhookPlan) -> None:
        meta = view.webhook.meta
        shown = meta.name if meta.namespace == DEFAULT_NAMESPACE else f"{meta.namespace}/{meta.name}"
        for action in plan.actions:
            if not isinstance(action, SetStatus):
                continue
            ready = find(action.status, READY)
            if ready is None:
                continue
            if ready.status == "True" and view.url_secret is not None:
                token = secret_text(view.url_secret, TOKEN)
                self._declared.say(f"Webhook {shown}: post to {view.base_url}/w/{token}")
            else:
                self._declared.say(f"Webhook {shown}: {ready.reason}: {ready.message}")
