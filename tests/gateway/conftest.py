"""Gateways over a real store."""

from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest

from innkeeper_apps.sync import Syncer
from innkeeper_engine.store.store import Store
from innkeeper_gateway.access.reviews import Reviews
from innkeeper_gateway.settings import GatewaySettings
from tests.gateway.world import World

MakeWorld = Callable[..., Awaitable[World]]

SIGNING_KEY = "signkey-prod-0123456789abcdef0123456789abcdef"
FALLBACK_KEY = "signkey-prod-ffffffffffffffffffffffffffffffff"
PRODUCTION = GatewaySettings(
    event_keys=("first-key", "second-key"), signing_key=SIGNING_KEY, signing_key_fallback=FALLBACK_KEY
)


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
