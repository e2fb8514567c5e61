"""Which runs an event has started can be asked as long as one of them goes on, and for the retention after."""

from innkeeper_engine.store.store import Store
from tests.engine.model_runs import begin, commit, do, event_id, finish, start


async def ttl(store: Store, key: str) -> int:
    """Seconds left of a key; -1 without an end, -2 when it is gone."""
    return int(await store.command("TTL", store.key(key)))


async def test_the_list_outlives_its_longest_run(store: Store) -> None:
    held = await begin(store)
    await do(store, start("other"))
    runs, count = f"er:env:{event_id(1)}", f"el:env:{event_id(1)}"
    assert await ttl(store, runs) == -1
    await commit(store, held, finish())
    assert await ttl(store, runs) == -1
    await do(store, finish("other"))
    assert 0 < await ttl(store, runs) <= store.settings.runs_keep_s
    assert await ttl(store, count) == -2
    assert [run.id for run in await store.event_runs("env", event_id(1))] == ["run", "other"]
