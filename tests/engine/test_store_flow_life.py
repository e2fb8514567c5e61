"""Runs with rights and timeouts through whatever may happen to them: what must hold after every script."""

import asyncio
import itertools
import secrets

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from innkeeper_engine.model.effects import Effect, Once, Rate, Retry, Right, Single
from innkeeper_engine.model.guards import KeepGuard
from innkeeper_engine.model.state import Lease
from innkeeper_engine.store.connection import Address
from innkeeper_engine.store.store import Store, StoreSettings
from tests.engine.model_driver import TestClock
from tests.engine.model_house import check_leftovers
from tests.engine.model_runs import (
    DAY_MS,
    IDS,
    cancel,
    cancel_on,
    commit,
    do,
    finish,
    saved,
    start,
    wait,
)
from tests.engine.model_server import Key, read_shard

LEASE_MS, LATE_MS, RATE_MS = 1_000, 2_500, 60_000
NOTE, REPLY = b'{"type":"skipped"}', b'{"error":{}}'


class Life:
    """One shard, one executor, and a plain account of which runs began when. Each coroutine is one thing that happens."""

    def __init__(self, store: Store, clock: TestClock) -> None:
        self.store, self.clock = store, clock
        self.held: dict[str, Lease] = {}
        self.singles: dict[str, str] = {}
        """Run -> the singleton that it took."""
        self.made: dict[str, int] = {}
        self.begun: dict[str, int] = {}
        self.rated: list[int] = []
        self._numbers = itertools.count(1)

    async def start(self, key: str, replaces: bool, timeouts: tuple[int, int], needs: frozenset[str]) -> None:
        """A run that needs rights, and begins exactly where all of them are free."""
        number = next(self._numbers)
        run = f"r{number}"
        ids = IDS if replaces else ("", "")
        wanted: dict[str, Right] = {
            "single": Single(key, NOTE, REPLY, ids, b"{}"),
            "rate": Rate("rate", 4, RATE_MS, NOTE, REPLY),
            "once": Once(f"once{number % 5}", DAY_MS, NOTE, REPLY),
        }
        keys = await read_shard(self.store)
        free = {
            "single": replaces or f"sg:{key}" not in keys,
            "rate": sum(at > self.clock.now_ms - RATE_MS for at in self.rated) < 4,
            "once": f"once:once{number % 5}" not in keys,
        }
        made = start(run, event=number, announces=False, cancels=[cancel_on("stop", run=run)])
        await do(
            self.store,
            made._replace(
                rights=tuple(right for name, right in wanted.items() if name in needs),
                start_timeout_ms=timeouts[0],
                finish_timeout_ms=timeouts[1],
                ids=IDS,
            ),
        )
        expected = all(free[name] for name in needs)
        assert await self.store.is_live(run) == expected
        if not expected:
            return
        self.made[run] = self.clock.now_ms
        if "single" in needs:
            self.singles[run] = key
        if "rate" in needs:
            self.rated.append(self.clock.now_ms)

    async def lease(self, count: int) -> None:
        """The executor takes work."""
        tokens = [f"T{next(self._numbers)}" for _ in range(count)]
        for lease in (await self.store.due(executor="X", tokens=tokens)).leases:
            self.begun.setdefault(lease.run, self.clock.now_ms)
            self.held[lease.item] = lease

    async def answer(self, how: str) -> None:
        """The oldest call is answered."""
        if not self.held:
            return
        lease = self.held.pop(next(iter(self.held)))
        step = f"s{next(self._numbers)}"
        effects: dict[str, tuple[Effect, ...]] = {
            "step": (saved(step, run=lease.run),),
            "sleep": (wait(step, run=lease.run, kind="sleep", deadline_ms=self.clock.now_ms + LATE_MS // 2),),
            "forever": (wait(step, run=lease.run),),
            "retry": (Retry(lease.item, 1, self.clock.now_ms + 500),),
            "finish": (finish(lease.run),),
        }
        if how == "checkpoint":
            self.held[lease.item] = lease
            keep = KeepGuard(lease.item, lease.token, LEASE_MS)
            await self.store.apply(keep, [saved(step, run=lease.run, go=False)])
        else:
            await commit(self.store, lease, *effects[how])

    async def trouble(self, what: str) -> None:
        """The executor forgets its calls, and says so or not; or somebody cancels the oldest run."""
        if what == "cancel":
            for run in list(self.made)[:1]:
                await do(self.store, cancel(run))
            return
        self.held.clear()
        if what == "hello":
            await self.store.hello("X", [])

    async def tick(self, ms: int) -> None:
        """Time passes; beats go on."""
        self.clock.now_ms += ms
        await self.store.beat((lease.item, lease.token) for lease in self.held.values())
        await self.store.due()

    async def check(self) -> None:
        """What must hold after every script."""
        keys = await read_shard(self.store)
        live = {name[3:]: key.value for name, key in keys.items() if name.startswith("st:")}
        self.made = {run: at for run, at in self.made.items() if run in live}
        holders = {name[3:]: key.value for name, key in keys.items() if name.startswith("sg:")}
        taken = [(key, run) for run, key in self.singles.items() if run in live]
        assert sorted(taken) == sorted(holders.items()), "one run at a time holds each, while it lives"
        self._check_timeouts(keys, live)

    def _check_timeouts(self, keys: dict[str, Key], live: dict[str, dict[str, str]]) -> None:
        timers = dict(keys["timers2"].value) if "timers2" in keys else {}
        items = [key.value for name, key in keys.items() if name.startswith("i:")]
        armed = set()
        for run, state in live.items():
            its = [item["st"] for item in items if item["r"] == run]
            if "od" in state:
                assert set(its) == {"l"}, "what is late does nothing but what is in flight"
                assert self.clock.now_ms >= self.begun[run] + int(state["ft"])
            elif run in self.begun and "ft" in state:
                armed.add(f"F{run}")
                assert timers[f"F{run}"] == self.begun[run] + int(state["ft"]) >= self.clock.now_ms
            elif run not in self.begun and "ot" in state:
                armed.add(f"O{run}")
                assert timers[f"O{run}"] == self.made[run] + LATE_MS >= self.clock.now_ms
        assert {member for member in timers if member[0] in "FO"} == armed

    async def finish_everything(self) -> None:
        """All that waits is cancelled, all that is in flight stops; nothing may be left."""
        for run in list(self.made):
            await do(self.store, cancel(run))
        for lease in self.held.values():
            await commit(self.store, lease)
        for _ in range(3):
            await self.tick(LEASE_MS)
            await self.lease(8)
        assert not [name for name in await read_shard(self.store) if name.startswith("st:")]
        check_leftovers(await read_shard(self.store))


async def open_life(address: Address) -> Life:
    """On a shard of its own."""
    clock = TestClock()
    prefix = f"{{test-{secrets.token_hex(6)}}}:"
    store = Store(address, StoreSettings(prefix=prefix, lease_ms=LEASE_MS), clock_ms=clock)
    await store.open()
    return Life(store, clock)


def life_machine(address: Address, loop: asyncio.Runner) -> type[RuleBasedStateMachine]:
    """What can happen, for Hypothesis to choose from."""

    class Machine(RuleBasedStateMachine):
        life: Life | None = None

        @initialize()
        def begin(self) -> None:
            self.life = loop.run(open_life(address))

        def do(self, name: str, *args: object) -> None:
            assert self.life is not None
            loop.run(getattr(self.life, name)(*args))

        @rule(
            key=st.sampled_from(["k1", "k2"]),
            replaces=st.booleans(),
            timeouts=st.sampled_from([(0, 0), (LATE_MS, 0), (0, LATE_MS), (LATE_MS, 2 * LATE_MS)]),
            needs=st.frozensets(st.sampled_from(["single", "single", "rate", "once"])),
        )
        def start(self, key: str, replaces: bool, timeouts: tuple[int, int], needs: frozenset[str]) -> None:
            self.do("start", key, replaces, timeouts, needs)

        @rule(count=st.integers(1, 3))
        def lease(self, count: int) -> None:
            self.do("lease", count)

        @rule(how=st.sampled_from(["step", "step", "sleep", "forever", "retry", "finish", "checkpoint"]))
        def answer(self, how: str) -> None:
            self.do("answer", how)

        @rule(what=st.sampled_from(["cancel", "crash", "hello"]))
        def trouble(self, what: str) -> None:
            self.do("trouble", what)

        @rule(ms=st.sampled_from([1, 500, LEASE_MS, LATE_MS, RATE_MS]))
        def tick(self, ms: int) -> None:
            self.do("tick", ms)

        @invariant()
        def check(self) -> None:
            if self.life is not None:
                self.do("check")

        def teardown(self) -> None:
            if self.life is not None:
                try:
                    loop.run(self.life.finish_everything())
                finally:
                    loop.run(self.life.store.close())

    return Machine


@pytest.mark.parametrize("examples", [8, pytest.param(60, marks=pytest.mark.slow)])
def test_rights_are_held_and_time_is_kept_whatever_happens(valkey: Address, examples: int) -> None:
    """Hypothesis chooses what happens, and would shrink what breaks."""
    with asyncio.Runner() as loop:
        run_state_machine_as_test(
            life_machine(valkey, loop),
            settings=settings(
                max_examples=examples,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
