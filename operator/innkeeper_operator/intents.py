"""Webhooks that somebody has approved on the gateway's page: made here, since gateways may create nothing.

The Secret with the URL comes before the Webhook, which then has that URL from its first look on. Both have a name that
no other intent has: whatever dies in between, the same two are made once more.
"""

from collections.abc import Callable
from typing import Final, Protocol

import msgspec
import structlog

from innkeeper_engine.model.webhooks import IntentAnswer, WebhookIntent
from innkeeper_engine.store.intents import INTENTS_BELL, IntentBox
from innkeeper_engine.store.store import Store
from innkeeper_operator.actions import Action, Create, Json
from innkeeper_operator.bells import answer_bell
from innkeeper_operator.errors import ApiError
from innkeeper_operator.keys import Opens
from innkeeper_operator.made_secrets import first_url_secret
from innkeeper_operator.objects import REGISTERED_BY, WEBHOOK_KIND
from innkeeper_operator.settings import OperatorSettings
from innkeeper_operator.specs import API_VERSION
from innkeeper_operator.world import SECRETS, WEBHOOKS, Dirty, World

APPROVED_BY: Final = "innkeeper.dev/approved-by"
"""Annotation: who has approved a Webhook that a site asked for."""

_REFUSED: Final = (400, 403, 404, 422)

_log = structlog.get_logger(__name__)


class Does(Protocol):
    """The cluster, for what is made here."""

    async def do(self, action: Action) -> Json | None:
        """See `Cluster.do`."""
        ...


class Intents:
    """Takes intents out of the store for as long as the operator is active."""

    def __init__(
        self,
        store: Store,
        world: World,
        cluster: Does,
        settings: OperatorSettings,
        sealer: Opens | None,
        on_dirty: Callable[[Dirty], None],
    ) -> None:
        """`sealer` opens what gateways leave; None: the operator has no key of webhooks."""
        self._store = store
        self._box = IntentBox(store)
        self._world = world
        self._cluster = cluster
        self._settings = settings
        self._sealer = sealer
        self._on_dirty = on_dirty

    async def run(self) -> None:
        """Wait for intents until cancelled; what fails is tried again."""
        await answer_bell(self._store, INTENTS_BELL, self.look, "approved webhooks")

    async def look(self) -> None:
        """Make everything that waits, or say why not.

        Raises:
            ApiError, StoreError, StoreUnavailableError: try again.
        """
        for intent_id, sealed in (await self._box.intents_left()).items():
            why = await self._make(sealed)
            if why:
                _log.warning("an approved webhook is refused", intent=intent_id, why=why)
            await self._box.answer_intent(intent_id, IntentAnswer(made=not why, why=why))

    async def _make(self, sealed: bytes) -> str:
        """Make one; returns why not."""
        if self._sealer is None:
            return "the operator has no key of webhooks: set INNKEEPER_WEBHOOK_KEY to the gateways'"
        try:
            intent = msgspec.json.decode(self._sealer.unseal(sealed), type=WebhookIntent)
        except ValueError as error:
            return f"what the gateway left cannot be opened ({error}): is INNKEEPER_WEBHOOK_KEY the same for both?"
        if self._settings.secret_mode != "Labelled":  # noqa: S105 - a mode
            return "this operator makes no Secrets (secrets.mode is Named): apply a Webhook and its Secret yourself"
        if self._settings.namespaces and intent.namespace not in self._settings.namespaces:
            return f"this operator does not look after the namespace {intent.namespace}"
        base_url = self._settings.webhooks_url or self._settings.base_url
        secret = first_url_secret(intent.namespace, intent.name, intent.token, base_url)
        try:
            for kind, manifest in ((SECRETS, secret), (WEBHOOKS, webhook_manifest(intent))):
                made = await self._cluster.do(Create(manifest=manifest))
                if made is not None:
                    self._on_dirty(self._world.put(kind, made))
        except ApiError as error:
            if error.status not in _REFUSED:
                raise
            return str(error)
        _log.info("an approved webhook was made", namespace=intent.namespace, name=intent.name)
        return ""


def webhook_manifest(intent: WebhookIntent) -> Json:
    """The object of an intent. From then on it is people's: the operator writes its status alone."""
    return {
        "apiVersion": API_VERSION,
        "kind": WEBHOOK_KIND,
        "metadata": {
            "name": intent.name,
            "namespace": intent.namespace,
            "labels": {REGISTERED_BY: "intent"},
            "annotations": {APPROVED_BY: intent.approved_by},
        },
        "spec": {"transform": {"script": intent.transform}},
    }
