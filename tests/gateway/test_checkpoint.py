"""Checkpoints, and the state that an SDK fetches itself."""

from typing import Any

import httpx
import pytest

from innkeeper_apps.wire.request import encode_item_id
from innkeeper_engine.model.effects import Save
from innkeeper_engine.model.guards import KeepGuard, LeaseGuard, NoGuard
from innkeeper_engine.model.state import Lease
from innkeeper_gateway.settings import GatewaySettings, Limits
from tests.gateway.conftest import MakeWorld
from tests.gateway.world import World, function

UNKNOWN = "01HZZZZZZZZZZZZZZZZZZZZZZZ"


def step(n: int, data: object = None, op: str = "StepRun") -> dict[str, Any]:
    """A step as the TypeScript SDK reports it, with some of its junk."""
    return {
        "id": f"{n:040x}",
        "op": op,
        "name": f"s{n}",
        "displayName": f"S{n}",
        "userland": {"id": f"s{n}"},
        "opts": {},
        "data": data,
        "mode": "sync",
        "promise": {},
        "timing": {"a": 1795343330239000000, "b": 0},
    }


def body_of(lease: Lease, *steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "run_id": lease.run,
        "fn_id": "a4dd85f5-e0fc-5e04-bba3-9d5a6f15dc0e",
        "qi_id": encode_item_id(lease.item),
        "request_id": lease.token,
        "generation_id": lease.generation,
        "request_started_at": 1795343330232,
        "ts": 1795343330240,
        "steps": list(steps),
        **fields,
    }


async def send(world: World, lease: Lease, *steps: dict[str, Any], **fields: Any) -> httpx.Response:
    return await world.http.post(f"/v1/checkpoint/{lease.run}/async", json=body_of(lease, *steps, **fields))


@pytest.fixture
async def lease(world: World) -> Lease:
    """The first request of a run, under way."""
    await world.register(function("app-fn"))
    await world.start()
    return await world.lease()


async def test_steps_are_stored_and_nothing_else_is_queued(world: World, lease: Lease) -> None:
    reply = await send(world, lease, step(1, {"v": 1}), step(2), step(3, {"data": 3}, "Step"))
    assert (reply.status_code, reply.content) == (200, b"")
    ids = [f"{n:040x}" for n in (1, 2, 3)]
    assert await world.store.run_payload(lease.run, *ids) == [
        b'{"data":{"v":1}}',
        b'{"data":null}',
        b'{"data":3}',
    ]
    assert (await world.store.apply(NoGuard(), [], executor="x", tokens=["t"])).leases == []


async def test_attempts_start_anew_and_the_lease_is_extended(world: World, lease: Lease) -> None:
    item, timers = world.store.key(f"i:{lease.item}"), world.store.key("timers")
    await world.store.command("HSET", item, "a", 3)
    before = float(await world.store.command("ZSCORE", timers, f"L{lease.item}"))
    await world.store.command("ZADD", timers, before - 20_000, f"L{lease.item}")
    assert (await send(world, lease, step(1))).status_code == 200
    assert await world.store.command("HMGET", item, "a", "v") == [b"0", b"1"]
    assert float(await world.store.command("ZSCORE", timers, f"L{lease.item}")) >= before


async def test_the_first_result_of_a_step_stays(world: World, lease: Lease) -> None:
    for data in (1, 2):
        assert (await send(world, lease, step(1, data))).status_code == 200
    assert await world.store.run_payload(lease.run, f"{1:040x}") == [b'{"data":1}']


async def test_steps_show_up_in_the_run(world: World, lease: Lease) -> None:
    await send(world, lease, step(1, "x"), step(2, op="StepPlanned"))
    await world.record()
    run = (await world.http.get(f"/v1/runs/{lease.run}")).json()["data"]
    shown = [(s["name"], s["status"], s.get("output")) for s in run["steps"]]
    assert shown == [("S1", "Completed", "x"), ("S2", "Waiting", None)]


async def test_more_steps_than_one_script_takes(world: World, lease: Lease) -> None:
    assert (await send(world, lease, *(step(n, n) for n in range(300)))).status_code == 200
    state = await world.store.run_state(lease.run)
    assert [state[f"{n:040x}"] for n in range(300)] == [b'{"data":%d}' % n for n in range(300)]


async def test_a_run_that_is_not_known_is_a_400(world: World, lease: Lease) -> None:
    gone = body_of(lease, run_id=UNKNOWN, qi_id=encode_item_id(f"{UNKNOWN}.0"))
    reply = await world.http.post(f"/v1/checkpoint/{UNKNOWN}/async", json=gone)
    assert reply.status_code == 400
    assert reply.json() == {
        "error": "run not found in state store",
        "data": {"run_id": UNKNOWN},
        "status": 400,
    }


@pytest.mark.parametrize("fields", [{"request_id": "01M81CTAX26XTFACW56WN4MRFD"}, {"generation_id": 2}])
async def test_a_request_that_was_sent_again_is_a_409(
    world: World, lease: Lease, fields: dict[str, Any]
) -> None:
    reply = await send(world, lease, step(1), **fields)
    assert reply.status_code == 409
    assert reply.json()["data"] == {"run_id": lease.run}
    assert await world.store.run_payload(lease.run, f"{1:040x}") == [None]


async def test_a_cancelled_run_is_a_409(world: World, lease: Lease) -> None:
    assert (await world.http.delete(f"/v1/runs/{lease.run}")).status_code == 200
    reply = await send(world, lease, step(1))
    assert (reply.status_code, reply.json()["error"]) == (409, "the run has ended")


async def test_what_cannot_be_checkpointed_is_a_400(world: World, lease: Lease) -> None:
    other = lease.run[:-1] + ("0" if lease.run[-1] != "0" else "1")
    for fields, expected in (
        ({"steps": [step(1, op="Sleep")]}, "operation Sleep"),
        ({"steps": 1}, "`steps`"),
        ({"qi_id": "nonsense"}, "qi_id"),
        ({"qi_id": encode_item_id(f"{other}.0")}, "another run"),
        ({"run_id": other}, "run_id"),
        ({"generation_id": None}, "generation_id"),
    ):
        reply = await send(world, lease, **fields)
        assert reply.status_code == 400, fields
        assert expected in reply.json()["error"]
    reply = await world.http.post(f"/v1/checkpoint/{lease.run}/async", content=b"{bad")
    assert reply.status_code == 400


async def test_a_result_over_four_mib_is_a_413(world: World, lease: Lease) -> None:
    assert (await send(world, lease, step(1, "x" * 4_194_300))).status_code == 200
    reply = await send(world, lease, step(2, "x" * 4_194_304))
    assert reply.status_code == 413
    assert "4194304" in reply.json()["error"]


async def test_a_checkpoint_that_overfills_the_run_is_a_413(make_world: MakeWorld) -> None:
    world = await make_world(GatewaySettings(dev=True, limits=Limits(state_bytes=1_000_000)))
    await world.register(function("app-fn"))
    await world.start()
    lease = await world.lease()
    assert (await send(world, lease, step(1, "x" * 600_000))).status_code == 200
    reply = await send(world, lease, step(2, "x" * 600_000))
    assert reply.status_code == 413
    assert "at most 1000000 are allowed" in reply.json()["error"]


async def test_small_checkpoints_overfill_the_run_as_well(make_world: MakeWorld) -> None:
    """SDKs send one for every step: what counts is what the run would have, not what one of them brings."""
    world = await make_world(GatewaySettings(dev=True, limits=Limits(steps=3, state_bytes=3_000)))
    await world.register(function("app-fn"))
    await world.start()
    lease = await world.lease()
    for n in range(3):
        assert (await send(world, lease, step(n))).status_code == 200
    again = await send(world, lease, step(2), step(1))
    assert again.status_code == 200, "results that are there already take no room"
    reply = await send(world, lease, step(4))
    assert reply.status_code == 413
    assert "would have 4 steps: at most 3 are allowed" in reply.json()["error"]

    await world.start()
    lease = await world.lease()
    assert (await send(world, lease, step(1, "x" * 1_500))).status_code == 200
    reply = await send(world, lease, step(2, "x" * 1_500))
    assert reply.status_code == 413
    assert "bytes: at most 3000 are allowed" in reply.json()["error"]
    assert (await world.store.run_payload(lease.run, step(2)["id"])) == [None]


async def test_what_was_checkpointed_counts_when_the_request_ends(world: World, lease: Lease) -> None:
    """Or each request of a run could bring as many steps as a run may have in all."""
    for n in range(3):
        assert (await send(world, lease, step(n, "x" * 100))).status_code == 200
    guard = LeaseGuard(lease.item, lease.token, lease.seen)
    applied = await world.store.apply(guard, [])
    assert (applied.status, applied.seen, applied.step_count) == ("stale", 3, 3)
    assert applied.state_bytes > lease.state_bytes + 300


@pytest.mark.parametrize("step_id", ["o", "x", "e:1", 'a"b', "a b", "a" * 129])
async def test_a_step_cannot_be_called_like_what_is_kept_beside_it(
    world: World, lease: Lease, step_id: str
) -> None:
    reply = await send(world, lease, {**step(1), "id": step_id})
    assert reply.status_code == 400
    assert "is no id of a step" in reply.json()["error"]


async def test_an_sdk_fetches_events_and_results(world: World) -> None:
    await world.register(function("app-fn"))
    event_id = await world.send(data={"n": 1}, ts=1_700_000_000_000)
    (run_id,) = await world.route()
    lease = await world.lease()
    event = {"data": {"n": 1}, "id": event_id, "name": "test/go", "ts": 1_700_000_000_000, "user": {}}
    assert (await world.http.get(f"/v0/runs/{run_id}/batch")).json() == [event]
    assert (await world.http.get(f"/v0/runs/{run_id}/actions")).json() == {}
    saves = [Save(run_id, f"{n:040x}", b'{"data":%d}' % n, False) for n in (1, 2)]
    await world.store.apply(KeepGuard(lease.item, lease.token), saves)
    reply = await world.http.get(f"/v0/runs/{run_id}/actions")
    assert reply.json() == {f"{n:040x}": {"data": n} for n in (1, 2)}


async def test_state_of_a_run_that_ended_is_a_410(world: World, lease: Lease) -> None:
    await world.finish(lease)
    for what in ("actions", "batch"):
        reply = await world.http.get(f"/v0/runs/{lease.run}/{what}")
        assert reply.json() == {
            "error": f"runtime state is no longer available for runID: {lease.run}",
            "data": None,
            "status": 410,
        }
        assert reply.status_code == 410
        assert (await world.http.get(f"/v0/runs/foo/{what}")).json() == {
            "error": "The run ID specified is invalid",
            "data": None,
            "status": 400,
        }
        assert (await world.http.get(f"/v0/runs/{UNKNOWN}/{what}")).status_code == 404
