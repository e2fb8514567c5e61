"""What a request is given, and when it has used up an attempt."""

import orjson

from innkeeper_engine.model.calls import Answer, Call
from innkeeper_engine.model.effects import Touch
from innkeeper_engine.model.guards import KeepGuard
from tests.executor.house import (
    ENV,
    Hand,
    House,
    Request,
    VirtualClock,
    failure,
    function,
    ops,
    output,
    ran,
    soon,
)


async def first_request(hand: Hand) -> Request:
    """Take the one item there is and begin it."""
    assert await hand.due() == 1
    return await hand.driver.arrival()


async def checkpoint(house: House, request: Request) -> None:
    """Save a step of a request in flight, as an SDK that checkpoints does."""
    call = request.call
    applied = await house.store.apply(KeepGuard(call.item_id, call.request_id), [Touch(call.item_id)])
    assert applied.status == "ok"


async def test_a_stale_answer_is_decided_again_with_the_attempts_that_are_left_now(
    still_house: House, clock: VirtualClock
) -> None:
    """The last attempt fails, but its steps went through before: attempts start anew, so there is a retry."""
    house = still_house
    await house.register(function("f", retries=1))
    hand = house.hand()
    await house.send("test/f")
    await hand.route_all()
    request = await first_request(hand)
    request.answer(failure())
    await soon(hand.worker.wait_until_idle())
    clock.ms += 1
    last = await first_request(hand)
    assert last.call.attempt == 1
    await checkpoint(house, last)
    last.answer(failure())
    await soon(hand.worker.wait_until_idle())
    assert await house.status(last.call.run_id) == "Running"
    assert (await house.item(last.call.item_id))["a"] == "1"
    clock.ms += 1
    final = await first_request(hand)
    assert final.call.attempt == 1
    final.answer(failure("for good"))
    await soon(hand.worker.wait_until_idle())
    assert await house.status(last.call.run_id) == "Failed"


async def test_large_state_is_read_beside_the_lease(house: House) -> None:
    """A lease carries 256 KiB; what is more is read for it, so the app sees the same."""
    await house.register(function("f"))
    hand = house.hand()
    await house.send("test/f", {"n": 1})
    await hand.route_all()
    request = await first_request(hand)
    value = "x" * 300_000
    request.answer(ops(ran("large", value)))
    request = await hand.driver.arrival()
    assert not request.call.use_api
    assert orjson.loads(request.call.steps["large"]) == {"data": value}
    assert orjson.loads(request.call.events[0])["data"] == {"n": 1}


async def test_state_above_four_mebibytes_is_left_for_the_app_to_ask_for(house: House) -> None:
    """The request names the steps and says that they are to be fetched; nobody reads them here."""
    await house.register(function("f"))
    hand = house.hand()
    await house.send("test/f", {"n": 1})
    await hand.route_all()
    request = await first_request(hand)
    request.answer(ops(ran("a", "x" * 3_000_000)))
    request = await hand.driver.arrival()
    assert not request.call.use_api
    request.answer(ops(ran("b", "x" * 2_000_000)))
    request = await hand.driver.arrival()
    assert request.call.use_api
    assert (request.call.stack, request.call.steps) == (("a", "b"), {})
    assert orjson.loads(request.call.events[0])["data"] == {"n": 1}
    request.answer(output("large"))
    await soon(hand.worker.wait_until_idle())
    assert await house.status(request.call.run_id) == "Completed"


async def test_a_function_that_never_comes_back_is_tried_again_and_then_fails(
    still_house: House, clock: VirtualClock
) -> None:
    """A version that keeps nothing for its return took it away; the run says why it ended."""
    house = still_house
    await house.register(function("f", retries=2), function("g"))
    await house.send("test/f")
    hand = house.hand()
    await hand.route_all()
    await house.register(function("g"))
    (kept,) = await house.store.cancellations(ENV)
    await house.store.configure(ENV, gone=[f"{ENV}/f"], cancellations=[(kept, b"", 0)])
    ended = []
    for _ in range(3):
        assert await hand.due() == 1
        await soon(hand.worker.wait_until_idle())
        ended.append(len(hand.ended))
        clock.ms += 1
    assert ended == [0, 0, 1]
    assert hand.driver.calls == []
    assert hand.ended[0].status == "Failed"
    (error,) = await house.store.run_payload(hand.ended[0].run, "x")
    assert orjson.loads(error or b"")["message"] == "function 'f' is not registered any more"


async def test_a_run_of_a_function_that_comes_back_goes_on(still_house: House) -> None:
    """An app that forgot a function for one sync loses no run, and no attempt."""
    house = still_house
    await house.register(function("f"), function("g"))
    await house.send("test/f")
    hand = house.hand()
    await hand.route_all()
    await house.register(function("g"))
    assert await hand.due() == 0
    await house.register(function("f"), function("g"))
    request = await first_request(hand)
    assert request.call.attempt == 0
    request.answer(output())
    await soon(hand.worker.wait_until_idle())
    assert await house.status(request.call.run_id) == "Completed"


async def test_what_was_leased_as_its_function_went_is_put_off(
    still_house: House, clock: VirtualClock
) -> None:
    """Nobody can be called just now; it costs no attempt."""
    house = still_house
    await house.register(function("f", retries=0), function("g"))
    await house.send("test/f")
    hand = house.hand()
    await hand.route_all()
    tokens = hand.worker.take_tokens(1)
    due = await house.store.due(executor=hand.worker.id, tokens=tokens)
    await house.register(function("g"))
    hand.surroundings.saw_version(await house.store.registry_version())
    hand.worker.settle_tokens(tokens, due.leases)
    await soon(hand.worker.wait_until_idle())
    assert hand.driver.calls == []
    clock.ms += 1_000
    assert await hand.due() == 0
    await house.register(function("f", retries=0), function("g"))
    request = await first_request(hand)
    assert (request.call.run_id, request.call.attempt) == (due.leases[0].run, 0)
    request.answer(output())
    await soon(hand.worker.wait_until_idle())
    assert await house.status(request.call.run_id) == "Completed"


async def lose_leases(house: House, clock: VirtualClock, count: int) -> None:
    """Executors take the one item and are never heard of again."""
    for _ in range(count):
        await house.hand().lease()
        clock.ms += 31_000
        assert (await house.store.due()).expired == 1


async def test_a_lease_that_was_lost_three_times_is_an_attempt(
    still_house: House, clock: VirtualClock
) -> None:
    """The request may be what ends executors: the fourth makes none, and says so."""
    house = still_house
    await house.register(function("f", retries=1))
    await house.send("test/f")
    hand = house.hand()
    await hand.route_all()
    await lose_leases(house, clock, 3)
    assert await hand.due() == 1
    await soon(hand.worker.wait_until_idle())
    assert hand.driver.calls == []
    clock.ms += 10
    assert await hand.due() == 1
    request = await hand.driver.arrival()
    assert request.call.attempt == 1
    request.answer(output())
    await soon(hand.worker.wait_until_idle())
    assert await house.status(request.call.run_id) == "Completed"


async def test_a_request_that_always_ends_executors_fails_its_run(
    still_house: House, clock: VirtualClock
) -> None:
    """Attempts times three leases, then the run has an end and an error that tells."""
    house = still_house
    await house.register(function("f", retries=0))
    await house.send("test/f")
    hand = house.hand()
    await hand.route_all()
    await lose_leases(house, clock, 3)
    assert await hand.due() == 1
    await soon(hand.worker.wait_until_idle())
    (ended,) = hand.ended
    (error,) = await house.store.run_payload(ended.run, "x")
    assert "lost 3 times in a row" in orjson.loads(error or b"")["message"]


async def test_two_lost_leases_are_no_attempt(still_house: House, clock: VirtualClock) -> None:
    """Executors are lost for many reasons."""
    house = still_house
    await house.register(function("f"))
    await house.send("test/f")
    hand = house.hand()
    await hand.route_all()
    await lose_leases(house, clock, 2)
    assert await hand.due() == 1
    assert (await hand.driver.arrival()).call.attempt == 0


async def test_a_driver_that_breaks_its_word_costs_one_lease_at_a_time(
    still_house: House, clock: VirtualClock
) -> None:
    """An exception that should not be leaves the lease to run out; the executor goes on."""
    house = still_house
    await house.register(function("f"))
    hand = house.hand()

    def broken(call: Call) -> Answer:
        raise RuntimeError("a bug")

    hand.driver.scripts["f"] = broken
    await house.send("test/f")
    await hand.route_all()
    assert await hand.due() == 1
    await soon(hand.worker.wait_until_idle())
    assert hand.worker.tokens == []
    del hand.driver.scripts["f"]
    clock.ms += 31_000
    assert await hand.due() == 1
    assert (await hand.driver.arrival()).call.attempt == 0
