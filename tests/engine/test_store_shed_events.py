"""When memory is short and no ended run has anything left, events go that nobody needs any more."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from innkeeper_engine.model.clock import encode_ulid
from innkeeper_engine.model.effects import Effect, Gather
from innkeeper_engine.model.guards import CursorGuard, GatherGuard
from innkeeper_engine.store.lists import NEWEST, EventPosition, Lists
from innkeeper_engine.store.numbers import read_shard_numbers
from innkeeper_engine.store.store import Store
from tests.engine.model_driver import TestClock
from tests.engine.model_memory import make_room, make_short, used
from tests.engine.model_runs import DAY_MS, ENV, EVENT_BODY, FN, cancel, do, finish, route_all, start

pytestmark = pytest.mark.long

SECOND_MS = 1_000
HOUR_MS = 3_600 * SECOND_MS
LARGE = b'{"data":"%b"}' % (b"x" * 15_000)
"""Short enough to be stored as it is."""


def an_id(n: int) -> str:
    """The id of event `n`."""
    return encode_ulid(1_000, n)


async def send(
    store: Store, env: str, first: int, count: int, name: str = "x", body: bytes = EVENT_BODY
) -> list[str]:
    """Events numbered from `first`; their ids."""
    ids = [an_id(n) for n in range(first, first + count)]
    await store.append(env, [(each, name, body) for each in ids])
    return ids


async def there(store: Store, env: str, ids: list[str]) -> list[bool]:
    """Whether each is still kept."""
    return [await store.event(env, each) is not None for each in ids]


async def listed(store: Store, env: str, name: str = "", at: EventPosition = NEWEST) -> list[str]:
    """The ids of a list, in pages of three."""
    found = list[str]()
    for _ in range(1_000):
        page = await Lists(store).events(env, name=name, limit=3, at=at)
        found += [row.id for row in page.rows]
        if page.after is None:
            return found
        at = page.after
    raise AssertionError("a list without an end")


async def shed_all(store: Store, n: int = 200) -> int:
    """Shed until nothing is left to take. How many events went."""
    gone = 0
    for _ in range(1_000):
        shed = await store.shed(n)
        assert shed.full
        assert shed.events <= n
        gone += shed.events
        if not shed.more:
            return gone
    raise AssertionError("it takes without an end")


@asynccontextmanager
async def calls_of(store: Store, most: int) -> AsyncIterator[None]:
    """Commands that run meanwhile, those of scripts included, are `most` at most."""
    await store.command("CONFIG", "RESETSTAT")
    yield
    info = (await store.command("INFO", "commandstats")).decode()
    lines = [line for line in info.splitlines() if line.startswith("cmdstat_")]
    assert sum(int(line.partition("calls=")[2].partition(",")[0]) for line in lines) <= most


async def test_the_environment_with_most_events_loses_its_oldest_first(
    small: Store, clock: TestClock
) -> None:
    """Until there is room; one that has few keeps all of them."""
    few = await send(small, "few", 0, 20, body=LARGE)
    many: list[str] = []
    while await used(small) <= 0.81:
        many += await send(small, "many", len(many), 10, body=LARGE)
        clock.now_ms += 1
    await route_all(small)
    clock.now_ms += HOUR_MS
    gone = 0
    while (shed := await small.shed(7)).full:
        assert 0 < shed.events <= 7
        assert (shed.runs, shed.notes, shed.more) == (0, 0, True)
        gone += shed.events
    gone += shed.events
    assert 0 < gone < len(many) // 4
    assert await there(small, "many", many) == [False] * gone + [True] * (len(many) - gone)
    assert all(await there(small, "few", few))
    assert await used(small) < 0.79
    assert await listed(small, "many") == many[gone:][::-1]
    assert await small.command("XLEN", small.key("ei:many")) == len(many) - gone
    assert (await read_shard_numbers(small, clock.now_ms)).events_shed == gone
    assert not (await small.due()).full


async def test_environments_lose_events_by_turns_once_they_have_as_many(
    small: Store, clock: TestClock
) -> None:
    """What one has more goes first, a page more or less."""
    for env, count in (("one", 700), ("other", 300)):
        await send(small, env, 0, count)
    await route_all(small)
    clock.now_ms += HOUR_MS
    await make_short(small)
    gone = 0
    while gone < 600:
        gone += (await small.shed(50)).events
        left = [await small.command("XLEN", small.key(f"ei:{env}")) for env in ("one", "other")]
        assert left[1] == 300 or abs(left[0] - left[1]) <= 64
    assert left[1] < 300


async def test_no_event_goes_by_itself_while_an_ended_run_has_something_left(
    small: Store, clock: TestClock
) -> None:
    """In the script that takes from the last of them, events may follow."""
    events = await send(small, "e", 0, 5)
    await route_all(small)
    await do(small, *(each for n in range(10) for each in (start(f"r{n}", event=n), finish(f"r{n}"))))
    clock.now_ms += HOUR_MS
    await make_short(small)
    assert (await small.shed(9))[:3] == (9, 0, 0)
    assert all(await there(small, "e", events))
    assert await small.shed(4) == (1, 0, 3, True, True)
    assert await there(small, "e", events) == [False] * 3 + [True] * 2


async def test_events_that_somebody_needs_stay(small: Store, clock: TestClock) -> None:
    """For as long as a repeated send must find them, until they are routed, while a run goes on, in a gathering."""
    old = await send(small, ENV, 0, 4)
    started, gathered, _, unrouted = old
    of_started: list[Effect] = [start("live")._replace(events=((started, EVENT_BODY),))]
    await small.apply(CursorGuard(ENV, 0, "", 1), of_started)
    await small.apply(
        CursorGuard(ENV, 1, "", 1), [Gather("debounce", f"{FN}|g", ENV, FN, gathered, DAY_MS, 0)]
    )
    await small.apply(CursorGuard(ENV, 2, "", 1), [])
    clock.now_ms += HOUR_MS
    await make_short(small)
    assert await shed_all(small) == 1
    assert await there(small, ENV, old) == [True, True, False, True]
    assert await listed(small, ENV) == [unrouted, gathered, started]

    await small.apply(CursorGuard(ENV, 3, "", 1), [])
    assert await shed_all(small) == 0, "it was looked at just now"
    clock.now_ms += 10 * SECOND_MS
    assert await shed_all(small) == 1
    assert await there(small, ENV, old) == [True, True, False, False]

    await do(small, cancel("live"))
    assert (await small.shed()).events == 1, "with its run"
    clock.now_ms += DAY_MS
    (due,) = (await small.due()).gathered
    await small.apply(GatherGuard(due.id), [])
    assert await shed_all(small) == 1, "no run has begun with it, and the list is gone through once more"
    assert await listed(small, ENV) == []


async def test_a_repeated_send_is_recognised_for_an_hour(small: Store, clock: TestClock) -> None:
    """Then the event may come once more, and is on the list as that."""
    again = [(an_id(0), "x", EVENT_BODY)]
    await send(small, "e", 0, 1)
    await route_all(small)
    clock.now_ms += HOUR_MS - 2 * SECOND_MS
    for is_over in (0, 1):
        await make_short(small)
        assert await shed_all(small) == is_over
        await make_room(small)
        clock.now_ms += SECOND_MS
        assert await small.append("e", again, seeded=True) == is_over
        clock.now_ms += SECOND_MS
    assert await listed(small, "e") == [an_id(0)]
    await route_all(small)
    await make_short(small)
    assert await shed_all(small) == 0, "it is young"


async def test_an_id_that_came_again_after_its_expiry_does_not_end_the_search(
    small: Store, clock: TestClock
) -> None:
    """It stands on the list twice, first where it was once."""
    first, second = await send(small, "e", 0, 2)
    await route_all(small)
    clock.now_ms += HOUR_MS
    await small.command("DEL", small.key(f"ev:e:{first}"))
    await send(small, "e", 0, 1)
    await make_short(small)
    assert await shed_all(small) == 1
    assert await there(small, "e", [first, second]) == [True, False]


async def test_lists_by_name_go_on_where_what_they_would_have_followed_has_gone(
    small: Store, clock: TestClock
) -> None:
    """Also from a place that was given before. Names keep their numbers."""
    ids = [(await send(small, ENV, n, 1, "ab"[n % 2]))[0] for n in range(40)]
    stays = {3, 16, 17, 30}
    await do(small, *(start(f"r{n}")._replace(events=((ids[n], EVENT_BODY),)) for n in stays))
    await route_all(small)
    clock.now_ms += HOUR_MS
    young = [(await send(small, ENV, n, 1, "ab"[n % 2]))[0] for n in range(40, 44)]
    places = [
        row.after
        for name in "ab"
        for row in (await Lists(small).events(ENV, name=name, limit=50)).rows
        if row.after
    ]
    names = await Lists(small).event_types(ENV)
    await make_short(small)
    assert await shed_all(small) == 36
    left = [*(ids[n] for n in sorted(stays)), *young]
    assert await listed(small, ENV) == left[::-1]
    by_name = {
        name: [each for n, each in enumerate([*ids, *young]) if each in left and n % 2 == odd][::-1]
        for odd, name in enumerate("ab")
    }
    for name in "ab":
        assert await listed(small, ENV, name) == by_name[name]
    for n, place in enumerate(places):
        name = "ab"[n >= len(places) // 2]
        found = await listed(small, ENV, name, place)
        assert found == by_name[name][len(by_name[name]) - len(found) :]
    assert await Lists(small).event_types(ENV) == names


async def test_what_may_not_go_is_not_read_again_until_an_hour_later(small: Store, clock: TestClock) -> None:
    """However much it is, each script does so much and no more, and what comes after it is found."""
    held = await send(small, "e", 0, 2_000)
    await small.command("MSET", *itertools.chain(*((small.key(f"el:e:{each}"), 1) for each in held)))
    free = await send(small, "e", 2_000, 10)
    await route_all(small)
    clock.now_ms += HOUR_MS
    await make_short(small)
    gone = scripts = 0
    while True:
        async with calls_of(small, 2_300):
            shed = await small.shed()
        gone, scripts = gone + shed.events, scripts + 1
        if not shed.more:
            break
    assert gone == len(free)
    assert 4 <= scripts <= 12
    async with calls_of(small, 30):
        assert await small.shed() == (0, 0, 0, True, False)
    assert all(await there(small, "e", held[::100]))
    await small.command("DEL", *(small.key(f"el:e:{each}") for each in held))
    clock.now_ms += HOUR_MS
    assert await shed_all(small) == len(held)


async def test_of_many_environments_each_is_looked_at(small: Store, clock: TestClock) -> None:
    """A few hundred in each script, until it is known that none has anything that may go."""
    late = [f"late{n}" for n in range(5)]
    for n, env in enumerate(late):
        await send(small, env, 0, 3 + n)
    await route_all(small)
    clock.now_ms += HOUR_MS
    for n in range(700):
        await send(small, f"e{n:03}", 0, 1)
    await route_all(small)
    await make_short(small)
    gone = 0
    while True:
        async with calls_of(small, 2_600):
            shed = await small.shed()
        gone += shed.events
        if not shed.more:
            break
    assert gone == sum(3 + n for n in range(len(late)))
    async with calls_of(small, 900):
        assert not (await small.shed()).more
    clock.now_ms += HOUR_MS
    assert await shed_all(small) == 700


@pytest.mark.parametrize("seed", range(3))
async def test_all_goes_that_may_and_nothing_else(small: Store, clock: TestClock, seed: int) -> None:
    """Whatever stands beside whatever, and however little each script takes."""
    random = Random(seed)
    kinds = ["free", "free", "expired", "live", "held"]
    sent: dict[str, list[tuple[str, str]]] = {}
    for env in ("a", "b", "c"):
        ids = await send(small, env, 0, random.randint(50, 250))
        sent[env] = [(each, random.choice(kinds)) for each in ids]
    await route_all(small)
    for env, events in sent.items():
        for each, kind in events:
            if kind == "expired":
                await small.command("DEL", small.key(f"ev:{env}:{each}"))
            if kind == "live":
                await small.command("SET", small.key(f"el:{env}:{each}"), 1)
            if kind == "held":
                await small.command("HSET", small.key(f"eg:{env}"), each, 1)
    clock.now_ms += HOUR_MS
    for env, events in sent.items():
        events += [(each, "young") for each in await send(small, env, 1_000, random.randint(0, 80))]
    if seed:
        await route_all(small)
    await make_short(small)
    free = sum(kind == "free" for events in sent.values() for _, kind in events)
    assert await shed_all(small, n=random.choice([1, 7, 200])) == free
    for env, events in sent.items():
        left = [each for each, kind in events if kind not in ("free", "expired")]
        assert [row async for row in still_there(small, env, [each for each, _ in events])] == left
        assert await listed(small, env) == left[::-1]
        assert await small.command("XLEN", small.key(f"ei:{env}")) == len(left)


async def still_there(store: Store, env: str, ids: list[str]) -> AsyncIterator[str]:
    """Those of them that are kept."""
    for each, is_there in zip(ids, await there(store, env, ids), strict=True):
        if is_there:
            yield each


async def test_whoever_makes_room_at_the_same_time_has_a_part_in_it(small: Store, clock: TestClock) -> None:
    """Together they take no more than is too much."""
    many: list[str] = []
    while await used(small) <= 0.81:
        many += await send(small, "many", len(many), 10, body=LARGE)
    await route_all(small)
    clock.now_ms += HOUR_MS
    shed = await asyncio.gather(*(small.shed() for _ in range(4)))
    assert 1 <= sum(each.events for each in shed) <= len(many) // 8
    assert await used(small) > 0.74


async def test_events_of_a_known_name_cost_no_write_more(small: Store, clock: TestClock) -> None:
    """Environments are noted with the first event of a name on a day, and not with those that follow."""
    await send(small, "e", 0, 1)
    assert await small.command("ZRANGE", small.key("eis"), 0, -1) == [b"e"]
    await small.command("DEL", small.key("eis"))
    for n in range(1, 300):
        await send(small, "e", n, 1)
    await route_all(small)
    assert await small.command("EXISTS", small.key("eis"), small.key("eiat")) == 0
    await send(small, "e", 300, 1, "another")
    assert await small.command("ZRANGE", small.key("eis"), 0, -1) == [b"e"]


@pytest.mark.parametrize("who", ["shed", "watch"])
async def test_what_is_known_of_an_environment_goes_with_its_events(
    small: Store, clock: TestClock, who: str
) -> None:
    """Whether memory is short or not. When events come again, it is known again."""
    await send(small, "e", 0, 3)
    await route_all(small)
    clock.now_ms += HOUR_MS
    await send(small, "e", 3, 1)
    await make_short(small)
    assert await shed_all(small) == 3
    assert await small.command("HKEYS", small.key("eiat")) == [b"e"]
    clock.now_ms += 6 * DAY_MS
    # As their expiry does, by the server's own clock.
    await small.command("DEL", *(small.key(name) for name in ("ei:e", "en:e", f"ev:e:{an_id(3)}")))
    if who == "shed":
        assert await shed_all(small) == 0
    else:
        await small.watch()
    assert await small.command("EXISTS", small.key("eis"), small.key("eiat")) == 0
    await make_room(small)
    clock.now_ms += SECOND_MS
    await send(small, "e", 10, 2)
    await route_all(small)
    clock.now_ms += HOUR_MS
    await make_short(small)
    assert await shed_all(small) == 2
