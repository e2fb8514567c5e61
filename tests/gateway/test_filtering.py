"""What filters of lists may cost: a request, an entry, an environment."""

import asyncio

import orjson
import pytest

from innkeeper_engine.cel.values import MAX_STEPS
from innkeeper_gateway.errors import ApiError
from innkeeper_gateway.lists.filtering import MOST_STEPS, MOST_STEPS_IN_ALL, MOST_WAITING, Budget, Filters
from innkeeper_gateway.lists.filters import EVENT, MOST_STEPS_EACH, read_filter
from tests.gateway.test_lists import get, ids, pages
from tests.gateway.world import World, function

EVERY = "event.data.a.all(x, x >= 0)"


def test_an_entry_costs_what_is_read_compared_and_gone_through() -> None:
    one, more = read_filter(EVERY, EVENT), read_filter("\n".join([EVERY] * 50), EVENT)
    assert one is not None
    assert more is not None
    body = orjson.dumps({"data": {"a": list(range(1_000))}})
    wanted, steps = one.event(body)
    assert wanted
    assert steps >= len(body) // 16 + 3 * 1_000
    assert more.event(body)[1] > 40 * steps


def test_too_many_steps_for_one_entry_are_no_match() -> None:
    many = read_filter("\n".join([EVERY] * 50), EVENT)
    assert many is not None
    wanted, steps = many.event(orjson.dumps({"data": {"a": list(range(20_000))}}))
    assert not wanted
    assert MOST_STEPS_EACH <= steps < MOST_STEPS_EACH + MAX_STEPS


@pytest.mark.parametrize("op", ["==", "<="])
def test_long_texts_cost_what_comparing_them_takes(op: str) -> None:
    text = "x" * 200_000
    compare = read_filter(f"[0, 0, 0].all(x, event.data.a {op} event.data.b)", EVENT)
    assert compare is not None
    wanted, steps = compare.event(orjson.dumps({"data": {"a": text, "b": text}}))
    assert wanted
    assert steps > 400_000 // 16 + 3 * len(text) // 256


async def test_a_page_ends_with_what_its_request_may_spend(world: World) -> None:
    world.app.core.filters = Filters(steps=500)
    sent = [await world.send(data={"a": list(range(200)), "n": n}) for n in range(4)]
    cel = f"{EVERY}\nevent.data.n != 2"
    newest_first = [[sent[3]], [], [sent[1]], [sent[0]]]
    found = await pages(world, "/v1/events", "internal_id", cel=cel)
    assert [page for page in found if page] == [page for page in newest_first if page]
    assert max(len(page) for page in found) == 1
    await world.register(function("app-f"))
    await world.route()
    runs = await pages(world, "/v1/runs", "event_id", cel=cel)
    assert [each for page in runs for each in page] == [sent[3], sent[1], sent[0]]
    assert len(runs) >= 4
    assert len(await ids(world, "/v1/runs", "run_id")) == 4


async def test_branches_together_have_one_budget(world: World) -> None:
    world.app.core.filters = Filters(steps=500)
    sent = []
    for n in range(6):
        event_id = f"01HZZZZZZZZZZZZZZZZZZZZZZ{n}"
        body = orjson.dumps({"data": {"a": list(range(200))}, "id": str(n), "name": "a", "ts": 1})
        await world.store.append(f"default~{'two' if n % 2 else 'one'}", [(event_id, "a", body)])
        sent.append(event_id)
    found = await ids(world, "/v1/events", "internal_id", cel=EVERY, unknown_branch=True)
    assert sorted(found) == sent


async def test_one_environment_waits_for_itself_and_others_do_not() -> None:
    filters = Filters()
    try:
        async with filters.turn("a") as budget:
            assert budget is not None
            waiting = [asyncio.ensure_future(enter(filters, "a~branch")) for _ in range(MOST_WAITING - 1)]
            await asyncio.sleep(0)
            with pytest.raises(ApiError) as refused:
                await enter(filters, "a")
            assert refused.value.status == 429
            assert refused.value.headers == {"Retry-After": "1"}
            await enter(filters, "b")
            assert not any(each.done() for each in waiting)
        await asyncio.gather(*waiting)
        await enter(filters, "a")
    finally:
        filters.close()


async def enter(filters: Filters, env: str) -> None:
    async with filters.turn(env) as budget:
        assert budget is not None


async def test_what_has_to_be_looked_at_is_bounded_too() -> None:
    filters, budget = Filters(), Budget()
    rows = list(range(10))
    try:
        assert await filters.picked(lambda row: (row > 0, MOST_STEPS // 2), rows, budget) == [False, True]
        assert budget.is_spent
        # Each of several lists looks at one entry at least.
        assert await filters.picked(lambda _: (True, 5), rows, budget) == [True]
        with pytest.raises(ApiError, match="name one of them with x-inngest-env"):
            await filters.picked(lambda _: (True, MOST_STEPS_IN_ALL), rows, budget)
        with pytest.raises(ApiError):
            await filters.picked(lambda _: (True, 0), rows, budget)
    finally:
        filters.close()


async def test_a_filter_that_takes_long_is_no_trouble_with_redis(world: World) -> None:
    await world.send(data={"a": list(range(20_000))})
    reply = await get(world, "/v1/events", cel="\n".join([EVERY] * 50))
    assert reply["data"] == []
    assert reply["page"]["has_more"] is False
