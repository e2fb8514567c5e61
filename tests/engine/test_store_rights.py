"""Rights to begin: an own key once in a while, so many starts in a time, one run at a time. All of them, or none."""

import itertools
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from innkeeper_engine.model.effects import Cancel, Effect, Note, Once, Rate, Right, Single, Start
from innkeeper_engine.store.store import Store
from tests.engine.model_driver import TestClock
from tests.engine.model_house import check_leftovers
from tests.engine.model_runs import (
    DAY_MS,
    ENV,
    FN,
    IDS,
    begin,
    cancel,
    commit,
    do,
    event_id,
    fail,
    finish,
    lease,
    notes,
    nothing_to_lease,
    results,
    start,
    wait,
)
from tests.engine.model_server import read_shard

MINUTE_MS = 60_000
NOTE, REPLY = b'{"type":"skipped"}', b'{"error":{"message":"skipped","name":"Error"}}'
CANCEL_NOTE = b'{"type":"cancelled","why":"singleton"}'


def once(key: str = "env/app-fn:k:1") -> Once:
    """The function's own idempotency."""
    return Once(key, DAY_MS, NOTE, REPLY)


def rate(limit: int = 1, period_ms: int = MINUTE_MS, key: str = "env/app-fn|") -> Rate:
    """At most so many starts."""
    return Rate(key, limit, period_ms, NOTE, REPLY)


def single(key: str = "env/app-fn|") -> Single:
    """One run at a time; the next is refused."""
    return Single(key, NOTE, REPLY)


def replacing(key: str = "env/app-fn|") -> Single:
    """One run at a time; the next takes the place of who holds it."""
    return Single(key, NOTE, REPLY, IDS, CANCEL_NOTE)


_numbers = itertools.count(1)


def claim(run: str, *rights: Right, parent: str = "", idempotency: str = "") -> Start:
    """A run that needs these rights, of an event of its own."""
    made = start(run, event=next(_numbers), parent=parent, idempotency=idempotency, announces=False)
    return made._replace(rights=rights)


async def status(store: Store, run: str) -> str | None:
    """The status of a run; None where there is none."""
    summary = await store.run(run)
    return None if summary is None else summary.status


async def is_granted(store: Store, run: str, *rights: Right) -> bool:
    """Whether a run with these rights begins."""
    await do(store, claim(run, *rights))
    return await store.is_live(run)


@pytest.mark.parametrize("right", [once(), rate(), single()], ids=["once", "rate", "single"])
async def test_a_right_that_is_taken_is_refused(timed: Store, clock: TestClock, right: Right) -> None:
    """The run is recorded as skipped, in the lists of its event and of its environment, and nothing else of it is."""
    first, second = claim("first", right), claim("second", right)
    await do(timed, first, second)
    summary = await timed.run("second")
    assert summary is not None
    assert (summary.status, summary.app, summary.queued_ms) == ("Skipped", "app", clock.now_ms)
    assert summary.ended_ms == clock.now_ms
    assert [run.id for run in await timed.event_runs(ENV, second.events[0][0])] == ["second"]
    assert sorted(await timed.recent_runs(ENV, 9)) == ["first", "second"]
    assert await notes(timed) == [("second", NOTE)]
    assert (await lease(timed, "a")).run == "first"
    assert await nothing_to_lease(timed)
    assert await timed.run_state("second") == {}


@pytest.mark.parametrize("right", [once(), rate(), single()], ids=["once", "rate", "single"])
async def test_a_start_that_is_repeated_neither_takes_nor_loses(store: Store, right: Right) -> None:
    """A commit whose reply got lost is sent again: what began goes on, what was skipped is recorded once."""
    begun, refused = claim("begun", right), claim("refused", right)
    await do(store, begun, refused)
    await do(store, begun, refused)
    assert [await status(store, run) for run in ("begun", "refused")] == ["Scheduled", "Skipped"]
    assert await notes(store) == [("refused", NOTE)]
    assert len(await store.event_runs(ENV, refused.events[0][0])) == 1
    if isinstance(right, Rate):
        assert await store.command("GET", store.key(f"rn:{right.key}")) == b"1"


@pytest.mark.parametrize("right", [once(), rate(), single()], ids=["once", "rate", "single"])
async def test_who_invoked_a_refused_run_is_told_at_once(store: Store, right: Right) -> None:
    """With the right's reply."""
    await commit(store, await begin(store, "parent"), wait("i", run="parent", kind="invoke"))
    await do(store, claim("holder", right), claim("child", right, parent="parent.i"))
    assert await results(store, "parent") == {"i": REPLY}


@pytest.mark.parametrize(
    "right",
    [once("other"), rate(key="other"), single("other")],
    ids=["once", "rate", "single"],
)
async def test_other_values_of_a_key_have_rights_of_their_own(store: Store, right: Right) -> None:
    """One that is taken holds up nobody else."""
    mine = right._replace(key="mine")
    await do(store, claim("other", right))
    assert await is_granted(store, "mine", mine)
    assert not await is_granted(store, "mine too", mine)


FREE: dict[str, Right] = {"once": once("free"), "rate": rate(key="free"), "single": replacing("free")}
TAKEN: dict[str, Right] = {"once": once("taken"), "rate": rate(key="taken"), "single": single("taken")}


@pytest.mark.parametrize("order", list(itertools.permutations(FREE)), ids="-".join)
@pytest.mark.parametrize("refused", list(TAKEN))
async def test_rights_are_taken_all_or_none(store: Store, refused: str, order: tuple[str, ...]) -> None:
    """Whichever is refused, and wherever it stands: the others are as free as before, and nobody is cancelled."""
    await do(store, claim("holder", TAKEN[refused], FREE["single"]))
    rights = [TAKEN[name] if name == refused else FREE[name] for name in order]
    assert not await is_granted(store, "refused", *rights)
    assert await store.is_live("holder")
    keys = await read_shard(store)
    assert keys.get("sg:free") is None or keys["sg:free"].value == "holder"
    assert not {"once:free", "rl:free", "rn:free"} & set(keys)
    assert await is_granted(store, "granted", *(FREE[name] for name in order))
    assert not await store.is_live("holder")


async def test_the_first_right_that_is_refused_gives_the_reason(store: Store) -> None:
    """In the order in which they are asked for."""
    await do(store, claim("holder", once(), rate(), single()))
    await do(store, claim("a", rate()._replace(note=b"1"), single()._replace(note=b"2")))
    await do(store, claim("b", single()._replace(note=b"3"), once()._replace(note=b"4")))
    assert await notes(store) == [("a", b"1"), ("b", b"3")]


async def test_an_event_that_was_sent_again_is_refused_without_a_word(store: Store) -> None:
    """The sender's id comes before every other right: nothing is recorded, nothing taken."""
    await do(store, claim("first", idempotency="id"))
    await do(store, claim("again", rate(), once(), idempotency="id"))
    assert await status(store, "again") is None
    assert not {name for name in await read_shard(store) if name.startswith(("rl:", "rn:", "once:"))}


async def test_a_refused_run_does_not_use_its_event_up(store: Store) -> None:
    """The sender's id is a right like the others: it is taken by a run that begins."""
    await do(store, claim("holder", single()), claim("refused", single(), idempotency="id"))
    await do(store, finish("holder"), claim("again", single(), idempotency="id"))
    assert await status(store, "again") == "Scheduled"


async def test_a_run_without_its_event_takes_nothing(store: Store) -> None:
    """It expired before it was routed."""
    gone = claim("run", once(), rate(), single())
    await do(store, gone._replace(events=((event_id(1), b""),)))
    keys = await read_shard(store)
    assert not {name for name in keys if name.startswith(("rl:", "rn:", "once:", "sg:", "run:"))}


# ---- idempotency


async def test_an_own_key_counts_for_its_period(store: Store) -> None:
    """Whatever has become of the run whose id is kept with it."""
    await do(store, claim("first", once()), finish("first"))
    assert not await is_granted(store, "second", once())
    key = store.key(f"once:{once().key}")
    assert await store.command("GET", key) == b"first"
    assert DAY_MS - MINUTE_MS < await store.command("PTTL", key) <= DAY_MS
    await store.command("DEL", key)
    assert await is_granted(store, "third", once())


# ---- rate


@given(
    limit=st.integers(1, 5),
    period_ms=st.sampled_from([60_000, 61_234]),
    gaps=st.lists(st.sampled_from([0, 0, 1, 9_999, 20_000, 59_999, 60_000, 61_234]), max_size=40),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_run_begins_exactly_where_there_are_fewer_in_the_period_before(
    timed: Store, clock: TestClock, limit: int, period_ms: int, gaps: list[int]
) -> None:
    """In any window of that length, wherever it begins: at once if they come at once, and never one too few."""
    right = rate(limit, period_ms, key=f"k{next(_numbers)}")
    begun: list[int] = []
    for gap in gaps:
        clock.now_ms += gap
        expected = sum(clock.now_ms - period_ms < at for at in begun) < limit
        assert await is_granted(timed, f"r{next(_numbers)}", right) == expected
        if expected:
            begun.append(clock.now_ms)


@pytest.mark.parametrize(
    ("before", "after", "granted"),
    [(rate(3), rate(5), 2), (rate(3), rate(1), 0), (rate(3), rate(3, MINUTE_MS // 2), 3)],
    ids=["more", "fewer", "shorter"],
)
async def test_a_limit_that_is_changed_counts_at_once(
    timed: Store, clock: TestClock, before: Rate, after: Rate, granted: int
) -> None:
    """For the starts that have been, too."""
    for n in range(3):
        assert await is_granted(timed, f"b{n}", before)
    clock.now_ms += MINUTE_MS // 2
    assert [await is_granted(timed, f"a{n}", after) for n in range(4)].count(True) == granted


async def spread(store: Store, clock: TestClock, right: Rate, step_ms: int, starts: int) -> list[int]:
    """Starts one every so often; when those were that began."""
    begun = []
    for n in range(starts):
        if await is_granted(store, f"s{n}", right):
            begun.append(clock.now_ms)
            await do(store, finish(f"s{n}"))
        clock.now_ms += step_ms
    return begun


async def test_a_thousand_starts_a_period_are_counted_one_by_one(timed: Store, clock: TestClock) -> None:
    """And take a few bytes each."""
    right = rate(1_000, 1_500 * 60)
    begun = await spread(timed, clock, right, 60, 1_100)
    assert begun == [at for at in begun if at - begun[0] < 1_000 * 60], "the first thousand"
    assert await timed.command("LLEN", timed.key(f"rl:{right.key}")) == 1_000
    assert await timed.command("MEMORY", "USAGE", timed.key(f"rl:{right.key}")) < 40_000
    clock.now_ms = begun[0] + right.period_ms - 1
    assert not await is_granted(timed, "too early", right)
    clock.now_ms += 1
    assert await is_granted(timed, "in time", right)


@pytest.mark.parametrize("over", [0, 1, 63, 64, 65, 128, 199, 200])
async def test_what_is_over_is_taken_off_a_log_at_once(timed: Store, clock: TestClock, over: int) -> None:
    """However much that is, and nothing else: a log that was not used for long is read in pages."""
    right = rate(200)
    log, count = timed.key(f"rl:{right.key}"), timed.key(f"rn:{right.key}")
    entries = [f"{clock.now_ms - MINUTE_MS + n} 1" for n in range(1 - over, 201 - over)]
    await timed.command("RPUSH", log, *entries)
    await timed.command("SET", count, 200)
    assert await is_granted(timed, "run", right) == (over > 0)
    kept = [entry.encode() for entry in entries[over:]] + [f"{clock.now_ms} 1".encode()] * (over > 0)
    assert await timed.command("LRANGE", log, 0, -1) == kept
    assert int(await timed.command("GET", count)) == len(kept)


async def test_more_starts_than_that_take_no_more_memory(timed: Store, clock: TestClock) -> None:
    """Their times are rounded up to a thousandth of the period."""
    right = rate(1_000_000)
    assert len(await spread(timed, clock, right, 31, 1_900)) == 1_900
    assert await timed.command("LLEN", timed.key(f"rl:{right.key}")) <= 1_001
    assert await timed.command("MEMORY", "USAGE", timed.key(f"rl:{right.key}")) < 40_000


@pytest.mark.parametrize("period_ms", [MINUTE_MS, 61_237])
async def test_high_limits_are_never_exceeded_and_rights_come_back_in_time(
    timed: Store, clock: TestClock, period_ms: int
) -> None:
    """A thousandth of the period late at most, for a limit beyond a thousand."""
    right = rate(1_200, period_ms)
    clock.now_ms += 17
    begun_ms = clock.now_ms
    for first in range(0, 1_300, 130):
        await do(timed, *(claim(f"r{n}", right) for n in range(first, first + 130)))
    live = await timed.live_runs(ENV, [FN.removeprefix(f"{ENV}/")])
    assert list(live.values()) == [1_200]
    clock.now_ms = begun_ms + period_ms - 1
    assert not await is_granted(timed, "too early", right)
    clock.now_ms += 1 + period_ms // 1_000 + 1
    assert await is_granted(timed, "back", right)


async def test_a_log_of_starts_expires_with_its_last(timed: Store, clock: TestClock) -> None:
    """A key of a million values leaves nothing behind."""
    await do(timed, claim("run", rate()))
    keys = await read_shard(timed)
    for name in (f"rl:{rate().key}", f"rn:{rate().key}"):
        assert MINUTE_MS // 2 < keys[name].ttl_ms <= MINUTE_MS


# ---- singleton

ENDS: dict[str, Callable[[], tuple[Effect, ...]]] = {
    "returned": lambda: (finish("holder"),),
    "failed": lambda: (fail("holder"),),
    "cancelled": lambda: (cancel("holder"),),
}


@pytest.mark.parametrize("how", list(ENDS))
async def test_a_singleton_is_free_when_its_run_has_ended(store: Store, how: str) -> None:
    """However it ended."""
    await do(store, claim("holder", single()))
    assert not await is_granted(store, "refused", single())
    await do(store, *ENDS[how]())
    assert f"sg:{single().key}" not in await read_shard(store)
    assert await is_granted(store, "granted", single())


@pytest.mark.parametrize("which", ["start", "finish"])
async def test_a_singleton_is_free_when_its_run_was_too_late(
    timed: Store, clock: TestClock, which: str
) -> None:
    """A timeout ends a run as everything else does."""
    holder = claim("holder", single())._replace(ids=IDS)
    if which == "start":
        await do(timed, holder._replace(start_timeout_ms=1_000))
    else:
        await do(timed, holder._replace(finish_timeout_ms=1_000))
        await commit(timed, await lease(timed, "a"), wait("z", run="holder", kind="sleep"))
    clock.now_ms += 1_000
    await timed.due()
    assert await status(timed, "holder") == "Cancelled"
    assert await is_granted(timed, "granted", single())


async def test_who_holds_a_singleton_for_a_run_that_is_gone_holds_nothing(store: Store) -> None:
    """An older version that knows of no singletons may have ended it."""
    await store.command("SET", store.key(f"sg:{single().key}"), "unknown")
    assert await is_granted(store, "granted", single())


async def test_a_run_frees_only_what_it_holds(store: Store) -> None:
    """Whoever took its place keeps it."""
    await do(store, claim("holder", single()))
    await store.command("SET", store.key(f"sg:{single().key}"), "another")
    await do(store, finish("holder"))
    assert await store.command("GET", store.key(f"sg:{single().key}")) == b"another"


async def test_a_new_run_takes_the_place_of_the_one_before(store: Store) -> None:
    """Which is cancelled, in flight or not: its invoker is told, its history says why, and it announces its end."""
    await commit(store, await begin(store, "parent"), wait("i", run="parent", kind="invoke"))
    holder = claim("holder", replacing(), parent="parent.i")._replace(announces=True)
    await do(store, holder)
    held = await lease(store, "a")
    replays = claim("next", replacing())
    await do(store, replays)
    await do(store, replays)
    assert [await status(store, run) for run in ("holder", "next")] == ["Cancelled", "Scheduled"]
    assert await results(store, "parent") == {
        "i": b'{"error":{"message":"invoked function was cancelled","name":"Error"}}'
    }
    assert await notes(store) == [("holder", CANCEL_NOTE)]
    peeked = await store.peek(9)
    assert peeked is not None
    assert [(event.id, event.name) for event in peeked.events] == [(IDS[0], "inngest/function.cancelled")]
    assert (await store.beat([(held.item, held.token)])) == ([], [held.token])
    assert (await commit(store, held, finish("holder"))).status == "ended"
    assert await store.command("GET", store.key(f"sg:{single().key}")) == b"next"
    await do(store, finish("next"), finish("parent"))


async def test_a_run_that_invokes_its_own_place_away_is_cancelled(store: Store) -> None:
    """What it commits starts the next one: its own item goes with it."""
    await do(store, claim("holder", replacing()))
    held = await lease(store, "a")
    await commit(store, held, Note("holder", b"{}"), claim("next", replacing()))
    assert await status(store, "holder") == "Cancelled"
    leased = await lease(store, "b")
    assert leased.run == "next"
    await commit(store, leased, finish("next"))
    check_leftovers(await read_shard(store))


async def test_a_start_that_is_cancelled_at_once_frees_what_it_took(store: Store) -> None:
    """A bulk cancellation covers runs that begin later: what they took of a rate is used up, a singleton is free."""
    await do(store, claim("bulk", rate(2), single()), Cancel("bulk", IDS, NOTE))
    assert await status(store, "bulk") == "Cancelled"
    assert await is_granted(store, "granted", rate(2), single())
    await do(store, finish("granted"))
    assert not await is_granted(store, "refused", rate(2), single())
    assert await nothing_to_lease(store)
    check_leftovers(await read_shard(store))
