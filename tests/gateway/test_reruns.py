"""A run once more: of what was skipped, failed or completed."""

from typing import Any

import msgspec
import pytest

from innkeeper_engine.model.functions import App
from innkeeper_engine.registering import register_app
from innkeeper_gateway.settings import GatewaySettings
from tests.gateway.conftest import MakeWorld
from tests.gateway.world import World, function


async def post(world: World, path: str) -> tuple[int, Any]:
    """What a request without a body is answered with."""
    reply = await world.http.post(path)
    return reply.status_code, reply.json()


async def again(world: World, run_id: str) -> str:
    """The run that a rerun makes."""
    status, answer = await post(world, f"/v1/runs/{run_id}/rerun")
    assert status == 200, answer
    return str(answer["data"]["run_id"])


async def shown(world: World, run_id: str) -> dict[str, Any]:
    """A run, with its history folded."""
    await world.record()
    answer = await world.http.get(f"/v1/runs/{run_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["data"]
    return found


async def change(world: World, **fields: Any) -> None:
    """Change the one function that is registered."""
    registry = await world.registries.current("default")
    app: App = registry.apps["app"]
    config = msgspec.structs.replace(app.functions[0], **fields)
    await register_app(
        world.store,
        "default",
        msgspec.structs.replace(app, functions=(config,), checksum=repr(fields)),
        now_ms=world.clock.now_ms(),
    )


async def test_a_run_that_completed_runs_again_with_its_events(world: World) -> None:
    """A run of its own, listed under the same event, that says whose it is."""
    await world.register(function("app-fn"))
    first = await world.start(data={"n": 1})
    await world.finish(await world.lease(), b"1")
    second = await again(world, first)
    lease = await world.lease()
    assert (lease.run, lease.payload and b'"n":1' in lease.payload["e:0"]) == (second, True)
    await world.finish(lease, b"2")
    view = await shown(world, second)
    assert (view["status"], view["output"]) == ("Completed", 2)
    assert view["notes"][0] | {"at": None} == {"at": None, "type": "rerun", "of": first}
    event_runs = await world.http.get(f"/v1/events/{view['event_id']}/runs")
    assert [run["run_id"] for run in event_runs.json()["data"]] == [first, second]


async def test_what_was_skipped_runs_with_the_event_as_it_is_kept(world: World) -> None:
    """It had no payload of its own."""
    await world.register(function("app-fn", rateLimit={"limit": 1, "period": "1h"}))
    await world.decided(data={"n": 1})
    await world.finish(await world.lease())
    skipped = await world.decided(data={"n": 2})
    assert (await shown(world, skipped))["status"] == "Skipped"
    second = await again(world, skipped)
    assert (await shown(world, second))["status"] == "Scheduled"
    lease = await world.lease()
    assert (lease.run, lease.payload and b'"n":2' in lease.payload["e:0"]) == (second, True)


async def test_a_singleton_holds_for_reruns_too(world: World) -> None:
    """The rerun is recorded as skipped, with the reason."""
    await world.register(function("app-fn", singleton={"mode": "skip"}))
    first = await world.decided()
    second = await again(world, first)
    view = await shown(world, second)
    assert view["status"] == "Skipped"
    assert {note.get("why") for note in view["notes"]} == {"singleton", None}


async def test_a_rerun_takes_no_events_of_its_own(world: World) -> None:
    """What is sent with it would have no effect, so it is refused."""
    await world.register(function("app-fn"))
    run = await world.start()
    for body in (b'{"data":{}}', b"{", b"[]"):
        reply = await world.http.post(f"/v1/runs/{run}/rerun", content=body)
        assert reply.status_code == 400, reply.text
    reply = await world.http.post(f"/v1/runs/{run}/rerun", content=b"{}")
    assert (reply.status_code, reply.json()["data"]["status"]) == (200, "Scheduled")


async def test_what_starts_nothing_starts_no_rerun(world: World) -> None:
    """Paused, or gone: the answer says what would be right."""
    await world.register(function("app-fn"))
    run = await world.start()
    await change(world, paused=True)
    status, answer = await post(world, f"/v1/runs/{run}/rerun")
    assert (status, "resume it first" in answer["error"]) == (409, True)
    await change(world, slug="app-other")
    status, answer = await post(world, f"/v1/runs/{run}/rerun")
    assert (status, "not registered" in answer["error"]) == (404, True)


async def test_a_run_whose_events_are_gone_cannot_run_again(world: World) -> None:
    """Neither what it was started with is kept, nor the event."""
    await world.register(function("app-fn"))
    run = await world.start()
    (event_id,) = (await world.store.run(run) or pytest.fail("no run")).event_ids
    await world.store.command("DEL", world.store.key(f"pl:{run}"), world.store.key(f"ev:default:{event_id}"))
    status, answer = await post(world, f"/v1/runs/{run}/rerun")
    assert (status, "send the event again" in answer["error"]) == (410, True)


async def test_an_unknown_run_is_a_404(make_world: MakeWorld) -> None:
    """As everywhere."""
    world = await make_world(GatewaySettings(dev=True))
    status, _ = await post(world, "/v1/runs/01JB8AAAAAAAAAAAAAAAAAAAAA/rerun")
    assert status == 404
