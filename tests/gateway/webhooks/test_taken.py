"""When webhooks took requests last: what is written of it, how often, and what makes no difference to it."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import structlog

from innkeeper_engine.model.environments import key_digest
from innkeeper_engine.model.webhooks import Webhook
from innkeeper_engine.store.connection import StoreUnavailableError
from innkeeper_engine.store.store import Store
from innkeeper_engine.store.webhooks import WebhookStore
from innkeeper_gateway.server import GatewayServer
from innkeeper_gateway.settings import GatewaySettings
from innkeeper_gateway.webhooks.taken import WRITE_EVERY_S, TakenTimes
from tests.gateway.conftest import SIGNING_KEY
from tests.gateway.webhooks.conftest import limits
from tests.gateway.world import World

PATIENCE_S = 60


class Still:
    """A store, a clock and a sleep that the test moves: what is written when."""

    def __init__(self) -> None:
        self.now = 1_795_000_000_000
        self.began_ms = self.now
        self.written: list[tuple[int, dict[str, int]]] = []
        """After how many ms, and the age of each webhook's newest request."""
        self.fails: BaseException | None = None
        self.asleep = asyncio.Event()
        self._awake = asyncio.Event()

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return self.now

    async def note_taken(self, ages_ms: dict[tuple[str, str], int]) -> None:
        """What a `WebhookStore` does."""
        found = {f"{env}/{name}": age_ms for (env, name), age_ms in ages_ms.items()}
        self.written.append((self.now - self.began_ms, found))
        if self.fails is not None:
            raise self.fails

    async def sleep(self, seconds: float) -> None:
        """Until the test lets so much time pass."""
        wake_ms = self.now + round(seconds * 1000)
        while self.now < wake_ms:
            self._awake.clear()
            self.asleep.set()
            await self._awake.wait()

    async def settled(self) -> None:
        """Wait until what is noted was written, and the next write is waited for."""
        async with asyncio.timeout(PATIENCE_S):
            await self.asleep.wait()

    async def skip(self, seconds: float) -> None:
        """Let time pass for whoever sleeps."""
        await self.settled()
        self.now += round(seconds * 1000)
        self.asleep.clear()
        self._awake.set()
        await asyncio.sleep(0)


@pytest.fixture
def still() -> Still:
    return Still()


@pytest.fixture
async def times(still: Still) -> AsyncIterator[TakenTimes]:
    made = TakenTimes(still, still, timeout_s=PATIENCE_S, sleep=still.sleep)
    yield made
    await made.end()


def hook(name: str = "shop/hook") -> Webhook:
    return Webhook(name=name, env="prod", digest=key_digest(name), transform="")


async def test_the_first_is_written_at_once_and_the_others_together(still: Still, times: TakenTimes) -> None:
    """A thousand requests of three webhooks are two writes, and nothing is written where nothing comes."""
    times.note(hook(), still.now)
    await still.settled()
    assert still.written == [(0, {"prod/shop/hook": 0})]
    for n in range(1_000):
        times.note(hook(f"shop/{n % 3}"), still.now - n)
    await still.skip(WRITE_EVERY_S - 1)
    await still.settled()
    assert len(still.written) == 1
    await still.skip(1)
    await still.settled()
    (late,) = still.written[1:]
    assert late == (30_000, {f"prod/shop/{n}": 30_000 + n for n in range(3)}), "the newest of each"
    for _ in range(3):
        await still.skip(WRITE_EVERY_S)
        times.note(hook(), still.now)
    await still.settled()
    assert [at_ms for at_ms, _ in still.written] == [0, 30_000, 60_000, 90_000, 120_000]


async def test_while_no_requests_come_nobody_waits(still: Still, times: TakenTimes) -> None:
    times.note(hook(), still.now)
    await still.skip(WRITE_EVERY_S)
    async with asyncio.timeout(PATIENCE_S):
        for task in asyncio.all_tasks():
            if task.get_name() == "webhook times":
                await task
    still.now += 3_600_000
    times.note(hook(), still.now)
    await still.settled()
    assert [at_ms for at_ms, _ in still.written] == [0, 3_630_000]


@pytest.mark.parametrize("why", [StoreUnavailableError("away"), TimeoutError(), RuntimeError("a bug")])
async def test_what_the_store_does_not_take_is_written_later(
    still: Still, times: TakenTimes, why: Exception
) -> None:
    """With the age that it has by then, unless something newer has come."""
    still.fails = why
    times.note(hook("shop/one"), still.now)
    times.note(hook("shop/two"), still.now)
    with structlog.testing.capture_logs() as log:
        await still.settled()
    assert [entry["event"] for entry in log] == ["when webhooks took requests was not written"]
    still.fails = None
    times.note(hook("shop/two"), still.now + 20_000)
    await still.skip(WRITE_EVERY_S)
    await still.settled()
    assert still.written[1:] == [(30_000, {"prod/shop/one": 30_000, "prod/shop/two": 10_000})]


async def test_what_is_left_at_the_end_is_written_once_nobody_is_answered(
    still: Still, times: TakenTimes
) -> None:
    times.note(hook("shop/one"), still.now)
    await still.settled()
    times.note(hook("shop/two"), still.now)
    await times.end()
    times.note(hook("shop/three"), still.now)
    assert len(still.written) == 1
    await times.write_rest()
    await times.write_rest()
    assert still.written[1:] == [(0, {"prod/shop/two": 0, "prod/shop/three": 0})]


async def test_a_clock_that_is_set_back_makes_no_time_to_come(still: Still, times: TakenTimes) -> None:
    times.note(hook(), still.now + 5_000)
    await still.settled()
    assert still.written == [(0, {"prod/shop/hook": 0})]


# ---- over HTTP

TRANSFORM = """function transform(evt, headers, query, raw) {
  if (evt.fail) throw new Error('no')
  return evt.empty ? undefined : {name: 'a', data: evt}
}"""


@pytest.fixture
async def world(store: Store) -> AsyncIterator[World]:
    settings = GatewaySettings(signing_key=SIGNING_KEY, sandbox=limits(cpu_ms=1_000), store_timeout_s=60)
    made = World(store, settings)
    yield made
    await made.close()


@pytest.mark.parametrize(
    ("body", "status", "counts"),
    [
        (b"{}", 200, True),
        (b'{"empty": true}', 200, True),
        (b'{"fail": true}', 202, True),
        (b"{}", 403, False),
        (b"{", 400, False),
    ],
)
async def test_what_is_taken_counts_and_what_is_refused_does_not(
    world: World, body: bytes, status: int, counts: bool
) -> None:
    """Taken: stored, wanted by no event, or kept as a dead letter."""
    kept, cidrs = WebhookStore(world.store), ("192.0.2.0/24",) if status == 403 else ()
    for name in ("hook", "idle"):
        await kept.write(
            Webhook(
                name=f"shop/{name}",
                env="default",
                digest=key_digest(name),
                transform=TRANSFORM,
                cidrs=cidrs,
            )
        )
    reply = await world.http.post("/w/hook", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == status, reply.text
    await world.app.core.taken.end()
    await world.app.core.taken.write_rest()
    assert set(await kept.last_taken()) == ({("default", "shop/hook")} if counts else set())


async def test_a_server_that_stops_writes_what_it_noted(world: World) -> None:
    kept = WebhookStore(world.store)
    for name in ("one", "two"):
        await kept.write(
            Webhook(name=f"shop/{name}", env="default", digest=key_digest(name), transform=TRANSFORM)
        )
    server = GatewayServer(world.app, host="127.0.0.1", port=0)
    await server.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=PATIENCE_S) as http:
            for name in ("one", "two"):
                assert (await http.post(f"/w/{name}?x-inngest-env=side", content=b"{}")).status_code == 200
    finally:
        await server.stop()
    assert set(await kept.last_taken()) == {("default", "shop/one"), ("default", "shop/two")}
