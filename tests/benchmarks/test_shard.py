"""The benchmarks that work on the store alone do what they measure: each run is queued, leased and ended once."""

from types import SimpleNamespace

import pytest

from benchmarks.figures import Cpu
from benchmarks.processes import BenchmarkError, NotApplicable
from benchmarks.shard import EVENT_BYTES, FN, Cost, Shard, event_body, finish, shard, sleep
from innkeeper_engine.store.connection import Address
from innkeeper_engine.store.store import Store
from tests.conftest import OpenStore


class FakeSession:
    """A session whose CPU time stands still."""

    def __init__(self, url: str | None) -> None:
        self.server = SimpleNamespace(store=SimpleNamespace(url=url))

    async def cpu(self) -> Cpu:
        """None is used."""
        return Cpu(0.0, 0.0, 0.0, 0.0)


@pytest.fixture
async def opened(open_store: OpenStore) -> tuple[Shard, Store]:
    """A shard, and its store."""
    store = await open_store()
    return Shard(store, FakeSession(None)), store  # type: ignore[arg-type]


async def test_runs_are_queued_leased_and_ended_once(opened: tuple[Shard, Store]) -> None:
    work, store = opened
    await work.cap("c:k", 1)
    await work.fill(150, lambda number: f"c:k|{number}")
    cost = await work.work(100, in_flight=4)
    assert cost.operations == 100
    counts = (await store.function_counts("bench", ["app-fn"]))["app-fn"]
    assert (counts.queued, counts.running, counts.completed24h) == (50, 0, 100)
    leases, _ = await work.lease(50, in_flight=4)
    await work.commit(leases[:20], 4, finish)
    await work.commit(leases[20:], 4, sleep)
    counts = (await store.function_counts("bench", ["app-fn"]))["app-fn"]
    assert (counts.queued, counts.running, counts.completed24h) == (0, 30, 120)
    assert await store.command("SCARD", store.key(f"s:c|{FN}")) == 0
    assert await store.command("EXISTS", store.key("es:bench")) == 0


async def test_what_cannot_be_leased_is_an_error(opened: tuple[Shard, Store]) -> None:
    """A benchmark that measured less than it says would be worse than none."""
    work, _ = opened
    await work.fill(3)
    with pytest.raises(BenchmarkError, match="2 of 5"):
        await work.work(5, in_flight=2)
    with pytest.raises(BenchmarkError, match="there should be 1"):
        await work.lease(1, in_flight=1)


async def test_a_store_that_cannot_be_reached_is_not_measured() -> None:
    with pytest.raises(NotApplicable):
        async with shard(FakeSession(None), "x"):  # type: ignore[arg-type]
            pass


async def test_a_shard_is_in_the_store_of_the_server(valkey: Address) -> None:
    """With the options that the address of a socket may carry."""
    async with shard(FakeSession(f"unix://{valkey.path}?db=0"), "test") as work:  # type: ignore[arg-type]
        before = await work.memory_bytes()
        await work.fill(200)
        assert await work.memory_bytes() > before
        leases, _ = await work.lease(200, 8)
        await work.commit(leases, 8, finish)


def test_an_event_has_the_size_that_is_said() -> None:
    assert {len(event_body(number)) for number in (0, 7, 123_456)} == {EVENT_BYTES}


def test_a_cost_is_shown_by_operation() -> None:
    cost = Cost(operations=200, seconds=4.0, store_s=0.1)
    assert cost.per_second == 50.0
    assert cost.store_us == pytest.approx(500.0)
