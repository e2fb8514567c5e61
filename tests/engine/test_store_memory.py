"""When memory is short, what is over goes before its time and no events come in; what goes on goes on."""

import asyncio
import base64
import itertools

import msgspec
import pytest

from innkeeper_engine.model.effects import Effect, Fold, Gather
from innkeeper_engine.model.environments import Environment, Policy
from innkeeper_engine.model.guards import CursorGuard, KeptGuard
from innkeeper_engine.model.replays import Again
from innkeeper_engine.store.connection import StoreError
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_engine.store.numbers import read_shard_numbers
from innkeeper_engine.store.store import Store
from tests.engine.model_driver import TestClock
from tests.engine.model_memory import make_short, used
from tests.engine.model_runs import (
    DAY_MS,
    ENV,
    EVENT_BODY,
    FN,
    commit,
    do,
    event_id,
    fail,
    finish,
    lease,
    saved,
    start,
)

SECOND_MS = 1_000
HOUR_S = 3_600
OUTPUT = b'"' + b"x" * 15_000 + b'"'
"""Short enough to be stored as it is."""


async def run_many(store: Store, env: str, count: int, clock: TestClock, name: str = "") -> list[str]:
    """Runs that end at once, each with an output and two lines of history; in the order of their ends."""
    made = [f"{name or env}-{n}" for n in range(count)]
    for n, run in enumerate(made):
        clock.now_ms += 1
        body = start(run, event=n)._replace(env=env, fn=f"{env}/app-fn")
        await do(store, body, Fold(run, (b"{}", b"{}")), finish(run, OUTPUT))
    return made


async def is_short(store: Store, clock: TestClock) -> bool:
    """What `due` says, on a fresh look."""
    clock.now_ms += SECOND_MS
    return (await store.due()).full


async def test_a_server_without_a_limit_is_never_short(timed: Store, clock: TestClock) -> None:
    assert not await is_short(timed, clock)


async def test_the_environment_with_most_loses_its_oldest_first(small: Store, clock: TestClock) -> None:
    """Until there is room; its summaries stay and say what has gone. Others lose nothing."""
    few = await run_many(small, "few", 20, clock)
    assert not await is_short(small, clock)
    many = await run_many(small, "many", 850, clock)
    assert await is_short(small, clock)
    gone = 0
    while (shed := await small.shed(20)).full:
        assert 0 < shed.runs <= 20
        assert shed.notes == 2 * shed.runs
        gone += shed.runs
    gone += shed.runs
    assert 0 < gone < len(many) // 2
    outputs = [(await small.run_payload(run, "o"))[0] for run in many]
    assert outputs == [None] * gone + [OUTPUT] * (len(many) - gone)
    assert [(await small.run_payload(run, "o"))[0] for run in few] == [OUTPUT] * len(few)
    oldest, newest = await small.run(many[0]), await small.run(many[-1])
    assert oldest is not None
    assert newest is not None
    assert (oldest.status, oldest.notes_lost, newest.notes_lost) == ("Completed", 2, None)
    assert await small.history(many[0]) == []
    assert not await is_short(small, clock)
    counted = await small.command("HMGET", small.key("lost"), "runs", "notes")
    assert [int(each) for each in counted] == [gone, 2 * gone]
    assert (await read_shard_numbers(small, clock.now_ms)).runs_shed == gone


@pytest.mark.parametrize("keep_s", [0, HOUR_S, 30 * 86_400], ids=["unchanged", "shorter", "longer"])
async def test_the_events_of_a_run_go_with_its_payloads(small: Store, clock: TestClock, keep_s: int) -> None:
    """Unless they came within the hour, are not routed, wait in a gathering or have another run that goes on.

    Whatever is said today of how long they are kept.
    """
    events = {"old": True, "gathered": False, "shared": False, "young": False}
    await small.append("other", [(event_id(9), "x", EVENT_BODY)])
    await do(small, start("unrouted", event=9)._replace(env="other", fn="other/app-fn"), finish("unrouted"))
    for n, name in enumerate(events):
        if name == "young":
            clock.now_ms += HOUR_S * SECOND_MS
        await small.append(ENV, [(event_id(n), "x", EVENT_BODY)])
        of_event: list[Effect] = [start(name, event=n), finish(name)]
        if name == "gathered":
            of_event.append(Gather("debounce", f"{FN}|g", ENV, FN, event_id(n), DAY_MS, 0))
        await small.apply(CursorGuard(ENV, n, "", 1), of_event)
    await do(small, start("live", event=2))
    await EnvironmentStore(small).write(Environment(name=ENV, policy=Policy(events_keep_s=keep_s)))
    await make_short(small)
    assert (await small.shed()).runs == 5
    there = [await small.event(ENV, event_id(n)) for n in range(len(events))]
    assert [event is None for event in there] == list(events.values())
    assert await small.event("other", event_id(9)) is not None


async def test_nothing_goes_where_memory_is_not_short(small: Store, clock: TestClock) -> None:
    """Whoever asks: others may have made room meanwhile, and a server without a limit has room."""
    runs = await run_many(small, "env", 3, clock)
    for limit in ("16mb", "0"):
        await small.command("CONFIG", "SET", "maxmemory", limit)
        assert (await small.shed())[:4] == (0, 0, 0, False)
    assert [(await small.run_payload(run, "o"))[0] for run in runs] == [OUTPUT] * 3


async def test_no_more_goes_than_is_too_much(small: Store, clock: TestClock) -> None:
    """However large it is, and however many executors find out at once."""
    large = b'"' + b"x" * 150_000 + b'"'
    store = Store(
        small.address, msgspec.structs.replace(small.settings, compress_over_bytes=0), clock_ms=clock
    )
    await store.open()
    try:
        for n in itertools.count():
            if await used(store) > 0.81:
                break
            await do(store, start(f"r{n}", event=n), finish(f"r{n}", large))
        shed = await asyncio.gather(*(store.shed() for _ in range(4)))
    finally:
        await store.close()
    assert 1 <= sum(each.runs for each in shed) <= n // 4
    assert await used(small) > 0.7


async def test_a_script_takes_what_it_has_time_for(small: Store, clock: TestClock) -> None:
    """A run of many events takes longer than others: there are fewer of them in a script."""
    for n in range(10):
        events = tuple((event_id(100 * n + each), EVENT_BODY) for each in range(100))
        await small.append(ENV, [(each, "x", body) for each, body in events])
        await do(small, start(f"r{n}")._replace(events=events), finish(f"r{n}"))
    await make_short(small)
    taken = []
    while (shed := await small.shed()).runs:
        taken.append(shed.runs)
    assert sum(taken) == 10
    assert max(taken) <= 5


async def test_an_environment_counts_with_what_it_takes_compressed_or_not(store: Store) -> None:
    """Events, results, outputs and errors, as they lie in Redis: within what a hash takes beside them."""
    packed, random = b'"' + b"x" * 300_000 + b'"', b'"' + base64.b64encode(bytes(range(256)) * 60) + b'"'
    taken = {}
    for env, body in ("packed", packed), ("plain", random[:15_000] + b'"'):
        begun = start(env, body=b'{"data":%b,"id":"E","name":"x","ts":1,"user":{}}' % body)
        await do(store, begun._replace(env=env, fn=f"{env}/app-fn"), saved("s", body, run=env, go=False))
        again = Again(f"{env}2", env, "", 1, "", b"", ())
        rerun = start(f"{env}2", body=body)._replace(env=env, fn=f"{env}/app-fn")
        await store.apply(KeptGuard(env, 1), [rerun, again])
        await do(store, finish(env, body), fail(f"{env}2", body))
        pieces = [await store.command("HVALS", store.key(f"pl:{env}{n}")) for n in ("", "2")]
        taken[env] = sum(len(piece) for each in pieces for piece in each)
        kept = float(await store.command("ZSCORE", store.key("kept"), env))
        assert 0 <= kept - taken[env] <= 2_000, env
    assert taken["packed"] < taken["plain"]


async def test_what_went_early_is_forgotten_with_the_others(small: Store, clock: TestClock) -> None:
    """Nothing of the accounts is left when all runs have gone."""
    await run_many(small, "many", 60, clock)
    await make_short(small)
    assert (await small.shed(25)).runs == 25
    clock.now_ms += small.settings.runs_keep_s * SECOND_MS
    await small.due()
    assert await small.command("EXISTS", *map(small.key, ("shed", "kept", "ended:many", "forget"))) == 0
    assert await small.shed() == (0, 0, 0, True, False)


async def test_the_accounts_follow_what_is_there(small: Store, clock: TestClock) -> None:
    """Whichever goes first, for its time is over or for memory."""
    await run_many(small, "one", 40, clock)
    await make_short(small)
    assert (await small.shed(30)).runs == 30
    await run_many(small, "one", 40, clock, "again")
    bytes_then = float(await small.command("ZSCORE", small.key("kept"), "one"))
    assert 50 * 15_000 < bytes_then < 50 * 17_000, "those of 50 runs"
    clock.now_ms += small.settings.runs_keep_s * SECOND_MS - 41
    await small.due()
    left = int(await small.command("ZCARD", small.key("ended:one")))
    bytes_now = float(await small.command("ZSCORE", small.key("kept"), "one"))
    assert left * 15_000 < bytes_now < left * 17_000


async def test_near_the_limit_no_events_come_in_and_runs_go_on(small: Store, clock: TestClock) -> None:
    """What goes on is never taken from; when it ends, there is room again."""
    live = [f"r{n}" for n in range(14)]
    await do(small, *(start(run, event=n) for n, run in enumerate(live)))
    await small.append("env", [(event_id(100), "x", EVENT_BODY)])
    clock.now_ms += SECOND_MS
    held = [await lease(small, f"t{n}") for n in range(len(live))]
    for n in itertools.count():
        if await used(small) > 0.92:
            break
        await small.command("HSET", small.key(f"pl:{live[n % len(live)]}"), f"s{n}", b"x" * 100_000)
    assert await is_short(small, clock)
    assert await small.shed() == (0, 0, 0, True, False)
    with pytest.raises(StoreError, match=r"^OOM 90 % of maxmemory is used: no events are accepted"):
        await small.append("env", [(event_id(101), "x", EVENT_BODY)])
    assert await small.event("env", event_id(101)) is None
    for each in held:
        assert (await commit(small, each, finish(each.run))).status == "ok"
    while (await small.shed(4)).full:
        pass
    clock.now_ms += SECOND_MS
    assert await small.append("env", [(event_id(101), "x", EVENT_BODY)]) == 1
