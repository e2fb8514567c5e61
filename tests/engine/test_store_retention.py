"""What is over goes when its environment's retention says so, without a scan; what is not finished never does."""

import pytest

from innkeeper_engine.model.effects import Keep
from innkeeper_engine.model.environments import Environment, Policy, branch_name
from innkeeper_engine.model.guards import CursorGuard
from innkeeper_engine.store.environments import EnvironmentStore
from innkeeper_engine.store.store import Store
from tests.engine.model_driver import TestClock
from tests.engine.model_runs import (
    ENV,
    EVENT_BODY,
    begin,
    commit,
    do,
    event_id,
    fail,
    finish,
    route_all,
    start,
)
from tests.engine.model_server import read_shard

HOUR_S, DAY_S = 3_600, 86_400
LATE_S = DAY_S
"""How much longer a run's summary lasts where nobody forgets the run."""


async def grant(store: Store, env: str = ENV, *, events_keep_s: int = 0, runs_keep_s: int = 0) -> None:
    """Make this an environment's policy."""
    policy = Policy(events_keep_s=events_keep_s, runs_keep_s=runs_keep_s)
    await EnvironmentStore(store).write(Environment(name=env, policy=policy))


async def ttl_s(store: Store, key: str) -> int:
    """Seconds left, rounded up; -1 for ever, -2 where it is gone."""
    ttl_ms = int(await store.command("PTTL", store.key(key)))
    return ttl_ms if ttl_ms < 0 else -(-ttl_ms // 1000)


async def send(store: Store, number: int, env: str = ENV) -> str:
    """Append an event; its key."""
    await store.append(env, [(event_id(number), "x", EVENT_BODY)])
    return f"ev:{env}:{event_id(number)}"


async def test_an_event_is_kept_for_ever_until_it_is_routed(store: Store) -> None:
    """However long routing is away; its retention begins then."""
    first, second = await send(store, 1), await send(store, 2)
    assert [await ttl_s(store, key) for key in (first, second)] == [-1, -1]
    await store.apply(CursorGuard(ENV, 0, "", 1), [])
    assert [await ttl_s(store, key) for key in (first, second)] == [store.settings.events_keep_s, -1]


async def test_events_the_engine_sends_wait_as_all_others(store: Store) -> None:
    """Of a failure, for one."""
    await begin(store)
    await do(store, fail())
    (key,) = [name for name in await read_shard(store) if name.startswith("ev:")]
    assert await ttl_s(store, key) == -1
    await route_all(store)
    assert await ttl_s(store, key) == store.settings.events_keep_s


@pytest.mark.parametrize(
    ("policy_s", "kept_s"), [(7 * DAY_S, 7 * DAY_S), (2 * HOUR_S, 2 * HOUR_S), (60, HOUR_S), (0, 3 * DAY_S)]
)
async def test_events_are_kept_for_their_environments_retention(
    store: Store, policy_s: int, kept_s: int
) -> None:
    """An hour at least, so that a repeated send is known; without one, for the installation's."""
    await grant(store, events_keep_s=policy_s)
    key = await send(store, 1)
    await do(store, Keep(ENV, event_id(2), EVENT_BODY))
    other = await send(store, 1, "other")
    await route_all(store)
    assert await ttl_s(store, key) == kept_s
    assert await ttl_s(store, f"ev:{ENV}:{event_id(2)}") == kept_s
    assert await ttl_s(store, other) == store.settings.events_keep_s


async def test_runs_are_kept_for_their_environments_retention(store: Store) -> None:
    """With payloads, history and what the event has started."""
    await grant(store, runs_keep_s=DAY_S)
    held = await begin(store)
    keys = [f"{kind}:run" for kind in ("run", "pl")] + [f"er:{ENV}:{event_id(1)}"]
    assert [await ttl_s(store, key) for key in keys] == [-1, -1, -1]
    await commit(store, held, finish())
    assert [await ttl_s(store, key) for key in keys] == [DAY_S + LATE_S, DAY_S, DAY_S]


async def test_a_branch_keeps_what_its_environment_does(store: Store) -> None:
    """Its own record has nothing to say."""
    branch = branch_name(ENV, "feature/x")
    await grant(store, events_keep_s=2 * HOUR_S)
    await grant(store, branch, events_keep_s=5 * HOUR_S)
    key = await send(store, 1, branch)
    await route_all(store)
    assert await ttl_s(store, key) == 2 * HOUR_S


async def test_a_policy_that_is_taken_back_counts_no_more(store: Store) -> None:
    """Nor that of an environment that is gone."""
    for n, take_back in enumerate((grant(store), EnvironmentStore(store).remove(ENV))):
        await grant(store, events_keep_s=2 * HOUR_S)
        await take_back
        key = await send(store, n)
        await route_all(store)
        assert await ttl_s(store, key) == store.settings.events_keep_s
    assert "keeps" not in await read_shard(store)


async def test_an_idle_environment_forgets_its_runs_too(timed: Store, clock: TestClock) -> None:
    """No run need end for it; nothing is left then."""
    for n in range(200):
        await do(timed, start(f"r{n}", event=n), finish(f"r{n}"))
    clock.now_ms += timed.settings.runs_keep_s * 1000 - 1
    await timed.due()
    assert await timed.command("ZCARD", timed.key(f"ended:{ENV}")) == 200
    clock.now_ms += 5_000
    for _ in range(4):
        await timed.due()
    left = await read_shard(timed)
    assert not {"forget", f"ended:{ENV}", f"runs:{ENV}"} & set(left)
    assert not [name for name in left if name.startswith(("run:", "pl:"))]


async def test_no_script_forgets_many_runs_at_once(timed: Store, clock: TestClock) -> None:
    """What is left wakes whoever sleeps."""
    for n in range(100):
        await do(timed, start(f"r{n}", event=n), finish(f"r{n}"))
    clock.now_ms += timed.settings.runs_keep_s * 1000
    await timed.command("DEL", timed.key("wake"))
    await timed.due()
    assert await timed.command("ZCARD", timed.key(f"ended:{ENV}")) == 36
    assert await timed.command("LLEN", timed.key("wake")) == 1


async def test_a_shorter_retention_counts_for_what_has_ended(timed: Store, clock: TestClock) -> None:
    """From the next end on, at the latest."""
    await do(timed, start("old"), finish("old"))
    await grant(timed, runs_keep_s=HOUR_S)
    await do(timed, start("new", event=2), finish("new"))
    clock.now_ms += HOUR_S * 1000
    await timed.due()
    assert await timed.recent_runs(ENV, 9) == []
    assert await timed.run("old") is None
    assert await timed.run_payload("old", "o") == [None]


async def test_a_longer_retention_counts_for_what_ends_from_then_on(timed: Store, clock: TestClock) -> None:
    """What has ended before goes when that was said, although it would be kept today."""
    await do(timed, start("old"), finish("old"))
    clock.now_ms += 1
    await grant(timed, runs_keep_s=30 * DAY_S)
    await do(timed, start("new", event=2), finish("new"))
    clock.now_ms += timed.settings.runs_keep_s * 1000
    await timed.due()
    assert await timed.recent_runs(ENV, 9) == ["new"]
    assert await timed.run("old") is None
    assert await ttl_s(timed, "run:new") == 30 * DAY_S + LATE_S
    assert await ttl_s(timed, "pl:new") == 30 * DAY_S


async def test_what_has_expired_is_not_listed(timed: Store, clock: TestClock) -> None:
    """However long nobody was there to forget it; a version that wrote no retention down left all to the expiry."""
    await grant(timed, runs_keep_s=30 * DAY_S)
    await do(timed, start("gone"), finish("gone"), start("other", event=2), finish("other"))
    await timed.command("DEL", timed.key("run:gone"))
    await timed.command("HDEL", timed.key("run:other"), "k")
    await timed.command("EXPIRE", timed.key("run:other"), HOUR_S)
    await timed.command("ZADD", timed.key("forget"), 0, ENV)
    await timed.due()
    assert await timed.recent_runs(ENV, 9) == ["other"]
    clock.now_ms += HOUR_S * 1000
    await timed.command("DEL", timed.key("run:other"))
    await timed.due()
    assert await timed.recent_runs(ENV, 9) == []


@pytest.mark.parametrize("is_removed", [False, True], ids=["lowered", "removed"])
async def test_a_shorter_retention_counts_where_nothing_ends_any_more(
    timed: Store, clock: TestClock, is_removed: bool
) -> None:
    """Branches included, and nobody else; what is not finished stays."""
    branch = branch_name(ENV, "feature/x")
    await grant(timed, runs_keep_s=30 * DAY_S)
    await grant(timed, f"{ENV}2", runs_keep_s=30 * DAY_S)
    for n, env in enumerate((ENV, branch, f"{ENV}2")):
        await do(timed, start(f"r{n}", event=n)._replace(env=env, fn=f"{env}/app-fn"), finish(f"r{n}"))
        await do(timed, start(f"live{n}", event=n)._replace(env=env, fn=f"{env}/app-fn"))
    clock.now_ms += 4 * DAY_S * 1000
    await timed.due()
    assert await timed.run("r0") is not None
    await (EnvironmentStore(timed).remove(ENV) if is_removed else grant(timed, runs_keep_s=DAY_S))
    await timed.due()
    assert [await timed.recent_runs(env, 9) for env in (ENV, branch, f"{ENV}2")] == [
        ["live0"],
        ["live1"],
        ["live2", "r2"],
    ]


async def test_a_policy_makes_nobody_look_where_nothing_has_ended(timed: Store) -> None:
    await grant(timed, runs_keep_s=DAY_S)
    assert "forget" not in await read_shard(timed)
