"""How an executor ends: nothing is lost, nothing counts as a failure, others go on at once."""

import asyncio

import pytest

from tests.executor.conftest import MakeProxy
from tests.executor.house import House, ScriptedDriver, function, ops, output, ran, soon


async def test_requests_in_flight_end_within_the_grace_period_and_no_new_one_begins(house: House) -> None:
    """The step of a run is committed; its next one is for somebody else."""
    await house.register(function("f"))
    executor = await house.start_executor(grace_s=10)
    await house.send("test/f")
    request = await house.driver.arrival()
    draining = asyncio.create_task(house.drain(executor))
    await asyncio.sleep(0)
    assert not executor.ready
    request.answer(ops(ran("a")))
    await soon(draining)
    assert not request.aborted.is_set()
    assert len(house.driver.calls) == 1
    assert await house.steps(request.call.run_id) == ["a"]
    await house.start_executor()
    following = await house.driver.arrival()
    assert (following.call.stack, following.call.attempt) == (("a",), 0)
    following.answer(output())
    await house.run_ended(request.call.run_id)


async def test_leases_are_extended_during_the_grace_period(house: House) -> None:
    """A request that takes long is not given to others while it may still end."""
    await house.register(function("f"))
    executor = await house.start_executor(grace_s=10, beat_ms=20)
    await house.send("test/f")
    request = await house.driver.arrival()
    draining = asyncio.create_task(house.drain(executor))
    beaten, beat = asyncio.Event(), executor.store.beat

    async def watched(leases: list[tuple[str, str]]) -> tuple[list[str], list[str]]:
        answer = await beat(leases)
        beaten.set()
        return answer

    executor.store.beat = watched  # type: ignore[method-assign, assignment]
    await soon(beaten.wait())
    request.answer(output())
    await soon(draining)
    assert await house.status(request.call.run_id) == "Completed"


async def test_what_outlives_the_grace_period_goes_to_another_executor_with_no_attempt_counted(
    house: House,
) -> None:
    """At once: it does not wait for the lease to run out."""
    await house.register(function("f", concurrency=1))
    executor = await house.start_executor(grace_s=0.05)
    await house.send("test/f")
    first = await house.driver.arrival()
    await house.drain(executor)
    assert first.aborted.is_set()
    other = ScriptedDriver()
    await house.start_executor(driver=other)
    second = await other.arrival()
    assert second.call.item_id == first.call.item_id
    assert (second.call.attempt, second.call.generation) == (0, 2)
    assert (await house.item(first.call.item_id))["x"] == "0"
    second.answer(output())
    await house.run_ended(first.call.run_id)


async def test_a_drained_executor_leaves_its_jobs_to_others_at_once(house: House) -> None:
    """The other routes the next event, though the lease of the first had seconds to go."""
    await house.register(function("f"))
    leader = await house.start_executor()
    await house.send("test/f")
    (await house.driver.arrival()).answer(output())
    assert await lead(house, "router") == leader.id
    other = await house.start_executor()
    await house.drain(leader)
    event = await house.send("test/f")
    request = await house.driver.arrival(2)
    assert [request.call.run_id] == await house.started(event)
    assert await lead(house, "router") == other.id


async def test_the_last_executor_leaves_no_lease_behind(house: House) -> None:
    """Neither of items nor of jobs."""
    await house.register(function("f"))
    executor = await house.start_executor()
    await house.send("test/f")
    await house.driver.arrival()
    await house.drain(executor)
    assert await lead(house, "router") is None
    assert await lead(house, "recorder") is None
    assert await house.slots("f") == 0
    assert house.driver.closed


async def lead(house: House, job: str) -> str | None:
    """Who has a job."""
    owner = await house.store.command("GET", house.store.key(f"lead:{job}"))
    return None if owner is None else str(owner.decode())


async def test_draining_an_idle_executor_takes_no_time(house: House) -> None:
    """Its waits are ended, not waited for."""
    executor = await house.start_executor(grace_s=10)
    await soon(house.drain(executor), 1)


@pytest.mark.slow
async def test_a_run_that_ends_while_its_request_is_being_aborted_holds_no_drain_up(
    house: House, make_proxy: MakeProxy
) -> None:
    """The store is away: the slot cannot be given back, and the executor ends all the same."""
    await house.register(function("f"))
    proxy = await make_proxy(house.store.address)
    executor = await house.start_executor(proxy.address)
    await house.send("test/f")
    request = await house.driver.arrival()
    proxy.refusing = True
    await proxy.cut()
    executor._worker.run_ended(request.call.request_id)
    await soon(request.aborted.wait())
    await soon(house.drain(executor), 8)
