"""What becomes of answers when connections break, leases change hands and checkpoints come in between."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from innkeeper_engine.model.calls import Answer, Call
from innkeeper_engine.model.guards import KeepGuard
from innkeeper_engine.model.state import Applied
from tests.conftest import OpenStore, ValkeyProcess
from tests.executor.conftest import MakeHouse, MakeProxy
from tests.executor.house import (
    Hand,
    House,
    Request,
    VirtualClock,
    function,
    ops,
    output,
    planned,
    ran,
    soon,
)
from tests.executor.proxy import Fate, Hold, Proxy, Sent, once

STEPS = [f"s{n:03}" for n in range(1_000)]


def is_commit(sent: Sent) -> bool:
    """Whether this command ends a lease."""
    return sent.guard == "lease"


@pytest.fixture
async def far(house: House, proxy: Proxy, open_store: OpenStore) -> Hand:
    """An executor behind the proxy, with function `f` registered and one run of it started."""
    await house.register(function("f"))
    store = await open_store(address=proxy.address, prefix=house.store.settings.prefix)
    hand = house.hand(store)
    await house.send("test/f")
    await hand.route_all()
    return hand


async def first_request(hand: Hand) -> Request:
    """Take the one item there is and begin it."""
    assert await hand.due() == 1
    return await hand.driver.arrival()


@pytest.mark.parametrize("fate", [Fate.CUT_BEFORE, Fate.CUT_AFTER])
async def test_a_commit_without_a_reply_is_sent_again_and_counts_once(
    house: House, proxy: Proxy, fate: Fate
) -> None:
    """Whether the server had done it or not: one result, one next request, no attempt lost."""
    await house.register(function("f"))
    await house.start_executor(proxy.address)
    await house.send("test/f")
    request = await house.driver.arrival()
    run = request.call.run_id
    again = asyncio.Event()
    cut = once(is_commit, fate)

    def watch(sent: Sent) -> Fate | Hold:
        decided = cut(sent)
        if is_commit(sent) and decided is Fate.PASS:
            again.set()
        return decided

    proxy.rule = watch
    request.answer(ops(ran("a", 1)))
    await soon(again.wait())
    # A lease that came with the lost reply is nobody's: hello gives it back.
    request = await house.driver.arrival()
    assert await house.steps(run) == ["a"]
    assert await house.items(run) == [f"{run}.1"]
    assert (request.call.stack, request.call.attempt) == (("a",), 0)
    assert request.call.steps == {"a": b'{"data":1}'}
    assert (await house.item(f"{run}.1"))["x"] == "0"
    request.answer(output("done"))
    await house.run_ended(run)
    assert len(house.driver.calls) == 2


async def test_a_run_that_ended_unseen_ends_once(house: House, proxy: Proxy, far: Hand) -> None:
    """The commit that ended it is refused the second time; the run stays as it is."""
    request = await first_request(far)
    proxy.rule = once(is_commit, Fate.CUT_AFTER)
    request.answer(output("first"))
    await soon(far.worker.wait_until_idle())
    assert await house.status(request.call.run_id) == "Completed"
    assert await house.store.run_payload(request.call.run_id, "o") == [b'"first"']
    assert await house.slots("f") == 0


async def test_leases_that_got_lost_on_the_way_go_back_at_once(house: House, make_proxy: MakeProxy) -> None:
    """The reply that carried the lease never came: hello hands it back, no attempt and no expiry counted."""
    await house.register(function("f"))
    proxy = await make_proxy(house.store.address)
    proxy.rule = once(lambda sent: sent.name == "due" and "want" in sent.request, Fate.PASS)
    await house.send("test/f")
    await house.hand().route_all()
    # The first turn of the executor's clock takes the item, and the answer is lost.
    proxy.rule = once(lambda sent: sent.name == "due", Fate.CUT_AFTER)
    await house.start_executor(proxy.address)
    request = await house.driver.arrival()
    assert (request.call.attempt, request.call.generation) == (0, 2)
    assert (await house.item(request.call.item_id))["x"] == "0"
    request.answer(output())
    await house.run_ended(request.call.run_id)


async def test_a_refusal_for_now_is_waited_out(
    private_valkey: Callable[..., ValkeyProcess],
    open_store: OpenStore,
    make_proxy: MakeProxy,
    make_house: MakeHouse,
) -> None:
    """A primary without its replicas takes no writes; the answer of the app is kept until it does."""
    server = private_valkey()
    proxy = await make_proxy(server.address)
    house = make_house(await open_store(address=server.address))
    await house.register(function("f"))
    await house.send("test/f")
    hand = house.hand(await open_store(address=proxy.address, prefix=house.store.settings.prefix))
    await hand.route_all()
    request = await first_request(hand)
    await house.store.command("CONFIG", "SET", "min-replicas-to-write", 1)
    again = asyncio.Event()
    commits: list[Sent] = []

    def watch(sent: Sent) -> Fate:
        if is_commit(sent):
            commits.append(sent)
            if len(commits) == 2:
                again.set()
        return Fate.PASS

    proxy.rule = watch
    request.answer(output())
    await soon(again.wait())
    assert await house.status(request.call.run_id) == "Running"
    await house.store.command("CONFIG", "SET", "min-replicas-to-write", 0)
    await soon(hand.worker.wait_until_idle())
    assert await house.status(request.call.run_id) == "Completed"
    assert len(hand.driver.calls) == 1


async def test_leases_that_come_with_a_commit_are_worked_though_the_run_ends_meanwhile(
    house: House, proxy: Proxy, far: Hand
) -> None:
    """The hint that a run has ended overtakes the reply to its commit; what that reply brings is not lost."""
    request = await first_request(far)
    other = await house.send("test/f")
    await far.route_all()
    hold = Hold(asyncio.Event(), asyncio.Event())
    proxy.rule = once(is_commit, hold)
    request.answer(ops(ran("a")))
    await soon(hold.done.wait())
    await house.cancel(request.call.run_id)
    far.worker.run_ended(request.call.request_id)
    hold.release.set()
    runs = {(await far.driver.arrival()).call.run_id for _ in range(len(await house.started(other)))}
    assert runs == {*await house.started(other)}


def parallel(call: Call) -> Answer:
    """An app that plans a thousand steps in one answer, and goes on when all are done."""
    if call.step_id != "step":
        return ops(ran(call.step_id, call.step_id))
    left = [step for step in STEPS if step not in call.stack]
    return ops(*(planned(step) for step in left)) if left else output(len(call.stack))


def is_last_of_group(call: Call) -> bool:
    """Whether this call finds all steps done."""
    return call.step_id == "step" and len(call.stack) == len(STEPS)


def by_step(calls: list[Call]) -> Counter[str]:
    """How often each planned step was requested."""
    return Counter(call.step_id for call in calls if call.step_id != "step")


async def test_a_thousand_planned_steps_are_committed_in_pieces(house: House) -> None:
    """Each step is requested once, and the function goes on once, when the last of them is done."""
    await house.register(function("f"))
    house.driver.scripts["f"] = parallel
    await house.start_executor()
    event = await house.send("test/f")
    await house.so_many_ended(1, seconds=20)
    (run,) = await house.started(event)
    assert await house.store.run_payload(run, "o") == [b"1000"]
    assert by_step(house.driver.calls) == Counter(STEPS)
    assert sum(is_last_of_group(call) for call in house.driver.calls) == 1


async def test_a_crash_between_the_pieces_heals(still_house: House, clock: VirtualClock) -> None:
    """The executor dies with half of the plan committed: the request comes again, and plans the rest."""
    house = still_house
    await house.register(function("f"))
    dying = house.hand()
    dying.driver.scripts["f"] = parallel
    await house.send("test/f")
    await dying.route_all()
    apply, pieces = dying.store.apply, 0
    dead = asyncio.Event()
    reached: asyncio.Future[Applied] = asyncio.get_running_loop().create_future()

    async def dies_after_two(*args: object, **kwargs: object) -> Applied:
        nonlocal pieces
        pieces += isinstance(args[0], KeepGuard)
        if pieces == 3:
            dead.set()
            return await reached
        return await apply(args[0], args[1])  # type: ignore[arg-type]

    dying.store.apply = dies_after_two  # type: ignore[method-assign]
    tokens = dying.worker.take_tokens(1)
    dying.worker.settle_tokens(tokens, (await dying.store.due(executor="dying", tokens=tokens)).leases)
    await soon(dead.wait())
    (run,) = {call.run_id for call in dying.driver.calls}
    await dying.worker.abort_all()
    dying.store.apply = apply  # type: ignore[method-assign]
    assert 300 < len(await house.items(run)) < len(STEPS)

    healing = house.hand()
    healing.driver.scripts["f"] = parallel
    clock.ms += 31_000
    async with asyncio.timeout(20):
        while not healing.ended:
            if not await healing.due():
                await asyncio.sleep(0)
    assert await house.status(run) == "Completed"
    assert await house.store.run_payload(run, "o") == [b"1000"]
    assert by_step(healing.driver.calls) == Counter(STEPS)
    assert sum(is_last_of_group(call) for call in healing.driver.calls) == 1


async def test_a_worker_whose_store_is_closed_ends(house: House, proxy: Proxy, far: Hand) -> None:
    """A commit that can reach nobody any more is given up when its executor is, and holds nothing up."""
    request = await first_request(far)
    proxy.refusing = True
    await proxy.cut()
    far.worker.run_ended(request.call.request_id)
    await soon(request.aborted.wait())
    await soon(far.worker.abort_all())
    await far.store.close()
    # The event loop turns: nothing spins on a connection that is no more.
    await soon(asyncio.sleep(0))
    assert far.worker.tokens == []
