"""A run once more from one of its steps: what it begins with, which request is made first, what is refused."""

from typing import Any

import orjson
import pytest

from innkeeper_engine.decide.notes import step_note
from innkeeper_engine.model.calls import Op, OpKind
from innkeeper_engine.model.effects import Cancel, Retry, Save
from innkeeper_engine.model.guards import LeaseGuard, LiveGuard
from innkeeper_engine.model.state import Lease
from tests.gateway.world import World, function


def op(step: str, kind: OpKind = OpKind.STEP_RUN, **opts: Any) -> Op:
    """An operation of a step that is called as its id is."""
    return Op(id=step, kind=kind, name=step, display_name=step, opts=opts)


async def do(world: World, lease: Lease, asked: Op, result: bytes | None) -> None:
    """A step of a leased item, told and, where there is a result, saved; the item comes again."""
    now_ms = world.clock.now_ms()
    effects: list[Any] = [step_note(lease, asked, "Completed" if result else "Waiting", now_ms)]
    if result:
        effects.append(Save(lease.run, asked.id, result, False))
    effects.append(Retry(lease.item, 0, 0))
    guard = LeaseGuard(lease.item, lease.token, lease.seen)
    assert (await world.store.apply(guard, effects)).status == "ok"


async def three_steps(world: World, *, ended: bool = True) -> str:
    """A run with a sleep, a step of two arguments, and a last step that has failed."""
    await world.register(function("app-fn"))
    run = await world.start(data={"n": 1})
    await do(world, await world.lease(), op("nap", OpKind.SLEEP), b"null")
    await do(world, await world.lease(), op("send", input=["a", 2]), b'{"data":"sent"}')
    await do(world, await world.lease(), op("last"), b'{"error":{"message":"no","name":"Error"}}')
    lease = await world.lease()
    if ended:
        await world.finish(lease)
    await world.record()
    return run


async def rerun(world: World, run: str, body: Any) -> tuple[int, Any]:
    """What a rerun with this body is answered with."""
    reply = await world.http.post(f"/v1/runs/{run}/rerun", json=body)
    return reply.status_code, reply.json()


async def begun(world: World, run: str, **from_step: Any) -> Lease:
    """The first item of a rerun from a step."""
    status, answer = await rerun(world, run, {"from_step": from_step})
    assert status == 200, answer
    lease = await world.lease()
    assert lease.run == answer["data"]["run_id"]
    return lease


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "going on"])
async def test_a_rerun_from_a_step_begins_with_the_results_before_it(world: World, ended: bool) -> None:
    """In their order; the function is called from the top and comes to that step."""
    run = await three_steps(world, ended=ended)
    lease = await begun(world, run, step_id="last")
    assert (lease.kind, lease.step, lease.stack) == ("s", "step", ("nap", "send"))
    assert lease.payload is not None
    assert [lease.payload.get(step) for step in ("nap", "send", "last")] == [
        b"null",
        b'{"data":"sent"}',
        None,
    ]
    event = orjson.loads(lease.payload["e:0"])
    assert event["data"] == {"n": 1}
    assert lease.state_bytes == len(lease.payload["e:0"]) + len(b'null{"data":"sent"}')


async def test_the_new_run_shows_what_it_has_inherited(world: World) -> None:
    """Steps with their names and outputs, and whose they are."""
    run = await three_steps(world)
    lease = await begun(world, run, step_id="last")
    await world.finish(lease, b"7")
    await world.record()
    view = (await world.http.get(f"/v1/runs/{lease.run}")).json()["data"]
    assert view["rerun_of"] == run
    assert [note | {"at": None} for note in view["notes"]] == [
        {"at": None, "type": "rerun", "of": run, "from_step": "last"}
    ]
    shown = [(s["id"], s["name"], s["status"], s.get("output"), s["inherited"]) for s in view["steps"]]
    assert shown == [("nap", "nap", "Completed", None, True), ("send", "send", "Completed", "sent", True)]


async def test_a_rerun_of_a_rerun_has_what_that_one_began_with(world: World) -> None:
    """Also the steps that it never ran itself."""
    run = await three_steps(world)
    lease = await begun(world, run, step_id="last")
    await world.finish(lease)
    await world.record()
    again = await begun(world, lease.run, step_id="send")
    assert again.stack == ("nap",)


async def test_a_step_without_a_result_runs_with_all_that_there_is(world: World) -> None:
    """The run was cancelled in it."""
    await world.register(function("app-fn"))
    run = await world.start()
    await do(world, await world.lease(), op("one"), b'{"data":1}')
    await do(world, await world.lease(), op("two"), None)
    await world.store.apply(LiveGuard(run), [Cancel(run, (world.ids.ulid(1), world.ids.ulid(2)))])
    await world.record()
    assert (await begun(world, run, step_id="two")).stack == ("one",)


async def test_edited_input_goes_with_the_first_request_which_is_for_that_step(world: World) -> None:
    """A step with siblings would never run with it otherwise. Also where the SDK fetches the state."""
    run = await three_steps(world)
    lease = await begun(world, run, step_id="send", input=["b", {"z": 1, "a": 2}])
    assert (lease.kind, lease.step, lease.stack) == ("s", "send", ("nap",))
    actions = await world.http.get(f"/v0/runs/{lease.run}/actions")
    assert orjson.loads(actions.content) == {"nap": None, "send": {"input": ["b", {"z": 1, "a": 2}]}}
    await do(world, lease, op("send", input=["b"]), b'{"data":"new"}')
    actions = await world.http.get(f"/v0/runs/{lease.run}/actions")
    assert orjson.loads(actions.content)["send"] == {"data": "new"}
    await world.record()
    note = (await world.http.get(f"/v1/runs/{lease.run}")).json()["data"]["notes"][0]
    assert note["edited"] is True


@pytest.mark.parametrize(
    ("step", "given", "said"),
    [
        ("nap", [1], "it is a Sleep"),
        ("last", [1], "given no arguments"),
        ("send", {"a": 1}, "must be a list"),
        ("send", None, "must be a list"),
    ],
)
async def test_input_that_would_have_no_effect_is_refused(
    world: World, step: str, given: Any, said: str
) -> None:
    """With what is right."""
    run = await three_steps(world)
    status, answer = await rerun(world, run, {"from_step": {"step_id": step, "input": given}})
    assert (status, said in answer["error"]) == (400, True), answer


@pytest.mark.parametrize("sdk", ["py:v0.5.19", "js:v3.26.0", "go:v9.9.9"])
async def test_an_sdk_that_would_take_input_for_a_result_is_not_sent_any(world: World, sdk: str) -> None:
    """It says which SDK does take it."""
    run = await three_steps(world)
    await world.register(function("app-fn"), sdk=sdk)
    status, answer = await rerun(world, run, {"from_step": {"step_id": "send", "input": [1]}})
    assert (status, "only the TypeScript SDK from 3.26.1" in answer["error"]) == (400, True), answer
    assert (await begun(world, run, step_id="send")).stack == ("nap",)


@pytest.mark.parametrize(
    "body",
    [
        {"from_step": {}},
        {"from_step": {"step_id": 1}},
        {"from_step": "send"},
        {"from_step": {"step_id": "send", "inputs": []}},
        {"from_step": {"step_id": "send"}, "data": {}},
        {"step_id": "send"},
    ],
)
async def test_what_is_not_understood_is_refused(world: World, body: Any) -> None:
    """Nothing runs by it."""
    run = await three_steps(world)
    status, answer = await rerun(world, run, body)
    assert (status, '"from_step"' in answer["error"]) == (400, True), answer


async def test_a_step_that_the_run_does_not_know_is_a_404(world: World) -> None:
    """The answer says where its steps are to be found."""
    run = await three_steps(world)
    status, answer = await rerun(world, run, {"from_step": {"step_id": "x" * 1000}})
    assert (status, f"GET /v1/runs/{run}" in answer["error"]) == (404, True)
    assert len(answer["error"]) < 400


async def test_results_that_are_gone_are_not_run_again(world: World) -> None:
    """A run without them would do everything twice."""
    run = await three_steps(world)
    await world.store.command("HDEL", world.store.key(f"pl:{run}"), ":k")
    status, answer = await rerun(world, run, {"from_step": {"step_id": "last"}})
    assert (status, "from the top" in answer["error"]) == (410, True)


async def test_a_result_that_is_gone_alone_is_not_run_again_either(world: World) -> None:
    """Though the order of the others is kept."""
    run = await three_steps(world)
    await world.store.command("HDEL", world.store.key(f"pl:{run}"), "nap")
    status, answer = await rerun(world, run, {"from_step": {"step_id": "last"}})
    assert (status, "from the top" in answer["error"]) == (410, True)
    assert len(await world.store.recent_runs("default", 9)) == 1


async def test_a_singleton_that_goes_on_skips_the_rerun(world: World) -> None:
    """Recorded, with nothing inherited."""
    run = await three_steps(world)
    await world.register(function("app-fn", singleton={"mode": "skip"}))
    await world.decided()
    status, answer = await rerun(world, run, {"from_step": {"step_id": "last"}})
    assert (status, answer["data"]["status"]) == (200, "Skipped")
    assert await world.store.run_state(answer["data"]["run_id"]) == {}
