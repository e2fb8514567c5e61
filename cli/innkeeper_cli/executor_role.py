"""`innkeeper executor`: routes events, leases work, calls apps."""

import os
from collections.abc import Callable

import structlog

from innkeeper_apps.classes import Routes
from innkeeper_apps.egress import EgressPolicy
from innkeeper_apps.http_driver import HttpDriver
from innkeeper_cli.collecting import settle
from innkeeper_cli.egress import app_classes, request_classes
from innkeeper_cli.gateway_role import reveal, store_settings
from innkeeper_cli.settings import DevRole, ExecutorRole
from innkeeper_cli.showing import Showing
from innkeeper_cli.stopping import Stop
from innkeeper_cli.telemetry import telemetry_of
from innkeeper_engine.decide.context import Limits
from innkeeper_engine.decide.retries import RetryPolicy
from innkeeper_engine.metrics import Metrics
from innkeeper_engine.model.calls import Target
from innkeeper_engine.model.clock import SystemClock
from innkeeper_engine.probes import Checks
from innkeeper_engine.store import durability
from innkeeper_engine.store.connection import Address
from innkeeper_engine.tracing import Tracer
from innkeeper_executor.service import Executor
from innkeeper_executor.settings import ExecutorSettings
from innkeeper_executor.worker import RunLine

_log = structlog.stdlib.get_logger(__name__)


def executor_settings(role: ExecutorRole | DevRole) -> ExecutorSettings:
    """The executor's own settings from the role's."""
    return ExecutorSettings(
        capacity=role.capacity,
        beat_ms=round(role.beat_s * 1000),
        grace_s=role.grace_s,
        policy=RetryPolicy(
            backoff_ms=tuple(round(wait_s * 1000) for wait_s in role.retry_backoff_s),
            jitter_ms=round(role.retry_jitter_s * 1000),
        ),
        limits=Limits(steps=role.max_steps),
    )


def own_target(role: ExecutorRole | DevRole) -> Target:
    """The keys for apps that have none of their own; with an operator all have."""
    if isinstance(role, ExecutorRole) and role.managed:
        return Target()
    return Target(
        signing_key=reveal(role.signing_key), signing_key_fallback=reveal(role.signing_key_fallback)
    )


def make_executor(
    role: ExecutorRole | DevRole,
    address: Address,
    *,
    encryption_key: bytes,
    apps: EgressPolicy | Routes,
    requests: EgressPolicy | Routes,
    on_run: Callable[[RunLine], None] | None = None,
    tracer: Tracer | None = None,
    metrics: Metrics | None = None,
) -> Executor:
    """An executor, not yet started. `apps`: where apps may be; `requests`: where `step.fetch` and `step.ai` may go.

    `metrics`: where the process counts.
    """
    return Executor(
        address,
        store_settings(role),
        executor_settings(role),
        driver=HttpDriver(apps, SystemClock()),
        encryption_key=encryption_key,
        target=own_target(role),
        fetch_egress=requests,
        on_run=on_run,
        tracer=tracer,
        metrics=metrics,
    )


async def serve(role: ExecutorRole) -> None:
    """Run an executor until a signal ends it.

    Raises:
        StoreUnavailableError: no Redis or Valkey.
        RoleError: the address for probes is taken.
        StoppedEarlyError: told to end before it was ready.
    """
    stop = Stop()
    stop.listen()
    metrics = Metrics()
    telemetry = telemetry_of(
        role, "innkeeper-executor", os.environ, lambda count: metrics.spans_dropped.add(amount=count)
    )
    executor = make_executor(
        role,
        Address.parse(role.redis_url.get_secret_value()),
        encryption_key=role.encryption_key.get_secret_value(),
        apps=app_classes(role),
        requests=request_classes(role),
        tracer=telemetry.tracer,
        metrics=metrics,
    )

    showing = Showing(lambda: _checks(executor), executor.store, host=role.host, ports=role.shows_at)

    async def start() -> None:
        # Before the store: a pod that waits for Redis is alive, but not ready.
        await showing.start()
        settle()
        await executor.start()
        # From here on an outage is waited out.
        mode, why = await durability.describe(executor.store)
        _log.info(
            "executor takes work",
            id=executor.id,
            store=str(executor.store.address),
            durability=mode,
            why=why,
        )

    await stop.unless(start())
    try:
        await stop.wait_or_fail()
    finally:
        # `/ready` says 503 meanwhile.
        await executor.drain()
        await showing.stop()
        await telemetry.close()


def _checks(executor: Executor) -> Checks:
    if executor.ready:
        return {"executor": "ok"}
    if not executor.store.connected:
        why = executor.store.last_error or "not connected yet"
        return {"executor": "takes no work", "redis": f"{executor.store.address}: {why}"}
    return {"executor": "is being drained"}
