"""How much a key may send, and a caller may ask: 429 with the time to wait, and nobody else notices."""

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from innkeeper_engine.model.environments import Policy, key_digest
from innkeeper_engine.model.webhooks import Webhook
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_engine.store.store import Store
from innkeeper_engine.store.webhooks import WebhookStore
from innkeeper_gateway.rates import EVENTS_BURST_S, MOST_BUCKETS, REQUESTS_BURST_S, Rates
from innkeeper_gateway.settings import GatewaySettings
from innkeeper_gateway.webhooks.route import FAILURES_PER_S
from tests.gateway.conftest import MakeWorld
from tests.gateway.tenants import Tenant, environment, event_key
from tests.gateway.world import World

SETTINGS = GatewaySettings(managed=True, events_per_s=10, requests_per_s=2)


class Time:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def time() -> Time:
    """What buckets are filled by."""
    return Time()


@pytest.fixture
async def world(make_world: MakeWorld, store: Store, time: Time) -> World:
    """A gateway at which prod may send ten events a second, and small one."""
    await EnvironmentStore(store).write(environment("prod"))
    await EnvironmentStore(store).write(environment("small", policy=Policy(events_per_s=1)))
    world = await make_world(SETTINGS)
    world.app.core.rates = Rates(REQUESTS_BURST_S, time)
    world.app.core.event_rates = Rates(EVENTS_BURST_S, time)
    return world


async def send(world: World, env: str, n: int) -> tuple[int, str | None]:
    """Send n events with the key of an environment; the status, and how long to wait."""
    reply = await world.http.post(f"/e/{event_key(env)}", json=[{"name": "a"}] * n)
    if reply.status_code == 429:
        assert reply.json()["ids"] == [""]
        assert "send the events again" in reply.json()["error"]
    return reply.status_code, reply.headers.get("retry-after")


async def test_a_key_that_sends_too_much_waits_and_others_do_not(world: World, time: Time) -> None:
    # What was not used, and then on credit: a large request passes as a whole.
    assert await send(world, "prod", 9) == (200, None)
    assert await send(world, "prod", 61) == (200, None)
    assert await send(world, "prod", 1) == (429, "7")
    assert await send(world, "small", 1) == (200, None)
    time.now_s += 7
    assert await send(world, "prod", 1) == (200, None)


async def test_an_environments_own_rate_goes_before_the_installations(world: World) -> None:
    assert await send(world, "small", 11) == (200, None)
    assert await send(world, "small", 1) == (429, "11")
    assert await send(world, "prod", 20) == (200, None)


async def test_what_is_refused_counts_as_one(world: World) -> None:
    for _ in range(10):
        assert (await world.http.post(f"/e/{event_key('prod')}", content=b"no json")).status_code == 400
    assert (await send(world, "prod", 1))[0] == 429


async def test_a_webhook_has_a_rate_too(world: World, store: Store) -> None:
    token = "t" * 40
    script = "function transform(evt) { return {name: 'a', data: evt} }"
    await WebhookStore(store).write(
        Webhook(name="w", env="small", digest=key_digest(token), transform=script)
    )
    world.app.core.event_rates.take(key_digest(token), 1, int(EVENTS_BURST_S))
    reply = await world.http.post(f"/w/{token}", json={})
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "1")
    assert await send(world, "small", 1) == (200, None)


async def test_a_webhook_whose_transform_fails_too_often_waits(
    world: World, store: Store, time: Time
) -> None:
    await EnvironmentStore(store).write(environment("many", policy=Policy(events_per_s=1_000)))
    token = "t" * 40
    script = "function transform(evt) { if (evt.bad) throw 1; return {name: 'a'} }"
    await WebhookStore(store).write(Webhook(name="w", env="many", digest=key_digest(token), transform=script))

    async def status(**data: bool) -> int:
        return (await world.http.post(f"/w/{token}", json=data)).status_code

    assert await status(bad=False) == 200
    with capture_logs() as logs:
        for _ in range(FAILURES_PER_S):
            assert await status(bad=True) == 202
    levels = Counter(log["log_level"] for log in logs if log["event"] == "a webhook's transform failed")
    assert levels == {"warning": 1, "debug": FAILURES_PER_S - 1}, "nobody's log is full of it"
    reply = await world.http.post(f"/w/{token}", json={})
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "1")
    assert await send(world, "many", 1) == (200, None), "keys do not wait for webhooks"
    time.now_s += 1
    assert await status(bad=False) == 200


async def test_a_caller_of_the_api_that_asks_too_often_waits_and_others_do_not(
    world: World, time: Time
) -> None:
    prod, small = Tenant(world, "prod"), Tenant(world, "small")
    answers = [(await prod.http.get("/v1/runs")).status_code for _ in range(21)]
    assert answers == [200] * 20 + [429]
    reply = await prod.http.get("/v1/runs")
    assert reply.headers["retry-after"] == "1"
    assert reply.json()["error"].startswith("signing key of prod may make 2 requests a second")
    assert (await small.http.get("/v1/runs")).status_code == 200
    assert (await prod.http.get("/v0/runs/01JB8AAAAAAAAAAAAAAAAAAAAA/batch")).status_code != 429, "of SDKs"
    time.now_s += 1
    assert (await prod.http.get("/v1/runs")).status_code == 200


async def test_in_dev_mode_nobody_waits(make_world: MakeWorld) -> None:
    world = await make_world(msgspec.structs.replace(SETTINGS, managed=False, dev=True))
    for _ in range(3):
        assert (await world.http.post("/e/key", json=[{"name": "a"}] * 200)).status_code == 200
    for _ in range(30):
        assert (await world.http.get("/v1/runs")).status_code == 200


@given(
    st.lists(st.tuples(st.floats(0, 20), st.integers(1, 500)), max_size=40),
    st.integers(1, 50),
    st.floats(1, 10),
)
def test_no_more_passes_than_the_rate_a_burst_and_one_request(
    asked: list[tuple[float, int]], per_s: int, burst_s: float
) -> None:
    time = Time()
    rates = Rates(burst_s, time)
    taken, last = 0, 0
    for pause_s, n in asked:
        time.now_s += pause_s
        if not rates.wait_s("a", per_s):
            rates.take("a", per_s, n)
            taken, last = taken + n, n
    elapsed_s = time.now_s - 1_000.0
    assert taken - last <= per_s * (burst_s + elapsed_s) + 1e-6


@given(st.integers(1, 100), st.integers(1, 5_000))
def test_who_waits_as_long_as_he_is_told_is_served(per_s: int, n: int) -> None:
    time = Time()
    rates = Rates(EVENTS_BURST_S, time)
    rates.take("a", per_s, int(per_s * EVENTS_BURST_S) + n)
    wait_s = rates.wait_s("a", per_s)
    assert wait_s > 0
    time.now_s += wait_s
    assert rates.wait_s("a", per_s) == 0


def test_only_so_many_are_remembered() -> None:
    rates = Rates(EVENTS_BURST_S, Time())
    rates.take(0, 1, 1_000)
    for n in range(1, MOST_BUCKETS + 1):
        rates.take(n, 1, 1)
    assert rates.wait_s(0, 1) == 0, "forgotten, and full again"


async def test_a_caller_who_names_branches_is_one_caller(world: World) -> None:
    prod = Tenant(world, "prod")
    try:
        for n in range(20):
            assert await prod.status("GET", "/v1/functions", headers={"x-inngest-env": f"branch-{n}"}) == 200
        assert await prod.status("GET", "/v1/functions", headers={"x-inngest-env": "another"}) == 429
        assert await prod.status("GET", "/v1/functions") == 429
    finally:
        await prod.close()


def test_a_request_that_has_taken_the_last_one_goes_on() -> None:
    rates = Rates(EVENTS_BURST_S, Time())
    assert rates.admit("a", 1, 1) == 0
    assert rates.wait_s("a", 1) == 1
    assert rates.wait_s("a", 1, taken=1) == 0
