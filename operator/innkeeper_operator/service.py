"""The operator as a whole: its parts, in the order in which they start and end."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable
from typing import Literal, TypeAlias

import structlog
from kubernetes.client import Configuration

from innkeeper_apps.classes import Routes
from innkeeper_apps.sandbox.pool import Sandbox, SandboxLimits
from innkeeper_engine.model.clock import Clock, RandomIds, SystemClock
from innkeeper_engine.probes import Checks, Probes, ProbesStartError
from innkeeper_engine.store.connection import Address, StoreError, StoreUnavailableError
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_engine.store.store import Greeter, Store, StoreSettings
from innkeeper_engine.store.webhooks import WebhookStore
from innkeeper_operator.cluster import Cluster
from innkeeper_operator.counters import Counters
from innkeeper_operator.doing import Doer
from innkeeper_operator.election import Election, LeaseLostError, Timing
from innkeeper_operator.environs import Environs
from innkeeper_operator.errors import ApiError, OperatorStoppedError
from innkeeper_operator.inbox import Inbox
from innkeeper_operator.intents import Intents
from innkeeper_operator.keys import Opens, wanted_secrets
from innkeeper_operator.metrics import Metrics
from innkeeper_operator.named import Named
from innkeeper_operator.objects import AppObject
from innkeeper_operator.queue import WorkQueue
from innkeeper_operator.received import ReceivedTimes
from innkeeper_operator.reconcile import Asks, Reconciler
from innkeeper_operator.registry_io import RegistryIO
from innkeeper_operator.settings import OperatorSettings
from innkeeper_operator.watching import Scope, Watching, quieten
from innkeeper_operator.webhook_reconcile import WebhookReconciler
from innkeeper_operator.webhook_refs import wanted_config_maps, wanted_webhook_secrets
from innkeeper_operator.world import CONFIG_MAPS, SECRETS, Dirty, World

_log = structlog.get_logger(__name__)

_RETRY_S = 1.0
_REGISTRY_LOOK_S = 30.0

Work: TypeAlias = tuple[Literal["app", "environments", "stray", "webhook"], str, str]
"""What to look at: ("app", namespace, name), ("environments", "", ""), ("stray", environment, app id),
("webhook", namespace, name).
"""

_ENVIRONMENTS: Work = ("environments", "", "")


class Operator:
    """One operator process; `run` it once."""

    def __init__(
        self,
        settings: OperatorSettings,
        address: Address,
        configuration: Configuration,
        *,
        asker: Asks,
        egress: Routes,
        sealer: Opens,
        webhook_sealer: Opens | None,
        identity: str,
        host: str = "127.0.0.1",
        port: int = 0,
        metrics_port: int | None = None,
        store_settings: StoreSettings | None = None,
        clock: Clock | None = None,
        timing: Timing | None = None,
        counter_interval_ms: int = 30_000,
        received_interval_ms: int = 60_000,
    ) -> None:
        """`asker` asks apps; `egress`: the rules that URLs of apps must pass; `identity` names this process
        in the Lease; `host` and `port` are for probes and metrics, 0 takes a free port; `metrics_port`: a second one.

        `sealer` encrypts keys of apps, for executors; `webhook_sealer` secrets of webhooks, for gateways. None: there
        is no key for that, and Webhooks with a proof wait for one.
        """
        self._settings = settings
        self._clock = clock or SystemClock()
        self.metrics = Metrics()
        self.world = World()
        self._reconnected = asyncio.Event()
        self.store = Store(
            address,
            store_settings,
            greeting=self._greeted,
            name="innkeeper-operator",
            metrics=self.metrics.process,
        )
        self.cluster = Cluster(
            configuration,
            self._clock,
            instance=identity,
            on_write=lambda verb, kind: self.metrics.writes.labels(verb, kind).inc(),
        )
        self.election = Election(
            self.cluster,
            self._clock,
            namespace=settings.lease_namespace,
            name=settings.lease_name,
            me=identity,
            timing=timing,
        )
        self.queue: WorkQueue[Work] = WorkQueue(
            self._work, self._clock, workers=settings.workers, on_failure=self._failed
        )
        labelled = settings.secret_mode == "Labelled"  # noqa: S105 - a mode
        watched = (self.cluster, self.world, self._dirty, self._restarted)
        self._named = None if labelled else Named(SECRETS, *watched)
        self._config_maps = Named(CONFIG_MAPS, *watched)
        self.watching = Watching(
            self.cluster,
            self.world,
            Scope(namespaces=settings.namespaces, secrets=labelled),
            self._dirty,
            on_restart=self._restarted,
        )
        self.registry = RegistryIO(self.store, self._clock, RandomIds(), on_new=self._new_registry)
        self.environs = Environs(
            self.world,
            self.cluster,
            EnvironmentStore(self.store),
            settings,
            sealer,
            self._dirty,
            prepare=self._want_secrets,
            random_hex=lambda: secrets.token_hex(32),
        )
        self.reconciler = Reconciler(
            self.world,
            self.cluster,
            self.registry,
            self.environs,
            asker,
            settings,
            self._clock,
            self.metrics,
            self._dirty,
            lambda env, app_id: self.queue.add(("stray", env, app_id)),
        )
        webhook_store = WebhookStore(self.store)
        self.webhooks = WebhookReconciler(
            self.world,
            webhook_store,
            Sandbox(SandboxLimits(workers=1)),
            Doer(self.world, self.cluster, self.metrics, self._dirty),
            settings,
            webhook_sealer,
            self._clock,
            prepare=self._want_for_webhooks,
            random_hex=lambda: secrets.token_hex(32),
        )
        self._inbox = Inbox(
            self.store,
            self.world,
            self.cluster,
            self.environs,
            self.reconciler,
            egress,
            settings,
            self._clock,
            self.metrics,
            self._dirty,
        )
        self._intents = Intents(self.store, self.world, self.cluster, settings, webhook_sealer, self._dirty)
        self._counters = Counters(
            self.world,
            self.cluster,
            self.registry,
            self.environs,
            self._clock,
            self.metrics,
            self._dirty,
            interval_ms=counter_interval_ms,
        )
        self.received = ReceivedTimes(
            self.world,
            self.cluster,
            webhook_store,
            self.metrics,
            self._dirty,
            interval_ms=received_interval_ms,
        )
        self.health = Probes(self.checks, self._metrics_text, host=host, port=port)
        self._more_metrics = (
            Probes(self.checks, self._metrics_text, host=host, port=metrics_port)
            if metrics_port not in (None, port)
            else None
        )
        self.settled = asyncio.Event()
        """Set once it leads and has seen all that is there."""

    # ---- life

    async def run(self) -> None:
        """Run until cancelled.

        Raises:
            LeaseLostError: another one is active; this process has ended its work.
            StoreUnavailableError: no Redis or Valkey at the start.
            OperatorStoppedError: it cannot listen.
        """
        quieten()
        lost = False
        try:
            await self._listen()
            await self.store.open()
            await self.election.acquire()
            self.metrics.leading.set(1)
            _log.info("this operator is active", namespaces=list(self._settings.namespaces) or "all")
            await self._together(self.election.keep(), self.watching.run(), self._lead())
        except LeaseLostError:
            lost = True
            raise
        finally:
            self.metrics.leading.set(0)
            await self._end(release=not lost)

    async def _listen(self) -> None:
        try:
            await self.health.start()
            if self._more_metrics is not None:
                await self._more_metrics.start()
        except ProbesStartError as error:
            raise OperatorStoppedError(f"{error}; set INNKEEPER_PORT or INNKEEPER_METRICS_PORT") from error

    async def _lead(self) -> None:
        """All that decides, once everything has been listed."""
        await self.watching.ready.wait()
        await self._want_secrets()
        self.settled.set()
        self.queue.add(_ENVIRONMENTS)
        parts = [self.queue.run(), self._follow_registry(), self._inbox.run(), self._intents.run()]
        if self._settings.status_counters:
            parts += [self._counters.run(), self.received.run()]
        await self._together(*parts)

    async def _together(self, *parts: Awaitable[None]) -> None:
        """Run until one of them fails; then end the others."""
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _end(self, *, release: bool) -> None:
        self.settled.clear()
        await self.reconciler.close()
        await self.webhooks.close()
        await self._config_maps.close()
        if self._named is not None:
            await self._named.close()
        if release:
            await self.election.release()
        await self.health.stop()
        if self._more_metrics is not None:
            await self._more_metrics.stop()
        await self.cluster.close()
        await self.store.close()

    # ---- work

    def _dirty(self, dirty: Dirty) -> None:
        if dirty.namespaces:
            self.environs.touch()
            self.queue.add(_ENVIRONMENTS)
        for namespace, name in dirty.apps:
            self.queue.add(("app", namespace, name))
        for namespace, name in dirty.webhooks:
            self.queue.add(("webhook", namespace, name))

    async def _work(self, key: Work) -> int | None:
        kind, first, second = key
        began_s = time.monotonic()
        result = "error"
        try:
            if kind == "app":
                again_ms = await self.reconciler.app((first, second))
            elif kind == "stray":
                again_ms = await self.reconciler.gone(first, second)
            elif kind == "webhook":
                again_ms = await self.webhooks.look((first, second))
            else:
                await self.environs.apply()
                again_ms = None
            result = "ok"
            return again_ms
        finally:
            self.metrics.reconciles.labels(kind, result).inc()
            self.metrics.seconds.labels(kind).observe(time.monotonic() - began_s)

    def _failed(self, key: Work, error: Exception) -> None:
        expected = isinstance(error, ApiError | StoreError | StoreUnavailableError)
        log = _log.warning if expected else _log.exception
        log("a look failed and is repeated", what=key[0], where=key[1], name=key[2], error=str(error))

    async def _want_secrets(self) -> None:
        """In the mode Named: watch the Secrets that apps and Webhooks name."""
        if self._named is not None:
            apps = [app for app in self.world.apps() if isinstance(app, AppObject)]
            hooks = self.world.webhooks()
            await self._named.want(wanted_secrets(apps) | wanted_webhook_secrets(hooks))

    async def _want_for_webhooks(self) -> None:
        """Watch what Webhooks name."""
        await self._want_secrets()
        await self._config_maps.want(wanted_config_maps(self.world.webhooks()))

    # ---- the registry

    async def _greeted(self, _greeter: Greeter) -> None:
        self._reconnected.set()

    async def _follow_registry(self) -> None:
        """After each reconnect, look whether it is the same registry, and for what has lost its object."""
        while True:
            self._reconnected.clear()
            try:
                await self.registry.id()
                for env, app_id in await self.reconciler.strays():
                    self.queue.add(("stray", env, app_id))
                for namespace, name in await self.webhooks.strays():
                    self.queue.add(("webhook", namespace, name))
            except (StoreError, StoreUnavailableError) as error:
                _log.warning("the registry cannot be read yet", error=str(error))
                await asyncio.sleep(_RETRY_S)
                continue
            except Exception:
                # What is wrong with one environment or registration keeps nobody else waiting.
                _log.exception("the registry was not compared with the apps")
            await self._until_reconnected()

    async def _until_reconnected(self) -> None:
        """Wait, and look now and then whether the server was emptied without any connection breaking."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REGISTRY_LOOK_S):
                    await self._reconnected.wait()
                    return
            try:
                await self.registry.id()
            except (StoreError, StoreUnavailableError) as error:
                _log.warning("the registry cannot be read now", error=str(error))

    def _new_registry(self) -> None:
        """It has nothing of what was written before."""
        _log.warning("the registry is another one: everything is written again, and every app is asked again")
        self.environs.touch(forget_store=True)
        self.webhooks.forget_store()
        self.queue.add(_ENVIRONMENTS)
        for app in self.world.apps():
            self.queue.add(("app", *app.meta.key))
        for webhook in self.world.webhooks():
            self.queue.add(("webhook", *webhook.meta.key))

    # ---- health

    def _restarted(self, kind: str) -> None:
        self.metrics.watch_restarts.labels(kind).inc()

    async def _metrics_text(self) -> bytes:
        self.metrics.queue_depth.set(self.queue.depth)
        self.metrics.failing.set(self.queue.failing)
        return self.metrics.text()

    def checks(self) -> Checks:
        """What `/ready` says. One that waits for its turn is ready: it could take over now."""
        store = "ok" if self.store.connected else self.store.last_error or "not connected yet"
        if not self.election.leading:
            waiting = "ok" if self.election.holder else "the lease was not read yet"
            return {"redis": store, "lease": waiting}
        return {"redis": store, "lease": "ok", "cluster": self.watching.problem or "ok"}
