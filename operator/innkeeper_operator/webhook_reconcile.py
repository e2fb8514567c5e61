"""One look at a Webhook: its Secret, its transform tried, its record written, its status told."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from innkeeper_apps.sandbox.pool import Sandbox
from innkeeper_engine.model.clock import Clock
from innkeeper_engine.model.webhooks import Webhook
from innkeeper_engine.store.webhooks import WebhookStore
from innkeeper_operator.actions import set_status
from innkeeper_operator.doing import Doer
from innkeeper_operator.environments import environment_of
from innkeeper_operator.functions import unreadable_status
from innkeeper_operator.judging import judge_transform
from innkeeper_operator.keys import Opens
from innkeeper_operator.objects import WEBHOOK_KIND, Unreadable, WebhookObject
from innkeeper_operator.settings import OperatorSettings
from innkeeper_operator.webhook_refs import config_map_of, proof_of, url_secret_name
from innkeeper_operator.webhooks import (
    UnusableError,
    Verdict,
    WebhookView,
    plan_url,
    plan_webhook,
    read_transform,
    record_key,
    record_name,
)
from innkeeper_operator.world import Key, World

_log = structlog.get_logger(__name__)


class WebhookReconciler:
    """Looks at Webhooks."""

    def __init__(
        self,
        world: World,
        store: WebhookStore,
        sandbox: Sandbox,
        doer: Doer,
        settings: OperatorSettings,
        sealer: Opens | None,
        clock: Clock,
        *,
        prepare: Callable[[], Awaitable[None]],
        random_hex: Callable[[], str],
    ) -> None:
        """`prepare` sees to it that what Webhooks name is there to be looked at. `sandbox` is closed with this.

        `sealer`: encrypts secrets of proofs, for gateways; None where the operator has no key for that.
        """
        self._world = world
        self._store = store
        self._sandbox = sandbox
        self._doer = doer
        self._settings = settings
        self._sealer = sealer
        self._clock = clock
        self._prepare = prepare
        self._random_hex = random_hex
        self._turn = asyncio.Lock()
        self._records: dict[str, dict[str, Webhook]] | None = None
        """What is in the store: by name, then by environment."""
        self._verdicts: dict[Key, tuple[str, Verdict]] = {}

    async def close(self) -> None:
        """End the processes in which transforms are tried."""
        await self._sandbox.close()

    def forget_store(self) -> None:
        """The store may have lost what was written to it."""
        self._records = None

    async def look(self, key: Key) -> int | None:
        """Look at a Webhook, there or gone; returns when to look again (ms), or None.

        Raises:
            ApiError, StoreError, StoreUnavailableError: try again.
        """
        await self._prepare()
        webhook = self._world.webhook(key)
        if webhook is None or webhook.meta.deleting or self._is_terminating(key[0]):
            await self._remove(key)
            return None
        if isinstance(webhook, Unreadable):
            await self._doer.do([set_status(WEBHOOK_KIND, webhook.meta, unreadable_status(webhook))])
            return None
        before = await self._read(key)
        action = plan_url(self._view(webhook, before), self._random_hex)
        if action is not None:
            await self._doer.do([action])
        view = self._view(webhook, before)
        verdict = await self._verdict(view)
        plan = plan_webhook(view, verdict, self._sealer)
        await self._write(key, plan.record)
        await self._doer.do(plan.actions)
        return plan.wake_ms

    async def strays(self) -> list[Key]:
        """Records without a Webhook, by its namespace and name."""
        records = await self._load()
        found = [record_key(name) for name in records]
        return [key for key in found if self._looks_after(key[0]) and self._world.webhook(key) is None]

    # ---- observing

    def _view(self, webhook: WebhookObject, stored: Webhook | None) -> WebhookView:
        meta, spec, settings = webhook.meta, webhook.spec, self._settings
        proof = proof_of(spec.verify) if spec.verify is not None else None
        own = record_name(meta.namespace, meta.name)
        records = self._records or {}
        return WebhookView(
            webhook=webhook,
            env=environment_of(meta.namespace, self._world.namespace(meta.namespace), settings),
            stored=stored,
            digests={
                each.digest: name for name, by in records.items() if name != own for each in by.values()
            },
            config_map=self._world.config_map((meta.namespace, config_map_of(webhook))),
            secret=self._world.secret((meta.namespace, proof[1].secret_ref.name)) if proof else None,
            url_secret=self._world.secret((meta.namespace, url_secret_name(meta.name))),
            makes_secrets=settings.secret_mode == "Labelled",  # noqa: S105 - a mode
            base_url=settings.webhooks_url or settings.base_url,
            now_ms=self._clock.now_ms(),
        )

    async def _verdict(self, view: WebhookView) -> Verdict | None:
        """What the sandbox says of the transform; a source is tried once."""
        try:
            source = read_transform(view)
        except UnusableError:
            return None
        if view.stored is not None and view.stored.transform == source:
            return Verdict()
        known = self._verdicts.get(view.webhook.meta.key)
        if known is not None and known[0] == source:
            return known[1]
        verdict = await judge_transform(self._sandbox, source)
        if verdict.lasting:
            self._verdicts[view.webhook.meta.key] = (source, verdict)
        return verdict

    def _is_terminating(self, namespace: str) -> bool:
        seen = self._world.namespace(namespace)
        return seen is not None and seen.meta.deleting

    def _looks_after(self, namespace: str) -> bool:
        return not self._settings.namespaces or namespace in self._settings.namespaces

    # ---- the store

    async def _load(self) -> dict[str, dict[str, Webhook]]:
        async with self._turn:
            if self._records is None:
                found: dict[str, dict[str, Webhook]] = {}
                for each in (await self._store.read()).webhooks:
                    found.setdefault(each.name, {})[each.env] = each
                self._records = found
            return self._records

    async def _read(self, key: Key) -> Webhook | None:
        """The record, of whichever environment."""
        records = await self._load()
        return next(iter(records.get(record_name(*key), {}).values()), None)

    async def _write(self, key: Key, record: Webhook | None) -> None:
        """Make this its only record."""
        if record is None:
            return
        records = await self._load()
        by_env = records.setdefault(record.name, {})
        if by_env.get(record.env) != record:
            await self._store.write(record)
            by_env[record.env] = record
            _log.info("a webhook is in force", namespace=key[0], name=key[1], environment=record.env)
        for env in [env for env in by_env if env != record.env]:
            await self._store.remove(env, record.name)
            del by_env[env]

    async def _remove(self, key: Key) -> None:
        self._verdicts.pop(key, None)
        if not self._looks_after(key[0]):
            return
        name = record_name(*key)
        records = await self._load()
        for env in list(records.get(name, {})):
            await self._store.remove(env, name)
            del records[name][env]
            _log.info("a webhook is gone", namespace=key[0], name=key[1], environment=env)
        records.pop(name, None)
