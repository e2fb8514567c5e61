"""Shards with executors on them. Houses are set up after proxies, so that they can end while those still carry."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from innkeeper_engine.store.connection import Address
from innkeeper_engine.store.store import Store
from tests.conftest import OpenStore
from tests.executor.house import House, VirtualClock
from tests.executor.proxy import Proxy

MakeProxy = Callable[[Address], Awaitable[Proxy]]
MakeHouse = Callable[[Store], House]


@pytest.fixture
async def make_house(make_proxy: MakeProxy) -> AsyncIterator[MakeHouse]:
    """`make_house(store)`: a shard on any store, ended after the test."""
    houses: list[House] = []

    def make(store: Store) -> House:
        houses.append(House(store))
        return houses[-1]

    yield make
    for house in houses:
        await house.close()


@pytest.fixture
async def house(store: Store, make_proxy: MakeProxy) -> AsyncIterator[House]:
    """A shard of the test's own, on the server's clock."""
    made = House(store)
    yield made
    await made.close()


@pytest.fixture
def clock() -> VirtualClock:
    """The clock of `still_house`."""
    return VirtualClock()


@pytest.fixture
async def still_house(
    open_store: OpenStore, clock: VirtualClock, make_proxy: MakeProxy
) -> AsyncIterator[House]:
    """A shard whose time stands still until the test moves it; for executors without loops."""
    made = House(await open_store(clock_ms=clock.now_ms), clock)
    yield made
    await made.close()


@pytest.fixture
async def make_proxy() -> AsyncIterator[MakeProxy]:
    """Starts proxies, closed after the test."""
    proxies: list[Proxy] = []

    async def make(target: Address) -> Proxy:
        proxies.append(Proxy(target))
        await proxies[-1].start()
        return proxies[-1]

    yield make
    for proxy in proxies:
        await proxy.close()


@pytest.fixture
async def proxy(make_proxy: MakeProxy, valkey: Address) -> Proxy:
    """A proxy before the session's Valkey."""
    return await make_proxy(valkey)
