"""What becomes of a run: its start, its steps, its next requests."""

import pytest

from innkeeper_engine.model.effects import Discover, Mode, Note, Pending, Plan, Retry, Save
from innkeeper_engine.model.state import DISCOVERY, PLANNED, START
from innkeeper_engine.store.store import Store
from tests.engine.model_runs import (
    EVENT_BODY,
    STARTS,
    STEPS,
    begin,
    cancel,
    commit,
    do,
    event_id,
    fail,
    finish,
    lease,
    nothing_to_lease,
    plan_and_lease,
    results,
    saved,
    start,
    wait,
)
from tests.engine.model_server import read_shard


async def test_a_run_begins_with_a_request_from_the_top(store: Store) -> None:
    """The lease brings what the first call needs."""
    held = await begin(store)
    assert (held.run, held.kind, held.step, held.attempt, held.generation) == ("run", START, "step", 0, 1)
    assert (held.env, held.slug, held.version, held.plan_only, held.retries) == (
        "env",
        "app-fn",
        -1,
        False,
        4,
    )
    assert held.payload == {"e:0": EVENT_BODY}
    assert held.stack == ()
    summary = await store.run("run")
    assert summary is not None
    assert (summary.status, summary.slug, summary.event_ids) == ("Running", "app-fn", (event_id(1),))


async def test_a_run_is_scheduled_until_its_first_request_is_leased(store: Store) -> None:
    """The summary tells the two apart."""
    await do(store, start())
    summary = await store.run("run")
    assert summary is not None
    assert (summary.status, summary.started_ms) == ("Scheduled", None)


async def test_a_run_starts_once_per_id(store: Store) -> None:
    """A decision that is made twice starts one run."""
    await do(store, start(), start())
    await do(store, start())
    await lease(store, "a")
    assert await nothing_to_lease(store)


async def test_a_run_that_has_ended_does_not_start_again(store: Store) -> None:
    """Its summary remembers it."""
    held = await begin(store)
    await commit(store, held, finish())
    await do(store, start())
    assert await nothing_to_lease(store)


async def test_an_idempotency_key_starts_one_run_in_a_day(store: Store) -> None:
    """The second event of the same id starts nothing, and the key lives for 24 h."""
    await do(store, start("one", idempotency="k"))
    await do(store, start("two", event=2, idempotency="k"), start("three", event=3, idempotency="other"))
    assert await store.run("two") is None
    assert await store.run("three") is not None
    assert 86_000 < await store.command("TTL", store.key("idem:k")) <= 86_400


async def test_the_first_result_of_a_step_wins(store: Store) -> None:
    """Whoever comes second changes nothing."""
    await begin(store)
    await do(store, saved("a", b'{"data":1}'), saved("a", b'{"data":2}'))
    assert await results(store) == {"a": b'{"data":1}'}
    assert await store.command("LRANGE", store.key("sk:run"), 0, -1) == [b"a"]


async def test_a_result_that_comes_again_still_calls_the_function(store: Store) -> None:
    """A crash between saving and calling heals."""
    held = await begin(store)
    await commit(store, held, saved("a", go=False))
    assert await nothing_to_lease(store)
    await do(store, saved("a", b'{"data":2}'))
    found = await lease(store, "next")
    assert (found.kind, found.payload) == (DISCOVERY, {"e:0": EVENT_BODY, "a": b'{"data":1}'})


async def test_steps_come_in_the_order_of_their_results(store: Store) -> None:
    """The stack that the SDK gets."""
    held = await begin(store)
    await commit(store, held, saved("b", go=False), saved("a", go=False), saved("c"))
    assert (await lease(store, "next")).stack == ("b", "a", "c")


async def test_a_step_is_planned_once(store: Store) -> None:
    """Two discoveries that ask for the same step queue one request."""
    held = await begin(store)
    await commit(store, held, Plan("run", "a"), Plan("run", "a"))
    found = await lease(store, "a")
    assert (found.kind, found.step, found.item) == (PLANNED, "a", "run:a")
    await do(store, Plan("run", "a"))
    assert await nothing_to_lease(store)


async def test_a_planned_step_is_asked_for_with_what_there_was_when_it_was_planned(store: Store) -> None:
    """Results of its siblings would make a group of n steps cost n * n; how many there are is still told."""
    held = await begin(store)
    before = saved("before", b'{"data":0}', go=False)
    await commit(store, held, before, Pending("run", ("a", "b")), Plan("run", "a"), Plan("run", "b"))
    first = await lease(store, "one")
    await commit(store, first, saved(first.step))
    second = await lease(store, "two")
    assert {first.step, second.step} == {"a", "b"}
    assert second.stack == ("before",)
    assert second.payload == {"e:0": EVENT_BODY, "before": b'{"data":0}'}
    assert second.step_count == 2
    await commit(store, second, saved(second.step))
    discovery = await lease(store, "three")
    assert discovery.stack == ("before", first.step, second.step)


async def test_a_step_with_a_result_is_not_planned(store: Store) -> None:
    """Nor is it run again."""
    held = await begin(store)
    await commit(store, held, saved("a", go=False), Plan("run", "a"))
    assert await nothing_to_lease(store)


async def test_one_discovery_waits_at_most(store: Store) -> None:
    """Two steps that end while one waits need no second."""
    held = await begin(store)
    await commit(store, held, Discover("run"), Discover("run"))
    await do(store, saved("a"), saved("b"))
    await lease(store, "one")
    assert await nothing_to_lease(store)


async def test_a_discovery_does_not_stand_for_what_ends_after_it_was_leased(store: Store) -> None:
    """The leased one has an older picture."""
    held = await begin(store)
    await commit(store, held, Discover("run"))
    first = await lease(store, "one")
    await do(store, saved("a"))
    second = await lease(store, "two")
    assert first.item != second.item
    assert second.stack == ("a",)


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
async def test_the_last_of_a_group_calls_the_function(store: Store, order: tuple[str, str]) -> None:
    """Two siblings, each of which saw the other pending: one discovery, in whichever order they commit."""
    held = await begin(store)
    await commit(
        store, held, Mode("run", 2, "1"), Pending("run", ("a", "b")), Plan("run", "a"), Plan("run", "b")
    )
    siblings = {found.step: found for found in [await lease(store, "1"), await lease(store, "2")]}
    assert all(sibling.plan_only for sibling in siblings.values())
    await commit(store, siblings[order[0]], saved(order[0]))
    assert await nothing_to_lease(store)
    await commit(store, siblings[order[1]], saved(order[1]))
    found = await lease(store, "next")
    assert (found.kind, found.plan_only, found.stack) == (DISCOVERY, False, order)
    assert await nothing_to_lease(store)


async def test_a_group_does_not_wait_for_what_is_done(store: Store) -> None:
    """A step that ended before the group was known is no part of it."""
    held = await begin(store)
    await commit(store, held, saved("a", go=False), Pending("run", ("a", "b")), Plan("run", "b"))
    found = await lease(store, "b")
    await commit(store, found, saved("b"))
    assert (await lease(store, "next")).kind == DISCOVERY


async def test_the_version_of_the_sdk_is_kept(store: Store) -> None:
    """An empty mode leaves whether steps are only planned."""
    held = await begin(store)
    await commit(store, held, Mode("run", 2, "1"), Mode("run", 1), Discover("run"))
    found = await lease(store, "next")
    assert (found.version, found.plan_only) == (1, True)


async def test_a_fetch_carries_its_sealed_request(store: Store) -> None:
    """Bytes of any kind."""
    sealed = bytes(range(256))
    held = await begin(store)
    await commit(store, held, Plan("run", "f", "f", sealed))
    found = await lease(store, "f")
    assert (found.kind, found.sealed) == ("f", sealed)


async def test_payloads_are_bytes(store: Store) -> None:
    """What Lua would make something else of comes back as it was: [], 1.0, 17 digits, NUL, CRLF, no UTF-8."""
    body = b'{"data":{"list":[],"n":1.0,"ns":1795343330026123,"nul":"\\u0000"},"name":"x"}'
    result = b'{"data":[1.0,[],{}]}\x00\r\n$5\xff\xfe'
    held = await begin(store, body=body)
    await commit(store, held, Save("run", "a", result, True))
    assert (await lease(store, "next")).payload == {"e:0": body, "a": result}


async def test_large_state_does_not_come_along(store: Store) -> None:
    """It is read where it is needed."""
    held = await begin(store)
    big = b'"' + b"x" * store.settings.inline_bytes + b'"'
    await commit(store, held, Save("run", "a", big, True))
    found = await lease(store, "next")
    assert found.payload is None
    assert found.state_bytes == len(EVENT_BODY) + len(big)
    assert (await store.run_state("run"))["a"] == big


async def test_what_is_due_later_is_not_leased_before(store: Store) -> None:
    """The run exists at once, so that it can be cancelled meanwhile."""
    await do(store, start(due_ms=10**13))
    assert await store.is_live("run")
    assert await nothing_to_lease(store)
    await do(store, cancel())
    assert not [name for name in await read_shard(store) if name.startswith(("i:", "q:", "timers"))]


async def test_runs_are_leased_by_their_order(store: Store) -> None:
    """Not by when they were queued."""
    await do(store, start("late", order=20), start("early", event=2, order=10))
    assert [(await lease(store, str(n))).run for n in range(2)] == ["early", "late"]


async def test_starts_and_steps_take_turns(store: Store) -> None:
    """A backlog of starts does not hold up the steps of running runs."""
    held = await begin(store)
    await do(store, *(start(f"r{n}", event=n + 2, order=n) for n in range(5)))
    await commit(store, held, Discover("run"))
    kinds = [(await lease(store, str(n))).kind for n in range(3)]
    assert DISCOVERY in kinds[:2]


async def test_a_retried_start_waits_among_the_steps(store: Store) -> None:
    """Only starts are throttled, and it has had its turn."""
    held = await begin(store)
    await commit(store, held, Retry(held.item, 1, 0))
    keys = await read_shard(store)
    assert f"q:{STEPS}" in keys
    assert f"q:{STARTS}" not in keys
    again = await lease(store, "again")
    assert (again.item, again.kind, again.attempt, again.generation) == (held.item, START, 1, 2)


@pytest.mark.parametrize(
    "effect",
    [
        saved("a"),
        Plan("run", "a"),
        Discover("run"),
        Pending("run", ("a",)),
        Mode("run", 2, "1"),
        wait("a"),
        wait("a", kind="signal"),
        wait("a", kind="sleep"),
        cancel(),
        finish(),
    ],
    ids=lambda effect: type(effect).__name__ + getattr(effect, "kind", ""),
)
@pytest.mark.parametrize("end", [finish(), fail(), cancel()], ids=["returned", "failed", "cancelled"])
async def test_nothing_happens_to_a_run_that_an_earlier_effect_has_ended(
    store: Store, end: object, effect: object
) -> None:
    """A signal that somebody else waits for ends a run in the middle of its answer: no part of it comes back."""
    held = await begin(store)
    await commit(store, held, end)  # type: ignore[arg-type]
    before = await read_shard(store)
    await do(store, effect)  # type: ignore[arg-type]
    after = await read_shard(store)
    for volatile in ("clock", "wake"):
        before.pop(volatile, None)
        after.pop(volatile, None)
    assert {name: key.value for name, key in after.items()} == {
        name: key.value for name, key in before.items()
    }


async def test_an_item_that_ended_its_run_is_not_retried(store: Store) -> None:
    """The end wins over a retry in the same answer."""
    held = await begin(store)
    await commit(store, held, fail(), Note("run", b"{}"), Retry(held.item, 1, 0))
    assert await nothing_to_lease(store)
    assert not [name for name in await read_shard(store) if name.startswith("i:")]


async def test_planned_steps_are_leased_together(store: Store) -> None:
    """One call brings as many items as there are tokens."""
    held = await begin(store)
    await commit(store, held)
    await do(store, *(Plan("run", f"s{n}") for n in range(5)))
    due = await store.due(executor="X", tokens=[f"t{n}" for n in range(8)])
    assert [found.step for found in due.leases] == [f"s{n}" for n in range(5)]
    assert len({found.token for found in due.leases}) == 5


async def test_siblings_do_not_make_a_commit_stale(store: Store) -> None:
    """Each has its own item."""
    held = await begin(store)
    await commit(store, held)
    one, two = await plan_and_lease(store, "a", "b")
    assert (await commit(store, one, saved("a"))).status == "ok"
    assert (await commit(store, two, saved("b"))).status == "ok"
