"""Asks an app to register: in band where keys are shared, else by making it call back."""

import sys

import click

from innkeeper_apps.sync import Syncer, SyncError
from innkeeper_apps.transport import Transport
from innkeeper_apps.wire.register import RegistrationError
from innkeeper_cli.discovery import Outcome
from innkeeper_cli.egress import app_classes
from innkeeper_cli.gateway_role import reveal
from innkeeper_cli.settings import SyncRole
from innkeeper_engine.model.clock import SystemClock
from innkeeper_engine.registering import FunctionTakenError
from innkeeper_engine.store.connection import Address, StoreError, StoreUnavailableError
from innkeeper_engine.store.store import Store
from innkeeper_gateway.registrars import DirectRegistrar, Registrar
from innkeeper_gateway.settings import GatewaySettings
from innkeeper_gateway.syncing import DirectSync


class AppSync:
    """Registers the app at a URL; never raises for what the app did."""

    def __init__(self, registrar: Registrar, syncer: Syncer, keys: list[str]) -> None:
        self._direct = DirectSync(syncer, registrar, SystemClock(), keys)

    async def __call__(self, url: str) -> Outcome:
        """Ask one app. What it answers in band is checked and registered here; otherwise the gateway did so."""
        try:
            modified = await self._direct.sync(GatewaySettings().env, url)
        except SyncError as error:
            return Outcome(ok=False, reason=str(error), reachable=error.code != "unreachable")
        except (RegistrationError, FunctionTakenError, StoreError, StoreUnavailableError) as error:
            return Outcome(ok=False, reason=f"{url}: {error}")
        return Outcome(ok=True, modified=modified)


async def sync_all(role: SyncRole, urls: tuple[str, ...]) -> None:
    """Ask each app once and print what came of it; ends the process with 1 if one did not register.

    Raises:
        StoreUnavailableError: no Redis or Valkey.
    """
    store = Store(Address.parse(role.redis_url.get_secret_value()), name="innkeeper-sync")
    egress = app_classes(role)
    transport = Transport(egress)
    keys = [key for key in (reveal(role.signing_key), reveal(role.signing_key_fallback)) if key]
    failed = False
    try:
        await store.open()
        registrar = DirectRegistrar(store, egress, named=urls)
        sync = AppSync(registrar, Syncer(transport, SystemClock(), server_kind="cloud"), keys)
        for url in urls:
            outcome = await sync(url)
            failed |= not outcome.ok
            if outcome.ok:
                click.echo(f"{url}: {'registered' if outcome.modified else 'nothing has changed'}")
            else:
                click.echo(f"innkeeper sync: {outcome.reason}", err=True)
    finally:
        await transport.close()
        await store.close()
    if failed:
        sys.exit(1)
