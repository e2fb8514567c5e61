"""What an app is told, and a model asked, by a run that begins at a step with other input."""

from typing import Any

from innkeeper_apps.wire.canonical import canonical
from innkeeper_apps.wire.request import call_body
from innkeeper_engine.decide.rerunning import Earlier, FromStep, rerun
from innkeeper_engine.model.calls import Op, OpKind
from innkeeper_engine.model.guards import NoGuard
from tests.executor.house import ENV, Hand, House, function, ops, output, ran, soon

RUN = "01JB8AAAAAAAAAAAAAAAAAAAAA"


async def again(house: House, hand: Hand, from_step: FromStep) -> str:
    """A run of `f` that has done `a`, and one more of it from a step; that one's id."""
    await house.register(function("f"))
    event_id = await house.send("test/f", {"n": 1})
    await hand.route_all()
    assert await hand.due() == 1
    (await hand.driver.arrival()).answer(ops(ran("a", 1)))
    (await hand.driver.arrival()).answer(output())
    await soon(hand.worker.wait_until_idle())
    (first,) = await house.started(event_id)
    (event,) = await house.store.run_payload(first, "e:0")
    assert event is not None
    context = await hand.surroundings.context(ENV)
    effects = rerun(
        context.registry.functions["f"],
        first,
        RUN,
        [(event_id, event)],
        seq=1,
        cron="",
        context=context,
        from_step=from_step,
    )
    assert (await house.store.apply(NoGuard(), effects)).status == "ok"
    return RUN


async def test_the_first_request_is_for_the_step_and_brings_its_input(still_house: House) -> None:
    """The next ones have its result, whatever the attempts were."""
    hand = still_house.hand()
    step = FromStep("b", (Earlier("a", "a", "StepRun"),), "StepRun", ["other", {"y": 1, "x": 2}])
    run = await again(still_house, hand, step)
    assert await hand.due() == 1
    request = await hand.driver.arrival()
    assert (request.call.step_id, request.call.stack) == ("b", ("a",))
    assert b'"steps":{"a":{"data":1},"b":{"input":["other",{"x":2,"y":1}]}}' in call_body(request.call)
    request.answer(ops(ran("b", 2)))
    request = await hand.driver.arrival()
    assert (request.call.step_id, request.call.stack) == ("step", ("a", "b"))
    assert request.call.steps == {"a": b'{"data":1}', "b": b'{"data":2}'}
    request.answer(output())
    await soon(hand.worker.wait_until_idle())
    assert await still_house.status(run) == "Completed"


async def test_a_model_is_asked_with_the_body_that_was_edited(still_house: House) -> None:
    """What the edit does not name stays; the app is not told. Another step's request is its own."""
    hand = still_house.hand()
    step = FromStep("ask", (Earlier("a", "a", "StepRun"),), "AIGateway", {"prompt": "other"})
    await again(still_house, hand, step)
    assert await hand.due() == 1
    request = await hand.driver.arrival()
    assert (request.call.step_id, request.call.steps) == ("step", {"a": b'{"data":1}'})
    sealed: list[Any] = []
    hand.worker.stop_accepting()
    hand.surroundings.seal = lambda op: sealed.append(op.opts["body"]) or b"sealed"  # type: ignore[method-assign, func-returns-value]
    body = {"prompt": "first", "model": "m"}
    asked = [
        Op(id=step_id, kind=OpKind.AI_GATEWAY, opts={"url": "http://127.0.0.1:1/", "body": body})
        for step_id in ("ask", "other")
    ]
    request.answer(ops(*asked))
    await soon(hand.worker.wait_until_idle())
    assert [canonical(each) for each in sealed] == [
        b'{"model":"m","prompt":"other"}',
        b'{"model":"m","prompt":"first"}',
    ]
