"""Whoever is refused again and again waits for it; nobody else does."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable

import httpx
import msgspec
import pytest

from innkeeper_engine.model.environments import Policy
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_engine.store.store import Store
from innkeeper_gateway import patience
from innkeeper_gateway.patience import Patience
from innkeeper_gateway.rates import EVENTS_BURST_S, REQUESTS_BURST_S, Rates
from innkeeper_gateway.settings import GatewaySettings
from tests.gateway.conftest import MakeWorld
from tests.gateway.tenants import environment, event_key
from tests.gateway.world import World

SETTINGS = GatewaySettings(managed=True, events_per_s=1_000)
AT_ONCE = int(SETTINGS.refusals_per_s * REQUESTS_BURST_S)


class Time:
    """A clock that stands still."""

    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def rates() -> Rates:
    """Buckets that are not filled."""
    return Rates(REQUESTS_BURST_S, Time())


@pytest.fixture
async def world(make_world: MakeWorld, store: Store) -> World:
    """A managed gateway with the environments prod and small, which may send one event a second."""
    await EnvironmentStore(store).write(environment("prod"))
    await EnvironmentStore(store).write(environment("small", policy=Policy(events_per_s=1)))
    world = await make_world(SETTINGS)
    world.app.core.rates = Rates(REQUESTS_BURST_S, Time())
    world.app.core.event_rates = Rates(EVENTS_BURST_S, Time())
    world.app.core.patience = Patience(world.app.core.rates, SETTINGS.refusals_per_s)
    return world


async def is_held(held: Patience, answer: Callable[[], Awaitable[httpx.Response]], status: int) -> bool:
    """Whether an answer of this status is held back; let go where it is."""
    before = held.held
    task = asyncio.ensure_future(answer())
    while not task.done() and held.held == before:
        await asyncio.sleep(0.001)
    was_held = not task.done()
    held.end()
    assert (await task).status_code == status
    held._ended.clear()
    return was_held


async def use_up(held: Patience, who: object) -> None:
    """Get all refusals that come at once."""
    for _ in range(AT_ONCE):
        assert await held.hold(who)


async def test_the_first_refusals_come_at_once_and_then_they_are_held_back(rates: Rates) -> None:
    held = Patience(rates, 10)
    await use_up(held, "a")
    waiting = asyncio.create_task(held.hold("a"))
    await asyncio.sleep(0)
    assert (held.held, waiting.done()) == (1, False)
    await use_up(held, "b")
    held.end()
    assert await waiting
    assert held.held == 0
    assert await held.hold("a"), "a server that stops holds nothing back"


async def test_a_refusal_is_not_held_back_for_ever(rates: Rates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "LONGEST_S", 0.01)
    held = Patience(rates, 10)
    rates.take(("refused", "a"), 10, 1_000_000)
    assert await held.hold("a")


async def test_nobody_owes_more_than_one_long_wait(rates: Rates) -> None:
    held = Patience(rates, 10)
    waiting = [asyncio.create_task(held.hold("a")) for _ in range(AT_ONCE + 500)]
    await asyncio.sleep(0)
    assert rates.wait_s(("refused", "a"), 10) <= patience.LONGEST_S + 0.1
    held.end()
    assert all(await asyncio.gather(*waiting))


async def test_too_many_that_wait_are_told_at_once_and_their_connections_end(
    rates: Rates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "MOST_HELD_EACH", 2)
    monkeypatch.setattr(patience, "MOST_HELD", 3)
    held = Patience(rates, 10)
    waiting = []
    for who in ("a", "b"):
        await use_up(held, who)
    for who in ("a", "a", "b"):
        waiting.append(asyncio.create_task(held.hold(who)))
        await asyncio.sleep(0)
    assert [await held.hold("a"), await held.hold("b")] == [False, False]
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert held.held == 0, "who goes away waits no more"


async def test_without_a_rate_nothing_is_held_back(rates: Rates) -> None:
    held = Patience(rates, 0)
    assert all([await held.hold("a") for _ in range(1_000)])
    assert msgspec.structs.replace(SETTINGS, dev=True).refusals_rate == 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/e/wrong", 401),
        ("POST", "/w/wrong", 404),
        ("GET", "/v1/runs", 401),
        ("POST", "/fn/register", 401),
    ],
)
async def test_whoever_guesses_keys_waits_by_his_address(
    world: World, method: str, path: str, status: int
) -> None:
    held = world.app.core.patience

    def answer() -> Awaitable[httpx.Response]:
        return world.http.request(method, path, headers={"authorization": "Bearer guess"})

    assert not await is_held(held, answer, status)
    await use_up(held, world.app.core.sender({"client": ("127.0.0.1", 1), "headers": []}))
    assert await is_held(held, answer, status)
    good = await world.http.post(f"/e/{event_key('prod')}", json={"name": "a"})
    assert good.status_code == 200, "what is served is never held back"


async def test_whoever_keeps_sending_beyond_its_rate_waits_and_other_keys_do_not(world: World) -> None:
    held, small = world.app.core.patience, event_key("small")
    assert (await world.http.post(f"/e/{small}", json=[{"name": "a"}] * 20)).status_code == 200
    digest = environment("small").event_keys[0].digest
    await use_up(held, digest)
    assert await is_held(held, lambda: world.http.post(f"/e/{small}", json={"name": "a"}), 429)
    bad = lambda: world.http.post(f"/e/{event_key('prod')}", content=b"no json")  # noqa: E731
    assert not await is_held(held, bad, 400)


async def test_a_connection_ends_where_too_many_answers_are_held_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "MOST_HELD", 0)
    await use_up(world.app.core.patience, world.app.core.sender({"client": ("127.0.0.1", 1), "headers": []}))
    for method, path in (("POST", "/e/wrong"), ("POST", "/w/wrong"), ("GET", "/v1/runs")):
        reply = await world.http.request(method, path)
        assert reply.headers["connection"].lower() == "close"


async def test_what_is_refused_costs_the_more_the_larger_it_was(world: World) -> None:
    """A bomb of 10 MiB costs as much as 320 events, as does so much that is no event."""
    rates, key = world.app.core.event_rates, environment("prod").event_keys[0].digest

    def left() -> float:
        return rates._filled(key, SETTINGS.events_per_s).tokens

    path = f"/e/{event_key('prod')}"
    before = left()
    bomb = gzip.compress(b" " * (10 * 2**20 + 1))
    reply = await world.http.post(path, content=bomb, headers={"content-encoding": "gzip"})
    assert (reply.status_code, before - left()) == (413, 321)
    before = left()
    reply = await world.http.post(path, content=b"[" * 2**20)
    assert (reply.status_code, before - left()) == (400, 33)


async def test_a_key_has_one_body_unpacked_at_a_time_and_none_that_it_may_not_send(world: World) -> None:
    path = f"/e/{event_key('small')}"
    bomb = gzip.compress(b" " * (10 * 2**20 + 1))

    async def send() -> int:
        return (await world.http.post(path, content=bomb, headers={"content-encoding": "gzip"})).status_code

    assert sorted(await asyncio.gather(*(send() for _ in range(8)))) == [413, *[429] * 7]
