"""Which webhook a URL belongs to, without asking the store: a copy that is read again when something changed.

As with environments, what is looked up are digests, so that the time it takes says nothing of the URLs; and an unknown
one is refused only on a copy that was read after it came, so that a URL works from the moment at which somebody has it.
"""

import time
from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog

from innkeeper_apps.sealing import Sealer
from innkeeper_engine.copies import Copy
from innkeeper_engine.environments import Environments
from innkeeper_engine.model.environments import Environment
from innkeeper_engine.model.webhooks import Proof, Webhook
from innkeeper_engine.store.notices import Notices
from innkeeper_engine.store.webhooks import CHANGED, Snapshot, WebhookStore

_log = structlog.get_logger(__name__)


class OpenedWebhook(msgspec.Struct, frozen=True):
    """A webhook that somebody knows the URL of."""

    webhook: Webhook
    environment: Environment
    """Of which a request may choose a branch."""
    secrets: tuple[bytes, ...] = ()
    """Of its proof, unsealed."""


class SealedError(Exception):
    """A webhook whose secrets cannot be opened here, so that nothing can be proved to it; says why."""

    def __init__(self, webhook: str, why: str) -> None:
        super().__init__(why)
        self.webhook = webhook


class WebhookSource(Protocol):
    """Where webhooks are known."""

    async def by_digest(self, digest: str) -> OpenedWebhook | None:
        """The webhook whose token has this `key_digest`; None: there is none.

        Raises:
            SealedError: there is one, but its secrets cannot be opened.
            StoreError, StoreUnavailableError, TimeoutError: that cannot be told now.
        """
        ...


class Webhooks:
    """The webhooks in the store. A known URL costs a look into a dictionary."""

    def __init__(
        self,
        store: WebhookStore,
        notices: Notices,
        environments: Environments,
        sealer: Sealer | None,
        *,
        timeout_s: float,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`store` and `notices`: of the same shard. `sealer`: None where the gateway has no key of webhooks.

        `timeout_s`: how long a look-up waits for the store.
        """
        self._store = store
        self._environments = environments
        self._sealer = sealer
        self._version = -1
        self._by_digest: dict[str, Webhook] = {}
        self._by_name: dict[tuple[str, str], Webhook] = {}
        self._copy = Copy(
            "webhooks", self._read, notices, CHANGED, timeout_s=timeout_s, monotonic_s=monotonic_s
        )

    async def by_digest(self, digest: str) -> OpenedWebhook | None:
        """See `WebhookSource`."""
        webhook = self._by_digest.get(digest)
        if webhook is not None:
            self._copy.was_used()
        elif await self._copy.looked_again():
            webhook = self._by_digest.get(digest)
        if webhook is None:
            return None
        environment = self._environments.by_name(webhook.env)
        if environment is None:
            await self._environments.refresh()
            environment = self._environments.by_name(webhook.env)
        if environment is None:
            _log.warning("a webhook's environment is not known", webhook=webhook.name, env=webhook.env)
            return None
        secrets = () if webhook.proof is None else self._unsealed(webhook, webhook.proof)
        return OpenedWebhook(webhook, environment, secrets)

    async def by_name(self, env: str, name: str) -> Webhook | None:
        """The webhook of that name as it is now; None: there is none.

        Raises:
            StoreError, StoreUnavailableError, TimeoutError: that cannot be told now.
        """
        await self.refresh()
        return self._by_name.get((env, name))

    async def refresh(self) -> None:
        """Return when the copy is one that was read after this call.

        Raises:
            StoreError, StoreUnavailableError, TimeoutError: it could not be read.
        """
        await self._copy.refresh()

    async def close(self) -> None:
        """End reads that are under way. The notices are their owner's to close."""
        await self._copy.close()

    def _unsealed(self, webhook: Webhook, proof: Proof) -> tuple[bytes, ...]:
        if self._sealer is None:
            raise SealedError(
                webhook.name, "this gateway has no key for it: set INNKEEPER_WEBHOOK_KEY to the operator's"
            )
        found, why = [], "it has none"
        for sealed in proof.secrets:
            try:
                found.append(self._sealer.unseal(sealed))
            except ValueError as error:
                why = str(error)
                _log.error("a secret of a webhook cannot be opened", webhook=webhook.name, why=why)
        if not found:
            raise SealedError(webhook.name, f"no secret of its proof can be opened: {why}")
        return tuple(found)

    async def _read(self) -> None:
        snapshot = await self._store.read_if_not(self._version)
        if snapshot is not None:
            self._take(snapshot)

    def _take(self, snapshot: Snapshot) -> None:
        by_digest: dict[str, Webhook] = {}
        for webhook in snapshot.webhooks:
            known = by_digest.setdefault(webhook.digest, webhook)
            if known is not webhook:
                _log.warning(
                    "the URL of a webhook is another's too: that one takes the requests",
                    webhook=webhook.name,
                    takes=known.name,
                )
        self._version, self._by_digest = snapshot.version, by_digest
        self._by_name = {(each.env, each.name): each for each in snapshot.webhooks}
        _log.info("webhooks read", count=len(snapshot.webhooks), version=snapshot.version)
