"""Sleeps, waits, invokes and signals: what resolves them, and who wins."""

import pytest

from innkeeper_engine.model.effects import Emit, Mode, Pending, Plan, Resolve, Resume
from innkeeper_engine.model.state import DISCOVERY, WaiterQuery
from innkeeper_engine.store.store import Store
from tests.engine.model_driver import TestClock
from tests.engine.model_runs import (
    ENV,
    EVENT_BODY,
    IDS,
    begin,
    cancel,
    cancel_on,
    commit,
    do,
    event_id,
    fail,
    finish,
    lease,
    nothing_to_lease,
    results,
    saved,
    start,
    wait,
)
from tests.engine.model_server import read_shard


async def accept(store: Store, number: int, name: str = "y", body: bytes = b'{"data":{},"name":"y"}') -> str:
    """An event is accepted; returns its id."""
    await store.append(ENV, [(event_id(number), name, body)])
    return event_id(number)


async def waiting_for(store: Store, name: str, *, seq: int, path: str = "", value: str = "") -> list[str]:
    """The pauses that an event of this name and number would find."""
    found = await store.waiters(ENV, [WaiterQuery(name, path, value, seq)])
    return [waiter.pause for waiter in found[0]]


async def test_a_sleep_ends_when_its_time_is_over(timed: Store, clock: TestClock) -> None:
    """The step's result is null, and the function goes on."""
    held = await begin(timed)
    await commit(timed, held, wait("z", kind="sleep", deadline_ms=clock.now_ms + 1_000))
    clock.now_ms += 999
    assert await nothing_to_lease(timed)
    clock.now_ms += 1
    found = await lease(timed, "next")
    assert (found.kind, found.stack, await results(timed)) == (DISCOVERY, ("z",), {"z": b"null"})


async def test_a_sleep_is_not_put_off_by_who_asks_for_it_again(timed: Store, clock: TestClock) -> None:
    """A second discovery asks for what sleeps already."""
    held = await begin(timed)
    await commit(timed, held, wait("z", kind="sleep", deadline_ms=clock.now_ms + 1_000))
    clock.now_ms += 500
    await do(timed, wait("z", kind="sleep", deadline_ms=clock.now_ms + 1_000))
    clock.now_ms += 500
    await lease(timed, "next")
    await do(timed, wait("z", kind="sleep", deadline_ms=clock.now_ms + 1_000))
    clock.now_ms += 10_000
    assert await nothing_to_lease(timed)


async def test_an_event_resumes_a_wait_with_itself(store: Store) -> None:
    """The whole event is the step's result, as it was stored."""
    held = await begin(store)
    await commit(store, held, wait("w"))
    accepted = await accept(store, 7, body=b'{"data":{"list":[]},"name":"y"}')
    assert await waiting_for(store, "y", seq=1) == ["run.w"]
    await do(store, Resume("run.w", ENV, accepted), Resume("run.w", ENV, accepted))
    assert await results(store) == {"w": b'{"data":{"list":[]},"name":"y"}'}
    assert (await lease(store, "next")).stack == ("w",)
    assert await nothing_to_lease(store)


async def test_a_wait_does_not_see_events_accepted_before_it(store: Store) -> None:
    """Not even those that are not routed yet."""
    held = await begin(store)
    await accept(store, 7)
    await commit(store, held, wait("w"))
    assert await waiting_for(store, "y", seq=1) == []
    assert await waiting_for(store, "y", seq=2) == ["run.w"]


async def test_waits_are_found_by_their_index_key(store: Store) -> None:
    """Equal path and value only; a wait without them by every event of its name."""
    held = await begin(store)
    path = "async.data.id"
    await commit(
        store,
        held,
        wait("a", path=path, value='"1"'),
        wait("b", path=path, value='"2"'),
        wait("c"),
        wait("d", name="other"),
    )
    await accept(store, 7)
    peeked = await store.peek(10)
    assert peeked is not None
    assert set(peeked.events[0].paths) == {"", path}
    assert await waiting_for(store, "y", seq=1, path=path, value='"1"') == ["run.a"]
    assert await waiting_for(store, "y", seq=1) == ["run.c"]


async def test_waiters_come_in_pages(store: Store) -> None:
    """Each page begins after the last pause of the one before; those that were resolved meanwhile are no matter."""
    await begin(store)
    pauses = [f"w{n}" for n in range(7)]
    await do(store, *(wait(step) for step in pauses))
    query, pages = WaiterQuery("y", "", "", 1, limit=3), []
    while found := (await store.waiters(ENV, [query]))[0]:
        pages.append([waiter.step for waiter in found])
        query = query._replace(after=found[-1].pause)
        await do(store, Resolve("run.w0", b"null"))
    assert pages == [["w0", "w1", "w2"], ["w3", "w4", "w5"], ["w6"]]


async def test_a_wait_is_resolved_once(timed: Store, clock: TestClock) -> None:
    """An event that comes after the deadline changes nothing, and the other way round."""
    held = await begin(timed)
    now = clock.now_ms
    await commit(timed, held, wait("a", deadline_ms=now + 10), wait("b", deadline_ms=now + 20))
    accepted = await accept(timed, 7)
    clock.now_ms += 10
    await timed.due()
    await do(timed, Resume("run.a", ENV, accepted), Resume("run.b", ENV, accepted))
    clock.now_ms += 10
    await timed.due()
    assert await results(timed) == {"a": b"null", "b": b'{"data":{},"name":"y"}'}


async def test_an_event_that_is_gone_resumes_nobody(store: Store) -> None:
    """The wait ends by its deadline."""
    held = await begin(store)
    await commit(store, held, wait("w"))
    await do(store, Resume("run.w", ENV, event_id(99)))
    assert await waiting_for(store, "y", seq=5) == ["run.w"]


async def test_what_a_wait_leaves_behind_is_nothing(store: Store) -> None:
    """Index, paths, timers and the pause itself go with its end."""
    held = await begin(store)
    await commit(store, held, wait("a", path="p", value="1"), wait("b"), wait("c", kind="signal"))
    await do(store, *(Resolve(f"run.{step}", b"null") for step in "abc"))
    left = {name.partition(":")[0] for name in await read_shard(store)}
    assert not left & {"w", "wi", "wp", "sig", "timers"}


async def test_the_end_of_an_invoked_run_resolves_its_parent(store: Store) -> None:
    """In the script that ends it, so that no event has to travel."""
    held = await begin(store, "parent")
    await commit(store, held, wait("i", run="parent", kind="invoke"))
    child = await begin(store, "child", event=2, parent="parent.i")
    await commit(store, child, finish("child", b'{"n":[]}'))
    assert await results(store, "parent") == {"i": b'{"data":{"n":[]}}'}
    assert (await lease(store, "next")).run == "parent"


async def test_a_failed_or_cancelled_child_gives_its_parent_an_error(store: Store) -> None:
    """Which the parent's function may catch."""
    held = await begin(store, "parent")
    await commit(store, held, *(wait(step, run="parent", kind="invoke") for step in "fc"))
    failing = await begin(store, "failing", event=2, parent="parent.f")
    await begin(store, "cancelled", event=3, parent="parent.c")
    await commit(store, failing, fail("failing"))
    await do(store, cancel("cancelled"))
    assert await results(store, "parent") == {
        "f": b'{"error":{"error":"E","message":"m","name":"N"}}',
        "c": b'{"error":{"message":"invoked function was cancelled","name":"Error"}}',
    }


@pytest.mark.parametrize("first", ["deadline", "child"])
async def test_deadline_and_end_of_a_child_race_and_the_first_wins(
    timed: Store, clock: TestClock, first: str
) -> None:
    """The child goes on after the deadline; its end is of no interest to the parent then."""
    held = await begin(timed, "parent")
    pause = wait(
        "i", run="parent", kind="invoke", deadline_ms=clock.now_ms + 10, on_timeout=b'{"error":"late"}'
    )
    await commit(timed, held, pause)
    child = await begin(timed, "child", event=2, parent="parent.i")
    if first == "child":
        await commit(timed, child, finish("child"))
    clock.now_ms += 10
    await timed.due()
    if first == "deadline":
        assert (await commit(timed, child, finish("child"))).status == "ok"
    expected = b'{"data":"done"}' if first == "child" else b'{"error":"late"}'
    assert await results(timed, "parent") == {"i": expected}
    await lease(timed, "next")
    assert await nothing_to_lease(timed)


async def test_a_child_whose_parent_has_ended_ends_quietly(store: Store) -> None:
    """There is nothing to resolve any more, and nothing comes back to life."""
    held = await begin(store, "parent")
    await commit(store, held, wait("i", run="parent", kind="invoke"))
    child = await begin(store, "child", event=2, parent="parent.i")
    await do(store, cancel("parent"))
    await commit(store, child, finish("child"))
    assert not await store.is_live("parent")
    assert await nothing_to_lease(store)


async def test_what_goes_with_a_pause_goes_once(store: Store) -> None:
    """The event of an invoke is not sent again when a second discovery asks for the same step."""
    held = await begin(store)
    asked = [
        wait("i", kind="invoke", then=(Emit(ENV, event_id(50 + n), "inngest/function.invoked", b"{}"),))
        for n in range(3)
    ]
    await commit(store, held, asked[0], asked[1])
    await do(store, Resolve("run.i", b"1"))
    await do(store, asked[2])
    peeked = await store.peek(10)
    assert peeked is not None
    assert [event.id for event in peeked.events] == [event_id(50)]


async def test_a_signal_reaches_who_waits_for_it(store: Store) -> None:
    """One waiter per name."""
    held = await begin(store)
    await commit(store, held, wait("s", kind="signal", name="go"))
    assert await store.signal_waiter(ENV, "go") == "run.s"
    await do(store, Resolve("run.s", b'{"data":{"data":1,"signal":"go"}}'))
    assert await store.signal_waiter(ENV, "go") is None
    assert await results(store) == {"s": b'{"data":{"data":1,"signal":"go"}}'}


async def test_a_second_waiter_for_a_signal_fails_its_run(store: Store) -> None:
    """Unless it says that it replaces the first."""
    first, second = await begin(store, "one"), await begin(store, "two", event=2)
    await commit(store, first, wait("s", run="one", kind="signal", name="go"))
    conflict = (fail("two"),)
    pause = wait("s", run="two", kind="signal", name="go", conflict=conflict)
    await commit(store, second, pause, saved("later", run="two"), Plan("two", "p"))
    summary = await store.run("two")
    assert summary is not None
    assert summary.status == "Failed"
    assert await store.signal_waiter(ENV, "go") == "one.s"
    assert await nothing_to_lease(store)


async def test_a_waiter_asked_for_again_is_no_conflict_with_itself(store: Store) -> None:
    """A second discovery asks for the wait that is there."""
    held = await begin(store)
    pause = wait("s", kind="signal", name="go", conflict=(fail(),))
    await commit(store, held, pause, pause)
    assert await store.is_live("run")


async def test_a_waiter_that_replaces_ends_the_older_one_without_a_result(store: Store) -> None:
    """The older wait gets what its deadline would have given it."""
    first, second = await begin(store, "one"), await begin(store, "two", event=2)
    await commit(store, first, wait("s", run="one", kind="signal", name="go"))
    await commit(store, second, wait("s", run="two", kind="signal", name="go"))
    assert await store.signal_waiter(ENV, "go") == "two.s"
    assert await results(store, "one") == {"s": b"null"}
    assert (await lease(store, "next")).run == "one"


async def test_a_sleep_in_a_group_holds_the_group(timed: Store, clock: TestClock) -> None:
    """The function goes on when the last member has its result, a wait or a request."""
    held = await begin(timed)
    pause = wait("z", kind="sleep", deadline_ms=clock.now_ms + 1_000)
    await commit(timed, held, Mode("run", 2, "1"), Pending("run", ("z", "a")), pause, Plan("run", "a"))
    await commit(timed, await lease(timed, "a"), saved("a"))
    assert await nothing_to_lease(timed)
    clock.now_ms += 1_000
    assert (await lease(timed, "next")).stack == ("a", "z")


async def test_a_cancellation_rule_waits_with_the_run(store: Store) -> None:
    """It is found by events after the run's own, and only while the run goes on."""
    held = await begin(store, event=1, cancels=[cancel_on("stop", after=1)])
    assert await waiting_for(store, "stop", seq=1) == []
    assert await waiting_for(store, "stop", seq=2) == ["run.c0"]
    await commit(store, held, finish())
    assert await waiting_for(store, "stop", seq=2) == []


async def test_a_cancellation_rule_ends_at_its_deadline(timed: Store, clock: TestClock) -> None:
    """The run goes on without it, and a decision that still saw it cancels nothing."""
    await do(timed, start(cancels=[cancel_on("stop", deadline_ms=clock.now_ms + 10)]))
    clock.now_ms += 10
    await timed.due()
    assert await waiting_for(timed, "stop", seq=2) == []
    await do(timed, cancel(pause="run.c0"))
    assert await timed.is_live("run")
    assert await results(timed) == {}


async def test_a_cancellation_by_a_rule_ends_the_run(store: Store) -> None:
    """While its pause is there."""
    await do(store, start(cancels=[cancel_on("stop")]))
    await do(store, cancel(pause="run.c0"))
    assert not await store.is_live("run")


async def test_events_of_the_engine_join_the_stream(store: Store) -> None:
    """They are numbered and routed like all others, and can be looked up."""
    await do(store, Emit(ENV, IDS[0], "inngest/function.invoked", EVENT_BODY))
    event = await store.event(ENV, IDS[0])
    assert event is not None
    assert (event.seq, event.body) == (1, EVENT_BODY)
