"""`innkeeper gateway`: what comes in over HTTP."""

import os

import structlog
from pydantic import SecretBytes, SecretStr

from innkeeper_apps.sandbox.pool import MIB, SandboxLimits
from innkeeper_apps.sync import Syncer
from innkeeper_apps.transport import Transport
from innkeeper_cli.collecting import settle
from innkeeper_cli.egress import app_classes
from innkeeper_cli.errors import RoleError
from innkeeper_cli.settings import DevRole, ExecutorRole, GatewayRole
from innkeeper_cli.showing import Showing
from innkeeper_cli.stopping import Stop
from innkeeper_cli.telemetry import telemetry_of
from innkeeper_cli.version import VERSION
from innkeeper_engine.model.clock import RandomIds, SystemClock
from innkeeper_engine.probes import Checks
from innkeeper_engine.registry import Registries
from innkeeper_engine.store import durability
from innkeeper_engine.store.connection import Address
from innkeeper_engine.store.store import Store, StoreSettings
from innkeeper_engine.tracing import Tracer
from innkeeper_gateway.access.reviews import ApiServer, Reviews
from innkeeper_gateway.app import GatewayApp, create_app
from innkeeper_gateway.registrars import DirectRegistrar, Registrar
from innkeeper_gateway.server import GatewayServer, GatewayStartError
from innkeeper_gateway.settings import GatewaySettings, Limits

_log = structlog.stdlib.get_logger(__name__)


def reveal(secret: SecretStr | None) -> str | None:
    """The text of a secret, for the one that needs it."""
    return None if secret is None else secret.get_secret_value()


def _reveal_bytes(secret: SecretBytes | None) -> bytes | None:
    return None if secret is None else secret.get_secret_value()


def sandbox_limits(role: DevRole | GatewayRole) -> SandboxLimits:
    """What the transforms of webhooks may use."""
    return SandboxLimits(workers=role.webhook_workers, memory_bytes=role.webhook_memory_mib * MIB)


def request_limits(role: DevRole | GatewayRole) -> Limits:
    """How much a request may bring."""
    return Limits(
        event_bytes=role.max_event_bytes, request_bytes=role.max_request_bytes, steps=role.max_steps
    )


def store_settings(role: ExecutorRole | DevRole | GatewayRole) -> StoreSettings:
    """The store's own settings from the role's."""
    return StoreSettings(
        events_keep_s=role.retention_events,
        runs_keep_s=role.retention_runs,
        letters_keep_s=role.retention_dead_letters,
        lease_ms=round(role.lease_s * 1000),
        compress_over_bytes=role.compress_over_bytes,
    )


def gateway_settings(role: GatewayRole) -> GatewaySettings:
    """The gateway's own settings from the role's."""
    return GatewaySettings(
        managed=role.managed,
        webhook_key=_reveal_bytes(role.webhook_key),
        sandbox=sandbox_limits(role),
        limits=request_limits(role),
        event_keys=tuple(key.get_secret_value() for key in role.event_key or ()),
        signing_key=reveal(role.signing_key),
        # Where an operator keeps the keys, none of these is read: the role itself leaves out only those it requires.
        signing_key_fallback=None if role.managed else reveal(role.signing_key_fallback),
        admin_token=reveal(role.admin_token),
        trusted_proxies=role.trusted_proxies,
        events_per_s=role.events_per_s,
        requests_per_s=role.requests_per_s,
        refusals_per_s=role.refusals_per_s,
        webhooks_url=role.webhooks_url,
        webhook_intents=role.webhook_intents,
        webhook_redirects=role.webhook_redirects,
        auto_register=role.auto_register or ("Existing" if role.managed else "Always"),
        version=VERSION,
    )


def make_app(
    settings: GatewaySettings,
    store: Store,
    registrar: Registrar | None = None,
    reviews: Reviews | None = None,
    syncer: Syncer | None = None,
    tracer: Tracer | None = None,
) -> GatewayApp:
    """The gateway's app on a store that is, or will be, open; `registrar` and what follows as for `create_app`."""
    return create_app(
        settings,
        store,
        Registries(store),
        SystemClock(),
        RandomIds(),
        registrar=registrar,
        reviews=reviews,
        syncer=syncer,
        tracer=tracer,
    )


def reviews_of(role: GatewayRole) -> Reviews | None:
    """Whom to ask about people with Kubernetes tokens; None where the role is not told to.

    Raises:
        RoleError: it is told to, and this is no pod of a cluster, or one without a token.
    """
    if not role.token_review:
        return None
    try:
        server = ApiServer.of_the_pod(dict(os.environ))
        server.token_file.read_text("ascii")
        return Reviews(server)
    except (ValueError, OSError) as error:
        raise RoleError(
            f"INNKEEPER_TOKEN_REVIEW is set, but the API server cannot be asked: {error}; run the gateway in a pod "
            "with a token of its ServiceAccount, or set INNKEEPER_TOKEN_REVIEW=0"
        ) from error


async def listen(server: GatewayServer) -> None:
    """Start the server.

    Raises:
        RoleError: the address is taken, or not this machine's.
    """
    try:
        await server.start()
    except GatewayStartError as error:
        raise RoleError(f"{error}; choose another with --port or --host") from error


async def until_it_ends(server: GatewayServer) -> None:
    """Wait for an end that nobody asked for.

    Raises:
        RoleError: it came.
    """
    await server.wait()
    raise RoleError("the gateway has stopped by itself; the log above says why")


async def serve(role: GatewayRole) -> None:
    """Run the gateway until a signal ends it.

    Raises:
        StoreUnavailableError: no Redis or Valkey.
        RoleError: it cannot listen.
        StoppedEarlyError: told to end before it was ready.
    """
    stop = Stop()
    stop.listen()
    address = Address.parse(role.redis_url.get_secret_value())
    store = Store(address, store_settings(role), name="innkeeper-gateway")
    egress = app_classes(role)
    transport = Transport(egress)
    telemetry = telemetry_of(
        role, "innkeeper-gateway", os.environ, lambda count: store.metrics.spans_dropped.add(amount=count)
    )
    app = make_app(
        gateway_settings(role),
        store,
        # Where nobody declares apps, they are told at once that they are where no executor would call them.
        None if role.managed else DirectRegistrar(store, egress),
        reviews_of(role),
        syncer=Syncer(transport, SystemClock(), server_kind="cloud"),
        tracer=telemetry.tracer,
    )
    server = GatewayServer(app, host=role.host, port=role.port)
    showing = Showing(lambda: _checks(app, store), store, host=role.host, ports=role.shows_at)

    async def start() -> None:
        await showing.start()
        await store.open()
        mode, why = await durability.describe(store)
        _log.info("store opened", at=str(store.address), durability=mode, why=why)
        settle()
        await listen(server)

    try:
        await stop.unless(start())
        await stop.wait_or_fail(until_it_ends(server))
    finally:
        await server.stop(grace_s=role.grace_s)
        await showing.stop()
        await transport.close()
        await store.close()
        await telemetry.close()


def _checks(app: GatewayApp, store: Store) -> Checks:
    """What the port of metrics says of `/ready`; probes ask the gateway's own, which looks closer."""
    return {
        "draining": "the server is about to stop" if app.core.draining else "ok",
        "redis": "ok" if store.connected else f"{store.address}: {store.last_error or 'not connected yet'}",
    }
