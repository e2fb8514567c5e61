"""How much an executor takes at once, and under which tokens."""

import asyncio
from typing import Any

import pytest

from innkeeper_engine.model.calls import Answer, Call
from innkeeper_engine.model.guards import NoGuard
from tests.executor.house import Hand, House, Request, function, ops, output, ran, soon


def two_steps(call: Call) -> Answer:
    """An app with two steps, one after the other."""
    for step in ("a", "b"):
        if step not in call.stack:
            return ops(ran(step))
    return output(len(call.stack))


async def test_no_more_requests_are_in_flight_than_the_capacity(house: House) -> None:
    """Leases come with commits, routed events and turns of the clock; all of them share the room."""
    await house.register(function("f"))
    await house.start_executor(capacity=3)
    for _ in range(30):
        await house.send("test/f")
    waiting: list[Request] = []
    for left in range(30, 0, -1):
        while len(waiting) < min(3, left):
            waiting.append(await house.driver.arrival())
        waiting.pop(0).answer(output())
    await house.so_many_ended(30)
    assert house.driver.most_in_flight == 3


@pytest.mark.parametrize("capacity", [1, 2, 5])
async def test_commands_under_way_count_as_taken(house: House, capacity: int) -> None:
    """What is asked of apps, and what replies still to come may add, fits. A commit's own request is over."""
    await house.register(function("f"))
    hand = house.hand(capacity=capacity)
    promised = 0
    most = 0
    apply, due = hand.store.apply, hand.store.due

    def watching(verb: Any) -> Any:
        async def watched(*args: Any, **kwargs: Any) -> Any:
            nonlocal promised, most
            tokens = len(kwargs.get("tokens", ()))
            promised += tokens
            most = max(most, promised + hand.driver.in_flight)
            try:
                return await verb(*args, **kwargs)
            finally:
                promised -= tokens

        return watched

    hand.store.apply, hand.store.due = watching(apply), watching(due)  # type: ignore[method-assign]
    hand.driver.scripts["f"] = two_steps
    for _ in range(12):
        await house.send("test/f")
    await hand.route_all()
    async with asyncio.timeout(5):
        while len(hand.ended) < 12:
            await asyncio.gather(hand.due(), hand.due(), hand.worker.apply(NoGuard(), []))
    assert most == capacity


async def take_one(hand: Hand) -> list[str]:
    """Reserve tokens for three items and take the one there is."""
    tokens = hand.worker.take_tokens(3)
    due = await hand.store.due(executor=hand.worker.id, tokens=tokens)
    assert [lease.token for lease in due.leases] == tokens[:1]
    hand.worker.settle_tokens(tokens, due.leases)
    return tokens


async def test_only_tokens_that_were_not_used_are_used_again(house: House) -> None:
    """A token is the identity of a request: it must never name two."""
    await house.register(function("f"))
    hand = house.hand(capacity=4)
    await house.send("test/f")
    await hand.route_all()
    first = await take_one(hand)
    second = hand.worker.take_tokens(9)
    assert len(second) == 3
    assert second[:2] == first[1:]
    assert first[0] not in second
    assert len({*first, *second}) == 4


async def test_tokens_of_an_unknown_outcome_are_never_used_again(house: House) -> None:
    """Whoever got no answer does not know whether one of them is a lease now."""
    hand = house.hand(capacity=4)
    first = hand.worker.take_tokens(4)
    assert hand.worker.free == 0
    hand.worker.settle_tokens(first, None)
    assert hand.worker.free == 4
    assert not {*first} & {*hand.worker.take_tokens(4)}


async def test_room_that_a_command_did_not_use_is_room_at_once(house: House) -> None:
    """Who waits for room while a command holds the last of it is woken when it comes back empty."""
    hand = house.hand(capacity=2)
    tokens = hand.worker.take_tokens(2)
    waiting = asyncio.create_task(hand.worker.wait_for_room())
    await asyncio.sleep(0)
    assert not waiting.done()
    hand.worker.settle_tokens(tokens, [])
    await soon(waiting, 0.5)


async def test_an_executor_that_does_not_accept_takes_nothing(house: House) -> None:
    """Nor does it reserve."""
    hand = house.hand(capacity=4)
    hand.worker.stop_accepting()
    assert hand.worker.free == 0
    assert hand.worker.take_tokens(4) == []
