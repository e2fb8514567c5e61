"""Lists of many runs and events: what a page takes, and what the lists take in memory."""

import pytest

from innkeeper_engine.model.clock import encode_ulid
from innkeeper_engine.model.effects import Effect
from innkeeper_engine.store.lists import Lists
from innkeeper_engine.store.store import Store
from tests.engine.model_runs import ENV, do, fail, finish, start

RUNS = 20_000
PER_SCRIPT = 100
FUNCTIONS = 10
FAILING_EVERY = 1_000
MOST_BYTES = 130
"""Of the lists, for each run and each event: 93 and 78 were measured with 100,000 of them (Valkey 9.1)."""


def run_id(n: int) -> str:
    """The id of run `n`."""
    return encode_ulid(1_700_000_000_000 + n, n)


async def bytes_of(store: Store, family: str) -> int:
    """What the keys take whose names begin so."""
    total, cursor = 0, b"0"
    while True:
        cursor, keys = await store.command("SCAN", cursor, "MATCH", store.key(f"{family}*"), "COUNT", 1000)
        for key in keys:
            total += await store.command("MEMORY", "USAGE", key, "SAMPLES", 0)
        if cursor == b"0":
            return total


async def fill(store: Store) -> None:
    """Runs of several functions that have ended, few of them badly; and as many events, the first of another name."""
    for first in range(0, RUNS, PER_SCRIPT):
        numbers = range(first, first + PER_SCRIPT)
        starts = [start(run_id(n), event=n, fn=f"{ENV}/app-{n % FUNCTIONS}") for n in numbers]
        ends: list[Effect] = [
            fail(run_id(n)) if n % FAILING_EVERY == 3 else finish(run_id(n)) for n in numbers
        ]
        await do(store, *starts)
        await do(store, *ends)
        names = ["often" if n else "rare" for n in numbers]
        await store.append(
            "events", [(run_id(n), name, b"{}") for n, name in zip(numbers, names, strict=True)]
        )


@pytest.mark.slow
async def test_what_is_rare_among_many_is_found_in_one_round_trip(store: Store) -> None:
    """A page looks at as many entries as it shows, wherever they stand; and the lists stay small."""
    await fill(store)
    lists, failing = Lists(store), RUNS // FAILING_EVERY
    of_one = await lists.runs(ENV, slugs=["app-3"], statuses=["Failed"], limit=50, budget=51)
    assert (len(of_one.rows), of_one.after) == (failing, "")
    slugs = [f"app-{n}" for n in range(FUNCTIONS)]
    of_all = await lists.runs(ENV, slugs=slugs, statuses=["Failed"], limit=50, budget=51)
    assert [row.run.id for row in of_all.rows] == [row.run.id for row in of_one.rows]
    done = await lists.runs(ENV, slugs=["app-4"], limit=50, budget=51)
    assert [row.run.id for row in done.rows] == [run_id(RUNS - 6 - FUNCTIONS * n) for n in range(50)]
    rare = await lists.events("events", name="rare", limit=50, budget=2)
    assert ([row.id for row in rare.rows], rare.after) == ([run_id(0)], None)
    assert await bytes_of(store, "rs:") < RUNS * MOST_BYTES
    assert await bytes_of(store, "ei:events") < RUNS * MOST_BYTES
    assert await bytes_of(store, "en:events") < 1_000
