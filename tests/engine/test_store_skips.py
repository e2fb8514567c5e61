"""A run that would have begun in a pause is recorded, and nothing else of it is there."""

from innkeeper_engine.model.effects import Skip
from innkeeper_engine.model.state import FunctionCounts
from innkeeper_engine.store.store import Store
from tests.engine.model_driver import TestClock
from tests.engine.model_runs import (
    ENV,
    FN,
    begin,
    commit,
    do,
    event_id,
    finish,
    lease,
    nothing_to_lease,
    results,
    start,
    wait,
)
from tests.engine.model_server import read_shard

SLUG = FN.removeprefix(f"{ENV}/")
REPLY = b'{"error":{"message":"paused","name":"Error"}}'


def skip(run: str = "run", *, event: int = 1, idempotency: str = "", parent: str = "", fn: str = FN) -> Skip:
    """The record of a run."""
    return Skip(
        run, ENV, fn, "app", (event_id(event),), idempotency, "", b'{"type":"skipped"}', parent, REPLY
    )


async def status(store: Store, run: str = "run") -> str | None:
    """The status of a run; None where there is none."""
    summary = await store.run(run)
    return None if summary is None else summary.status


async def test_a_skipped_run_is_in_the_lists(timed: Store, clock: TestClock) -> None:
    """Of its event and of the environment, ended when it was made."""
    await do(timed, start("first"))
    clock.now_ms += 1
    await do(timed, skip())
    summary = await timed.run("run")
    assert summary is not None
    assert (summary.status, summary.slug, summary.app) == ("Skipped", SLUG, "app")
    assert summary.queued_ms == summary.ended_ms == clock.now_ms
    assert summary.started_ms is None
    assert [run.id for run in await timed.event_runs(ENV, event_id(1))] == ["first", "run"]
    assert await timed.recent_runs(ENV, 9) == ["run", "first"]
    notes = await timed.command("XRANGE", timed.key("hist"), "-", "+")
    assert [fields for _, fields in notes] == [[b"r", b"run", b"n", b'{"type":"skipped"}']]


async def test_nothing_else_of_a_skipped_run_is_there(store: Store) -> None:
    """No state, no item, no event of its end, nothing that counts; and all of it goes with the retention."""
    await store.configure(ENV, heard=["inngest/function.finished"])
    await do(store, skip())
    assert await nothing_to_lease(store)
    assert await store.peek(10) is None
    assert not await store.is_live("run")
    assert await store.function_counts(ENV, [SLUG]) == {SLUG: FunctionCounts(0, 0, 0, 0, None)}
    keys = await read_shard(store)
    listed = {f"runs:{ENV}", f"ended:{ENV}", f"rs:k:{ENV}/{SLUG}", f"fns:{ENV}"}
    expected = {"run:run", f"er:{ENV}:{event_id(1)}", "hist", *listed}
    always = {"clock", "forget", "kept", "regver", "wake", "rwake", f"lis:{ENV}"}
    assert set(keys) - always == expected
    for name in ("run:run", f"er:{ENV}:{event_id(1)}"):
        assert 0 < keys[name].ttl_ms <= (store.settings.runs_keep_s + 86_400) * 1000


async def test_runs_of_the_event_that_go_on_keep_its_list(store: Store) -> None:
    """Whichever came first; with the last that ends the retention begins."""
    await do(store, skip("skipped"), start("one"), skip("another"))
    events = f"er:{ENV}:{event_id(1)}"
    assert (await read_shard(store))[events].ttl_ms == -1
    await commit(store, await lease(store, "a"), finish("one"))
    assert (await read_shard(store))[events].ttl_ms > 0


async def test_a_run_is_either_skipped_or_begins(store: Store) -> None:
    """Whatever was decided first; what is decided again, on another registry, changes nothing."""
    await do(store, start(), skip(), skip())
    assert await status(store) == "Scheduled"
    await do(store, skip("two", event=2), start("two", event=2))
    assert await status(store, "two") == "Skipped"
    assert (await lease(store, "a")).run == "run"
    assert await nothing_to_lease(store)


async def test_a_skipped_run_does_not_use_the_event_up(store: Store) -> None:
    """The same event, sent again after the pause, starts a run; sent again after a run it is not even recorded."""
    await do(store, skip("one", event=1, idempotency="key"))
    await do(store, start("two", event=2, idempotency="key"))
    await do(store, skip("three", event=3, idempotency="key"))
    assert [await status(store, run) for run in ("one", "two", "three")] == ["Skipped", "Scheduled", None]


async def test_who_invoked_a_skipped_run_is_answered_at_once(store: Store) -> None:
    """With an error, once."""
    await commit(store, await begin(store, "parent"), wait("i", run="parent", kind="invoke"))
    await do(store, skip("child", event=2, parent="parent.i"), skip("child", event=2, parent="parent.i"))
    assert await results(store, "parent") == {"i": REPLY}
    assert (await lease(store, "a")).stack == ("i",)


async def test_a_run_that_began_answers_for_itself(store: Store) -> None:
    """Decided again in a pause, the invoked run goes on; who invoked it still waits for its end."""
    await commit(store, await begin(store, "parent"), wait("i", run="parent", kind="invoke"))
    child = start("child", event=2, parent="parent.i")
    await do(store, child, skip("child", event=2, parent="parent.i"))
    assert await results(store, "parent") == {}
    await commit(store, await lease(store, "a"), finish("child"))
    assert await results(store, "parent") == {"i": b'{"data":"done"}'}


async def test_the_list_of_runs_forgets_skipped_ones_as_any_other(timed: Store, clock: TestClock) -> None:
    """A function may be paused for weeks."""
    for n in range(6):
        await do(timed, skip(f"old{n}", event=n))
    clock.now_ms += timed.settings.runs_keep_s * 1000
    for n in range(2):
        await do(timed, skip(f"new{n}", event=n))
    await timed.due()
    assert await timed.recent_runs(ENV, 100) == ["new1", "new0"]
