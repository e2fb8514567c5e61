"""Requests whose run has ended, or whose lease is another's now."""

import asyncio

from tests.executor.house import House, function, ops, output, ran, soon
from tests.executor.proxy import Fate, Hold, Proxy, Sent, once


def is_inbox(sent: Sent) -> bool:
    """Whether an executor waits for hints about its leases."""
    return sent.name == "BLPOP" and b"inbox:" in sent.arguments[0]


async def test_a_cancelled_run_is_aborted_at_once_and_its_slot_is_the_next_ones(house: House) -> None:
    """By the hint of the script that cancelled it; the heartbeat is ten seconds away."""
    await house.register(function("f", concurrency=1))
    await house.start_executor()
    await house.send("test/f")
    await house.send("test/f")
    first = await house.driver.arrival()
    await house.cancel(first.call.run_id)
    await soon(first.aborted.wait(), 1)
    second = await house.driver.arrival(1)
    assert second.call.run_id != first.call.run_id
    second.answer(output())
    await house.run_ended(second.call.run_id)
    assert await house.status(first.call.run_id) == "Cancelled"
    assert len(house.driver.calls) == 2


async def test_a_hint_that_got_lost_is_made_up_for_by_the_heartbeat(house: House, proxy: Proxy) -> None:
    """The hint is a convenience; every beat names the runs that have ended."""
    await house.register(function("f", concurrency=1))
    proxy.rule = lambda sent: Fate.SWALLOW if is_inbox(sent) else Fate.PASS
    await house.start_executor(proxy.address, beat_ms=50)
    await house.send("test/f")
    await house.send("test/f")
    first = await house.driver.arrival()
    await house.cancel(first.call.run_id)
    await soon(first.aborted.wait(), 2)
    second = await house.driver.arrival()
    second.answer(output())
    await house.run_ended(second.call.run_id)


async def test_a_slot_is_free_when_the_request_has_stopped_not_before(house: House) -> None:
    """What an app still does counts against its limit; hint and heartbeats together abort it once."""
    await house.register(function("f", concurrency=1))
    executor = await house.start_executor(beat_ms=20)
    await house.send("test/f")
    await house.send("test/f")
    first = await house.driver.arrival()
    first.may_stop.clear()
    await house.cancel(first.call.run_id)
    await soon(first.aborted.wait())
    beaten, beat = asyncio.Event(), executor.store.beat

    async def watched(leases: list[tuple[str, str]]) -> tuple[list[str], list[str]]:
        answer = await beat(leases)
        assert answer == ([], [first.call.request_id])
        beaten.set()
        return answer

    executor.store.beat = watched  # type: ignore[method-assign, assignment]
    await soon(beaten.wait())
    assert await house.slots("f") == 1
    assert house.driver.nothing_arrived
    executor.store.beat = beat  # type: ignore[method-assign]
    first.may_stop.set()
    (await house.driver.arrival()).answer(output())
    await house.so_many_ended(1)


async def test_a_run_that_ended_before_its_request_began_gives_the_slot_back(house: House) -> None:
    """The hint may come in the very moment of the lease: nothing is asked, nothing stays behind."""
    await house.register(function("f"))
    await house.send("test/f")
    hand = house.hand()
    await hand.route_all()
    tokens = hand.worker.take_tokens(1)
    due = await house.store.due(executor=hand.worker.id, tokens=tokens)
    await house.cancel(due.leases[0].run)
    hand.worker.settle_tokens(tokens, due.leases)
    hand.worker.run_ended(tokens[0])
    await soon(hand.worker.wait_until_idle())
    assert hand.driver.calls == []
    assert await house.slots("f") == 0
    assert await house.item(due.leases[0].item) == {}


async def test_an_answer_for_a_run_that_was_cancelled_changes_nothing(house: House) -> None:
    """The answer was quicker than the hint: the commit is refused and gives the slot back."""
    await house.register(function("f"))
    await house.send("test/f")
    hand = house.hand()
    await hand.route_all()
    await hand.due()
    request = await hand.driver.arrival()
    await house.cancel(request.call.run_id)
    request.answer(output("too late"))
    await soon(hand.worker.wait_until_idle())
    assert await house.status(request.call.run_id) == "Cancelled"
    assert await house.store.run_payload(request.call.run_id, "o") == [None]
    assert await house.slots("f") == 0
    assert hand.ended == []


async def test_a_lost_lease_is_aborted_and_forgotten(house: House) -> None:
    """Somebody took it for dead; the item is worked under a new lease, the first request's end is no news."""
    await house.register(function("f", concurrency=1))
    executor = await house.start_executor(beat_ms=50)
    await house.send("test/f")
    first = await house.driver.arrival()
    assert await house.store.hello(executor.id, []) == 1
    second = await house.driver.arrival()
    await soon(first.aborted.wait(), 2)
    assert second.call.item_id == first.call.item_id
    assert second.call.request_id != first.call.request_id
    assert (second.call.attempt, second.call.generation) == (0, 2)
    second.answer(output())
    await house.run_ended(second.call.run_id)
    await soon(executor._worker.wait_until_idle())


async def test_the_answer_of_a_lost_lease_has_no_effect(house: House) -> None:
    """Only who holds the lease may say what came of the request."""
    await house.register(function("f"))
    await house.send("test/f")
    slow, quick = house.hand(), house.hand()
    await slow.route_all()
    await slow.due()
    first = await slow.driver.arrival()
    assert await house.store.hello(slow.worker.id, []) == 1
    await quick.due()
    second = await quick.driver.arrival()
    first.answer(output("of the first"))
    await soon(slow.worker.wait_until_idle())
    assert slow.ended == []
    assert await house.status(first.call.run_id) == "Running"
    assert quick.worker.tokens == [second.call.request_id]
    second.answer(output("of the second"))
    await soon(quick.worker.wait_until_idle())
    assert await house.store.run_payload(first.call.run_id, "o") == [b'"of the second"']


async def test_a_run_that_ends_while_its_commit_is_under_way_is_not_aborted_twice(
    house: House, proxy: Proxy
) -> None:
    """The commit itself learns of the end, and the executor has its room back."""
    await house.register(function("f", concurrency=1))
    executor = await house.start_executor(proxy.address)
    await house.send("test/f")
    await house.send("test/f")
    first = await house.driver.arrival()
    hold = Hold(asyncio.Event(), asyncio.Event())
    proxy.rule = once(lambda sent: sent.guard == "lease", hold)
    await house.cancel(first.call.run_id)
    executor._worker.run_ended(first.call.request_id)
    await soon(hold.done.wait())
    executor._worker.run_ended(first.call.request_id)
    executor._worker.lease_lost(first.call.request_id)
    hold.release.set()
    second = await house.driver.arrival()
    assert executor._worker.tokens == [second.call.request_id]
    second.answer(ops(ran("a")))
    (await house.driver.arrival()).answer(output())
    await house.run_ended(second.call.run_id)
