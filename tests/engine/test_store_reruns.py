"""A run that is another one once more begins with its first results: all of them, or it does not begin."""

import pytest

from innkeeper_engine.model.effects import MAX_EFFECTS
from innkeeper_engine.model.guards import KeptGuard
from innkeeper_engine.model.replays import Again
from innkeeper_engine.store.store import Store
from tests.engine.model_runs import EVENT_BODY, begin, commit, do, finish, lease, results, saved, start
from tests.engine.model_server import read_shard

ODD = ('a"b', 'a","b', "c\\", "d/e", "é\u2028", "\x7f")
"""Ids that are no hashes: no SDK that we know sends such."""


async def rerun(store: Store, count: int) -> str:
    """The run `run` as `new` once more, with so many of its results; what becomes of it."""
    effects = start("new", event=2), Again("new", "run", "", count, "", b"", ())
    return (await store.apply(KeptGuard("run", count), effects)).status


async def ended(store: Store, *steps: str) -> None:
    """A run with results of these steps, each another one."""
    held = await begin(store)
    saves = [saved(step, b'{"data":%d}' % n, go=False) for n, step in enumerate(steps)]
    for first in range(0, len(saves), MAX_EFFECTS):
        await do(store, *saves[first : first + MAX_EFFECTS])
    await commit(store, held, finish())


async def test_ids_with_any_characters_keep_their_order(store: Store) -> None:
    """And the run that begins with them has their results."""
    await ended(store, *ODD)
    assert await store.completed_steps("run") == list(ODD)
    assert await rerun(store, 5) == "ok"
    held = await lease(store, "t")
    assert held.stack == ODD[:5]
    assert await results(store, "new") == {step: b'{"data":%d}' % n for n, step in enumerate(ODD[:5])}
    assert held.state_bytes == len(EVENT_BODY) + 5 * len(b'{"data":0}')


@pytest.mark.parametrize("order", [None, b'["a"b"]', b'["a","x"]', b'["a"]'])
async def test_a_run_whose_results_are_not_all_kept_does_not_begin_again(
    store: Store, order: bytes | None
) -> None:
    """Nothing is written: not even a run that would do everything twice."""
    await ended(store, "a", "b")
    if order is None:
        await store.command("HDEL", store.key("pl:run"), ":k")
    else:
        await store.command("HSET", store.key("pl:run"), ":k", order)
    before = set(await read_shard(store))
    assert await rerun(store, 2) == "gone"
    assert await store.run("new") is None
    assert set(await read_shard(store)) == before
    known = await store.completed_steps("run")
    assert known in ([], ["a", "x"], ["a"])


async def test_many_results_come_in_few_calls(store: Store) -> None:
    """More than Lua hands to a call at once, in their order."""
    steps = [f"s{n:04}" for n in range(2_500)]
    await ended(store, *steps)
    assert await rerun(store, 2_400) == "ok"
    assert await store.completed_steps("new") == steps[:2_400]
    assert await results(store, "new") == {step: b'{"data":%d}' % n for n, step in enumerate(steps[:2_400])}
