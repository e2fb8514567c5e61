"""Gateways over a real store."""

import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import msgspec
import pytest

from innkeeper_apps.sync import Syncer
from innkeeper_engine.store.store import Store
from innkeeper_gateway.access.reviews import ApiServer, Reviews
from innkeeper_gateway.settings import GatewaySettings
from tests.gateway.world import World

MakeWorld = Callable[..., Awaitable[World]]

SIGNING_KEY = "signkey-prod-0123456789abcdef0123456789abcdef"
FALLBACK_KEY = "signkey-prod-ffffffffffffffffffffffffffffffff"
PRODUCTION = GatewaySettings(
    event_keys=("first-key", "second-key"), signing_key=SIGNING_KEY, signing_key_fallback=FALLBACK_KEY
)

NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def reviews_of(server: ApiServer, monotonic_s: Callable[[], float] = time.monotonic) -> Reviews:
    """Questions to an API server without TLS. By itself, each would read all authorities that Python trusts."""
    client = httpx.AsyncClient(
        base_url=server.url, verify=NO_AUTHORITIES, timeout=server.timeout_s, trust_env=False
    )
    return Reviews(server, client=client, monotonic_s=monotonic_s)


@pytest.fixture
async def make_world(store: Store) -> AsyncIterator[MakeWorld]:
    """`await make_world(settings, store=..., reviews=..., syncer=...)`: a gateway, ended after the test."""
    worlds: list[World] = []
    own = store

    async def make(
        settings: GatewaySettings | None = None,
        *,
        store: Store | None = None,
        reviews: Reviews | None = None,
        syncer: Syncer | None = None,
    ) -> World:
        worlds.append(World(store or own, settings or GatewaySettings(dev=True), reviews, syncer))
        return worlds[-1]

    try:
        yield make
    finally:
        for world in worlds:
            await world.close()


@pytest.fixture
async def world(make_world: MakeWorld) -> World:
    """A gateway in dev mode that does not wait long for anything."""
    return await make_world(
        msgspec.structs.replace(GatewaySettings(dev=True), routed_wait_s=0.3, folded_wait_s=0.3)
    )


@pytest.fixture
async def production(make_world: MakeWorld) -> World:
    """A gateway with keys, outside dev mode."""
    return await make_world(PRODUCTION)
