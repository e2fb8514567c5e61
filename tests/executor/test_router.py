"""Events take effect in the order in which they were accepted, each exactly once, whoever routes."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from innkeeper_engine.cel import bind, compile_expression
from innkeeper_engine.decide.runs import start_effect
from innkeeper_engine.model.clock import derived_ulid
from innkeeper_engine.model.effects import MAX_EFFECTS, Effect, Wait
from innkeeper_engine.model.functions import Cancel, FunctionConfig, Singleton
from innkeeper_engine.model.guards import CursorGuard, Guard, NoGuard
from innkeeper_engine.model.state import Applied
from innkeeper_engine.registry import Registries
from tests.conftest import OpenStore
from tests.executor.house import ENV, Hand, House, function, ops, output, soon, wait_for

YEAR_MS = 365 * 86_400_000


class DeathError(Exception):
    """The process that routed is no more."""


def dies_before(hand: Hand, piece: int) -> None:
    """The router's `piece`-th commit (from 1) is never sent."""
    apply, commits = hand.store.apply, 0

    async def dying(guard: Any, effects: Any, **kwargs: Any) -> Applied:
        nonlocal commits
        commits += isinstance(guard, CursorGuard)
        if commits == piece:
            hand.store.apply = apply  # type: ignore[method-assign]
            raise DeathError
        return await apply(guard, effects, **kwargs)

    hand.store.apply = dying  # type: ignore[method-assign]


async def cursor(house: House) -> int:
    """How many events have been routed."""
    return int(await house.store.command("GET", house.store.key(f"ec:{ENV}")) or 0)


async def waiting_runs(
    house: House, count: int, *, name: str = "test/answer", condition: str = ""
) -> list[str]:
    """Runs of `w` that wait for an event, as their first request left them."""
    registry = await Registries(house.store).current(ENV)
    entry = registry.functions["w"]
    runs = []
    effects: list[Effect] = []
    for n in range(count):
        event_id, _, body = house.event("test/w", {"n": n})
        run = derived_ulid(house.clock.now_ms(), "waiting", event_id)
        event = orjson.loads(body)
        effects.append(
            start_effect(entry, run_id=run, event=event, events=((event_id, body),), event_seq=0, order_ms=n)
        )
        path, value, bound_json = "", "", b""
        if condition:
            bound = bind(compile_expression(condition), event)
            path, value = bound.index or ("", "")
            bound_json = orjson.dumps(bound.dump())
        effects.append(
            Wait(f"{run}.answer", run, "answer", "event", ENV, name, path, value,
                 house.clock.now_ms() + YEAR_MS, bound_json, b"null")
        )  # fmt: skip
        runs.append(run)
    for first in range(0, len(effects), MAX_EFFECTS):
        assert (await house.store.apply(NoGuard(), effects[first : first + MAX_EFFECTS])).status == "ok"
    return runs


async def assert_resumed_once(house: House, runs: list[str]) -> None:
    """Each run has the answer, and one request more (besides its first, which nobody has leased)."""
    for run in runs:
        assert await house.steps(run) == ["answer"]
        assert await house.items(run) == [f"{run}.0", f"{run}.1"]


async def fight(*hands: Hand) -> None:
    """Route with all of them at once until nothing is left."""
    await asyncio.gather(*(hand.route_all() for hand in hands))


@pytest.fixture
async def rivals(house: House, open_store: OpenStore) -> tuple[Hand, Hand]:
    """Two routers, each with a connection of its own and small portions, so that they meet often."""
    prefix = house.store.settings.prefix
    return (
        house.hand(await open_store(prefix=prefix), route_batch=3),
        house.hand(await open_store(prefix=prefix), route_batch=5),
    )


CANCELLED = function("f", cancel=[Cancel(event="test/stop", expression="event.data.n == async.data.n")])


async def test_what_an_event_started_is_cancelled_by_the_next(
    house: House, rivals: tuple[Hand, Hand]
) -> None:
    """Sent one after the other, each after the one before was acknowledged; two routers fight over them."""
    await house.register(CANCELLED)
    starts = []
    for n in range(40):
        starts.append(await house.send("test/f", {"n": n}))
        await house.send("test/stop", {"n": n})
    await soon(fight(*rivals), 10)
    for event in starts:
        (run,) = await house.started(event)
        assert await house.status(run) == "Cancelled"
    assert await cursor(house) == 120, "80 sent, and one of each cancellation"


@pytest.mark.parametrize("events", [40, 1], ids=["40 events", "40 functions"])
async def test_runs_that_take_singletons_over_are_made_a_few_at_a_time(house: House, events: int) -> None:
    """Each ends another one in the same script, with all that it waits for."""
    singleton = Singleton(mode="cancel", key="event.data.n" if events > 1 else None)
    slugs = ["f"] if events > 1 else [f"f{n}" for n in range(40)]
    found = [replace(function(slug, "test/f"), singleton=singleton) for slug in slugs]
    await house.register(*found, function("g", "test/f"))
    hand = house.hand()
    scripts: list[int] = []
    apply = hand.router._apply

    async def counted(guard: Guard, effects: Sequence[Effect], *, registry: int | None = None) -> Applied:
        scripts.append(sum(bool(getattr(effect, "rights", ())) for effect in effects))
        return await apply(guard, effects, registry=registry)

    hand.router._apply = counted
    sent = []
    for _ in range(2):
        sent += [await house.send("test/f", {"n": n}) for n in range(events)]
        await hand.route_all()
    assert max(scripts) <= 16
    assert sum(scripts) == 80
    runs = [run for event in sent for run in await house.started(event)]
    assert len(runs) == 80 + 2 * events
    statuses = [await house.status(run) for run in runs]
    assert (statuses.count("Cancelled"), statuses.count("Scheduled")) == (40, 40 + 2 * events)


async def test_an_event_does_not_cancel_what_a_later_one_starts(
    house: House, rivals: tuple[Hand, Hand]
) -> None:
    """Nor what it starts itself."""
    await house.register(function("f", "test/f", "test/stop", cancel=[Cancel(event="test/stop")]))
    started = []
    for _ in range(10):
        await house.send("test/stop")
        started.append(await house.send("test/f"))
    await soon(fight(*rivals), 10)
    for event in started[:-1]:
        (run,) = await house.started(event)
        assert await house.status(run) == "Cancelled"
    (last,) = await house.started(started[-1])
    assert await house.status(last) == "Scheduled"


async def test_what_waits_when_an_event_is_accepted_is_resumed_by_it(
    house: House, rivals: tuple[Hand, Hand]
) -> None:
    """Once, by the first event that matches, though two routers see all of them."""
    await house.register(function("w"))
    runs = await waiting_runs(house, 20, condition="event.data.n == async.data.n")
    answers = {n: await house.send("test/answer", {"n": n}) for n in range(20)}
    for n in range(20):
        await house.send("test/answer", {"n": n})
    await soon(fight(*rivals), 10)
    await assert_resumed_once(house, runs)
    for n, run in enumerate(runs):
        (result,) = await house.store.run_payload(run, "answer")
        assert orjson.loads(result or b"")["id"] == answers[n]


async def test_executors_resume_and_cancel_what_they_started(house: House) -> None:
    """The same with whole executors, their loops and an app."""
    await house.register(
        function("f", cancel=[Cancel(event="test/stop", expression="event.data.n == async.data.n")])
    )
    executors = [await house.start_executor() for _ in range(2)]
    for n in range(8):
        await house.send("test/f", {"n": n})
        request = await house.driver.arrival()
        run = request.call.run_id
        if n % 2:
            await house.send("test/stop", {"n": n})
            await soon(request.aborted.wait())
            assert await house.status(run) == "Cancelled"
        else:
            request.answer(ops(wait_for("answer", "test/answer")))
            for executor in executors:
                await soon(executor._worker.wait_until_idle())
            await house.send("test/answer", {"n": n})
            request = await house.driver.arrival()
            assert request.call.stack == ("answer",)
            request.answer(output())
            await house.run_ended(run)


async def test_a_batch_ends_before_an_event_that_may_cancel_what_it_starts(house: House) -> None:
    """Its runs have no rule in the store before they are there."""
    await house.register(CANCELLED, function("g"))
    hand = house.hand()
    for name in ("test/g", "test/f", "test/g", "test/stop", "test/g"):
        await house.send(name, {"n": 1})
    assert await hand.router.route_once()
    assert await cursor(house) == 3
    assert await hand.router.route_once()
    assert await cursor(house) == 5


async def test_events_that_nobody_knows_are_routed_past(house: House) -> None:
    """They start nothing, and hold nothing up."""
    await house.register(function("f"))
    hand = house.hand()
    for n in range(300):
        await house.send(f"unknown/{n}")
    event = await house.send("test/f")
    await hand.route_all()
    assert await cursor(house) == 301
    assert len(await house.started(event)) == 1


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[]", b"null", b'{"data":null,"ts":"now","id":7}'])
async def test_an_odd_event_does_not_stop_the_cursor(house: House, body: bytes) -> None:
    """The gateway stores none of these; if one is there all the same, those behind it must not wait for ever."""
    await house.register(CANCELLED)
    await waiting(house)
    hand = house.hand()
    event_id, _, _ = house.event("test/f")
    stop_id, _, _ = house.event("test/stop")
    await house.store.append(ENV, [(event_id, "test/f", body), (stop_id, "test/stop", body)])
    good = await house.send("test/f", {"n": 2})
    await hand.route_all()
    assert await cursor(house) == 4
    assert len(await house.started(good)) == 1


async def waiting(house: House) -> None:
    """A run of `f` that an event may cancel."""
    await house.send("test/f", {"n": 1})
    await house.hand().route_all()


async def test_an_event_that_expired_before_it_was_routed_meets_nobody(house: House) -> None:
    """Its body is gone with the retention; the cursor goes on."""
    await house.register(function("f"))
    hand = house.hand()
    gone = await house.send("test/f")
    await house.store.command("DEL", house.store.key(f"ev:{ENV}:{gone}"))
    there = await house.send("test/f")
    await hand.route_all()
    assert await house.started(gone) == []
    assert len(await house.started(there)) == 1


async def test_the_registry_counts_as_it_is_when_the_event_is_routed(house: House) -> None:
    """A function that came after the event was accepted is started, one that went is not."""
    await house.register(function("f", "test/go"), function("g", "test/other"))
    hand = house.hand()
    first = await house.send("test/go")
    await hand.route_all()
    second = await house.send("test/go")
    await house.register(function("g", "test/go"), function("h", "test/go"))
    await hand.route_all()
    (of_first,) = await house.started(first)
    slugs = [(await house.store.run(run)).slug for run in await house.started(second)]  # type: ignore[union-attr]
    assert (await house.store.run(of_first)).slug == "f"  # type: ignore[union-attr]
    assert slugs == ["g", "h"]


async def test_an_event_with_a_thousand_waiters_resumes_each_once(house: House) -> None:
    """In pieces, none of which holds the server up."""
    await house.register(function("w"))
    runs = await waiting_runs(house, 1_000)
    hand = house.hand()
    before = await house.send("test/w")
    await house.send("test/answer")
    after = await house.send("test/w")
    await hand.route_all()
    await assert_resumed_once(house, runs)
    assert len(await house.started(before)) == len(await house.started(after)) == 1
    assert await cursor(house) == 3


Routes = Callable[[], Awaitable[None]]


async def routed_by_mortals(house: House, deaths: tuple[int, ...], between: Routes | None = None) -> None:
    """Routers that die before their n-th commit, one after the other, then one that lives."""
    for piece in deaths:
        hand = house.hand()
        dies_before(hand, piece)
        with pytest.raises(DeathError):
            await hand.route_all()
        if between is not None:
            await between()
    await house.hand().route_all()


@pytest.mark.parametrize("deaths", [(1,), (2, 1), (2, 2, 2), (6,)])
async def test_a_router_that_dies_among_a_thousand_waiters_loses_none(
    house: House, deaths: tuple[int, ...]
) -> None:
    """The next one goes on within the event. A third of the waiters does not match, and stays."""
    await house.register(function("w"))
    matching = await waiting_runs(house, 340, condition="async.data.n > 1")
    others = await waiting_runs(house, 320, condition="async.data.n > 2")
    matching += await waiting_runs(house, 340)
    event = await house.send("test/answer", {"n": 2})
    await routed_by_mortals(house, deaths)
    await assert_resumed_once(house, matching)
    for run in others:
        assert await house.steps(run) == []
    assert await house.store.is_routed(ENV, 1)
    (result,) = await house.store.run_payload(matching[0], "answer")
    assert orjson.loads(result or b"")["id"] == event


async def test_waiters_under_several_paths_are_all_met_though_the_first_path_is_gone(house: House) -> None:
    """A router dies when it has resumed everybody of one index: that index is no more, the other still is."""
    await house.register(function("w"))
    plain = await waiting_runs(house, 300)
    indexed = await waiting_runs(house, 1, condition="async.data.kind == 'x'")
    await house.send("test/answer", {"kind": "x"})
    # 200 and 100 waiters; the third piece is the other index.
    await routed_by_mortals(house, (3,))
    await assert_resumed_once(house, plain + indexed)


def many(first: int, last: int) -> list[FunctionConfig]:
    """Functions that one event starts."""
    return [function(f"f{n:03}", "test/go") for n in range(first, last)]


@pytest.mark.parametrize("deaths", [(), (2,), (3, 1)])
async def test_an_event_that_starts_six_hundred_functions_starts_each_once(
    house: House, deaths: tuple[int, ...]
) -> None:
    """In pieces, whichever router does them."""
    await house.register(*many(0, 600))
    event = await house.send("test/go")
    await routed_by_mortals(house, deaths)
    await assert_started_once(house, event, 0, 600)


async def assert_started_once(house: House, event: str, first: int, last: int) -> None:
    """Exactly these functions have a run of the event."""
    runs = await house.store.event_runs(ENV, event)
    assert sorted(run.slug for run in runs) == [f"f{n:03}" for n in range(first, last)]


async def test_functions_that_go_between_the_pieces_do_not_hide_others(house: House) -> None:
    """The first hundred functions are gone when the second router goes on: the others are all started."""
    await house.register(*many(0, 600))
    event = await house.send("test/go")

    async def without_the_first_hundred() -> None:
        await house.register(*many(100, 600))

    await routed_by_mortals(house, (2,), without_the_first_hundred)
    await assert_started_once(house, event, 0, 600)


async def test_two_routers_share_a_large_event_without_doing_it_twice(
    house: House, rivals: tuple[Hand, Hand]
) -> None:
    """Waiters and functions, fought over."""
    await house.register(function("w"), app="waiting")
    await house.register(*many(0, 300))
    runs = await waiting_runs(house, 500, name="test/go")
    event = await house.send("test/go")
    await soon(fight(*rivals), 20)
    await assert_resumed_once(house, runs)
    await assert_started_once(house, event, 0, 300)
