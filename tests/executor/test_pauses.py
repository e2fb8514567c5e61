"""Paused functions, paused apps and apps that go, with whole executors: what is called, what waits, what is recorded."""

import secrets
from typing import Any

import msgspec
import orjson

from innkeeper_engine.model.calls import Op, OpKind
from innkeeper_engine.model.clock import RandomIds
from innkeeper_engine.model.effects import Arm
from innkeeper_engine.model.functions import App, Cancel, CatchUp, FunctionConfig, Trigger
from innkeeper_engine.model.guards import NoGuard
from innkeeper_engine.model.switches import Switch
from innkeeper_engine.model.times import rfc3339
from innkeeper_engine.registering import cancel_app_runs, register_app, remove_app
from innkeeper_engine.switching import switch_off, switch_on
from tests.executor.house import ENV, House, VirtualClock, function, ops, output, sleep, soon

LONG_AGO_MS = 1_700_000_000_000


async def register(house: House, *functions: FunctionConfig, **app: Any) -> None:
    """Register the app with these functions; `app` says how it is."""
    made = App(id="app", url="http://127.0.0.1:9/", functions=functions, checksum=secrets.token_hex(8), **app)
    await register_app(house.store, ENV, made, now_ms=house.clock.now_ms())


def paused(config: FunctionConfig, **how: Any) -> FunctionConfig:
    """The same function, paused."""
    return msgspec.structs.replace(config, paused=True, **how)


def invoke(step: str, slug: str) -> Op:
    """A step that invokes a function."""
    return Op(id=step, kind=OpKind.INVOKE_FUNCTION, name=step, opts={"function_id": slug})


async def routed(house: House, event_id: str) -> list[str]:
    """The runs of an event, once it is routed."""
    hand = house.hand()
    await hand.route_all()
    return await house.started(event_id)


async def until_held(house: House) -> None:
    """Until there is something to do for `f` that its pause holds."""
    while await house.store.command("EXISTS", house.store.key(f"hl:{ENV}/f")) == 0:
        assert (await house.store.due()).leases == []


async def test_events_of_a_paused_function_are_recorded_and_nothing_is_called(house: House) -> None:
    """What began before goes on, what comes after the pause begins."""
    f = function("f")
    await register(house, f)
    await house.start_executor()
    await house.send("test/f")
    before = await house.driver.arrival()
    await register(house, paused(f))
    (skipped,) = await routed(house, await house.send("test/f"))
    before.answer(ops(sleep("z", "1ms")))
    again = await house.driver.arrival()
    assert again.call.run_id == before.call.run_id
    again.answer(output())
    await house.run_ended(before.call.run_id)
    assert await house.status(skipped) == "Skipped"
    await register(house, f)
    await house.send("test/f")
    after = await house.driver.arrival()
    assert after.call.run_id not in (skipped, before.call.run_id)
    after.answer(output())
    await house.so_many_ended(2)
    assert len(house.driver.calls) == 3


async def test_runs_of_a_function_that_queues_begin_after_its_pause(house: House) -> None:
    """In the order in which their events came."""
    f = function("f")
    await register(house, paused(f, new_runs="Queue"))
    await house.start_executor()
    runs = [run for _ in range(3) for run in await routed(house, await house.send("test/f"))]
    await soon(until_held(house))
    assert house.driver.nothing_arrived
    assert {await house.status(run) for run in runs} == {"Scheduled"}
    await register(house, f)
    arrived = [await house.driver.arrival() for _ in range(3)]
    assert sorted(request.call.run_id for request in arrived) == sorted(runs)
    for request in arrived:
        request.answer(output())
    await house.so_many_ended(3)


async def test_a_function_that_is_switched_off_starts_nothing_until_it_is_switched_on(house: House) -> None:
    """From the answer on: no event that comes later starts a run, whatever the executor has read before."""
    f = function("f")
    await register(house, f)
    await house.start_executor()
    await house.send("test/f")
    before = await house.driver.arrival()
    await switch_on(house.store, ENV, Switch(app_id="app", slug="f", who="ann", since_ms=1))
    (skipped,) = await routed(house, await house.send("test/f"))
    before.answer(output())
    await house.run_ended(before.call.run_id)
    assert await house.status(skipped) == "Skipped"
    await switch_off(house.store, ENV, "app", "f")
    await house.send("test/f")
    (await house.driver.arrival()).answer(output())
    await house.so_many_ended(2)
    assert len(house.driver.calls) == 2


async def test_an_app_that_is_switched_off_waits_for_the_next_step_too(house: House) -> None:
    await register(house, function("f"))
    await house.start_executor()
    await house.send("test/f")
    first = await house.driver.arrival()
    await switch_on(house.store, ENV, Switch(app_id="app", who="ann", since_ms=1))
    first.answer(ops(sleep("z", "1ms")))
    await soon(until_held(house))
    assert house.driver.nothing_arrived
    await switch_off(house.store, ENV, "app")
    again = await house.driver.arrival()
    assert again.call.run_id == first.call.run_id
    again.answer(output())
    await house.run_ended(first.call.run_id)


async def test_a_pause_may_hold_runs_that_have_begun(house: House) -> None:
    """Between two of their steps; they go on where they were."""
    f = function("f")
    await register(house, f)
    await house.start_executor()
    await house.send("test/f")
    request = await house.driver.arrival()
    await register(house, paused(f, running="Hold"))
    request.answer(ops(sleep("z", "1ms")))
    await soon(until_held(house))
    assert await house.steps(request.call.run_id) == ["z"]
    assert house.driver.nothing_arrived
    await register(house, f)
    request = await house.driver.arrival()
    assert request.call.stack == ("z",)
    request.answer(output())
    await house.run_ended(request.call.run_id)


async def test_nothing_of_a_paused_app_is_called(house: House) -> None:
    """Its runs wait, also those of a function that would skip them."""
    f = function("f")
    await register(house, f, paused=True)
    await house.start_executor()
    (run,) = await routed(house, await house.send("test/f"))
    await register(house, paused(f), paused=True)
    (other,) = await routed(house, await house.send("test/f"))
    await soon(until_held(house))
    assert house.driver.nothing_arrived
    await register(house, f)
    found = set()
    for _ in range(2):
        request = await house.driver.arrival()
        found.add(request.call.run_id)
        request.answer(output())
    assert found == {run, other}
    await house.so_many_ended(2)


async def test_who_invokes_a_paused_function_may_catch_the_error(house: House) -> None:
    """The child is recorded as skipped."""
    await register(house, function("parent"), paused(function("child")))
    await house.start_executor()
    await house.send("test/parent")
    request = await house.driver.arrival()
    request.answer(ops(invoke("i", "child")))
    request = await house.driver.arrival()
    assert orjson.loads(request.call.steps["i"]) == {
        "error": {"message": "invoked function is paused", "name": "Error"}
    }
    request.answer(output())
    await house.run_ended(request.call.run_id)
    assert {await house.status(run) for run in await house.store.recent_runs(ENV, 9)} == {
        "Completed",
        "Skipped",
    }


async def test_an_app_that_goes_starts_nothing_and_ends_what_it_began(house: House) -> None:
    """Events, crons and invokes find nobody; an event still cancels. Then it is cancelled, and gone."""
    f = function("f", "test/f", crons=["* * * * * *"], cancel=[Cancel(event="test/stop")])
    parent = FunctionConfig(
        slug="other", name="other", url="http://127.0.0.1:9/", triggers=(Trigger(event="test/other"),)
    )
    await register(house, msgspec.structs.replace(f, triggers=f.triggers[:1]))
    await register_app(
        house.store,
        ENV,
        App(id="b", url="http://127.0.0.1:9/", functions=(parent,), checksum="b"),
        now_ms=house.clock.now_ms(),
    )
    await house.start_executor()
    await house.send("test/f")
    going = await house.driver.arrival()
    await register(house, f)
    await register(house, f, draining=True)
    assert await house.store.command("KEYS", house.store.key("cron:*")) == []
    assert await routed(house, await house.send("test/f")) == []
    await house.send("test/other")
    request = await house.driver.arrival()
    request.answer(ops(invoke("i", "f")))
    request = await house.driver.arrival()
    assert b"could not find function" in request.call.steps["i"]
    request.answer(output())
    await house.run_ended(request.call.run_id)
    assert await house.store.live_runs(ENV, ["f"]) == {"f": 1}
    going.answer(ops(sleep("z", "1h")))
    assert await cancel_app_runs(house.store, ENV, "app", RandomIds(), now_ms=house.clock.now_ms()) == 0
    await house.run_ended(going.call.run_id)
    assert await house.status(going.call.run_id) == "Cancelled"
    await remove_app(house.store, ENV, "app", now_ms=house.clock.now_ms())
    assert sorted(await house.store.registrations(ENV)) == ["b"]


async def caught_up(house: House, policy: CatchUp) -> list[str]:
    """The slots that an hourly cron fires after 150 hours in which nothing ran, on a clock that stands."""
    trigger = Trigger(cron="0 * * * *", catch_up=policy)
    config = FunctionConfig(slug="f", name="f", url="http://127.0.0.1:9/", triggers=(trigger,))
    await register(house, config)
    cron = f"{ENV}/f#0 * * * *"
    slot_ms = house.clock.now_ms() - house.clock.now_ms() % 3_600_000 - 149 * 3_600_000
    await house.store.apply(NoGuard(), [Arm(cron, slot_ms, slot_ms)])
    # Two executors find it due; the second decides on what the first has decided already.
    for executor in (house.executor(clock=house.clock), house.executor(clock=house.clock)):
        await executor.store.open()
        await executor._fire(cron, slot_ms)
    runs = [await house.store.run(run) for run in await house.store.recent_runs(ENV, 500)]
    bodies = [await house.store.event(ENV, run.event_ids[0]) for run in runs if run]
    assert (await house.store.due()).crons == []
    return sorted(orjson.loads(body.body)["data"]["scheduledAt"] for body in bodies if body)


async def test_a_cron_catches_up_as_its_policy_says(still_house: House) -> None:
    """With the last hundred slots."""
    slots = await caught_up(still_house, "All")
    assert len(set(slots)) == len(slots) == 100
    now_ms = still_house.clock.now_ms()
    assert slots[-1] == rfc_hour(now_ms)


async def test_a_cron_may_catch_up_with_its_latest_slot(still_house: House) -> None:
    """As it does where nothing is said."""
    assert await caught_up(still_house, "Latest") == [rfc_hour(still_house.clock.now_ms())]


async def test_a_cron_may_not_catch_up(still_house: House, clock: VirtualClock) -> None:
    """The next slot is armed."""
    clock.ms += 30 * 60_000
    assert await caught_up(still_house, "None") == []


def rfc_hour(now_ms: int) -> str:
    """The hour of this instant, as events write it."""
    return rfc3339(now_ms - now_ms % 3_600_000)


async def test_what_another_version_let_go_is_held_again_by_whoever_reads_the_registry(house: House) -> None:
    """One that knows no switches has written the registration."""
    await register(house, function("f"))
    await switch_on(house.store, ENV, Switch(app_id="app", who="ann", since_ms=1))
    await house.store.configure(ENV, holds=[(f"{ENV}/f", "")])
    hand = house.hand()
    await hand.surroundings.context(ENV)
    assert await house.store.command("HGET", house.store.key(f"f:{ENV}/f"), "held") == b"st"
