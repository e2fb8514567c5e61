"""A cluster in one process, on a clock that is moved by hand: events, executors that die, settings that change.

All that it does comes from one seed. It goes through the real decisions and the real scripts, and writes down what
happened (`flow_records`); whether that is right is for `flow_history` to say.
"""

import itertools
import random
from collections.abc import Sequence
from typing import Any

import msgspec
import rfc8785

from innkeeper_engine.compiled import Registry
from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.gathered import fire_gathered
from innkeeper_engine.decide.keying import rekey
from innkeeper_engine.decide.route import Arrival, start_effects
from innkeeper_engine.model.clock import encode_ulid
from innkeeper_engine.model.effects import Cancel, Effect, Finish, Pending, Plan, Rekey, Retry, Save, Wait
from innkeeper_engine.model.functions import App, FunctionConfig
from innkeeper_engine.model.guards import CursorGuard, GatherGuard, LeaseGuard, LiveGuard
from innkeeper_engine.model.state import PLANNED, Due, Lease
from innkeeper_engine.model.state import Gathered as Gathering
from innkeeper_engine.registering import register_app
from innkeeper_engine.registry import Registries
from innkeeper_engine.store.store import Store
from tests.engine.flow_records import (
    Closed,
)
from tests.engine.flow_settings import (
    EVERYONE,
    LONG_MS,
    Wanted,
    changed,
    random_data,
    random_function,
)
from tests.engine.flow_witness import ENV, Event, Run, Witness
from tests.engine.model_driver import TestClock
from tests.engine.model_runs import beat

LEASE_MS = 1_000
EXECUTORS = ("X", "Y", "Z")


class Cluster(Witness):
    """One environment, one app, three executors. Every public coroutine is one thing that happens."""

    def __init__(self, store: Store, clock: TestClock, seed: int, wanted: Wanted, count: int = 3) -> None:
        choice = random.Random(seed)
        functions = tuple(random_function(choice, f"app-f{n}", wanted) for n in range(count))
        super().__init__(store, clock, choice, App(id="app", url="http://app/", functions=functions))
        self.wanted = wanted
        self._registries = Registries(store)
        self._registry = Registry(ENV, 0, [])
        self._numbers = itertools.count(1)
        self._held: dict[str, dict[str, Lease]] = {name: {} for name in EXECUTORS}
        """What each executor knows that it works on."""
        self._next_ms: float | None = None
        self._gatherings: list[Gathering] = []
        """Due, and not dealt with."""
        self._older = 0
        """The registry's version before the present one."""
        self._draining = False

    async def open(self) -> None:
        """Register the functions."""
        await self._register(self.app)

    # ---- what happens

    async def send(self) -> None:
        """An event is accepted; now and then with an id that was used before, or for later."""
        choice, now_ms, event_id = self.choice, self.clock.now_ms, self._id()
        sender_id = f"mine-{choice.randrange(6)}" if choice.random() < 0.15 else ""
        due_ms = now_ms + choice.choice([300, 3_000]) if choice.random() < 0.1 else 0
        name = choice.choice([EVERYONE, *(f.slug for f in self.app.functions)])
        event = Event(random_data(choice), sender_id, now_ms, due_ms)
        self.events[event_id] = event
        body: dict[str, Any] = {
            "data": event.data,
            "id": sender_id or event_id,
            "name": name,
            "ts": due_ms or now_ms,
        }
        await self.store.append(ENV, [(event_id, name, rfc8785.dumps(body))])

    async def route(self) -> bool:
        """The next event meets its functions; False where there is none."""
        peeked = await self.store.peek(1)
        if peeked is None:
            return False
        (queued,) = peeked.events
        effects = start_effects(Arrival(queued), self._context())
        if queued.id in self.events:  # and not one of the engine's own
            self.say_met(queued.id, queued.name, EVERYONE)
        guard = CursorGuard(ENV, peeked.cursor, "", 1)
        if self._older and self.choice.random() < 0.2:
            late = await self.store.apply(guard, effects, registry=self._older)
            assert late.status == "moved", late
        applied = await self.store.apply(guard, effects, registry=self._registry.version)
        assert applied.status == "ok", applied
        await self.look(replacing=True)
        await self.came_of(effects)
        return True

    async def lease(self, executor: str, count: int, *, reply_lost: bool = False) -> int:
        """An executor takes work; where the reply gets lost it does not know of it."""
        await self._move_what_is_due()
        self.say_queue()
        tokens = [self._id() for _ in range(count)]
        due = await self._due(executor, tokens)
        await self.taken(due.leases)
        if not reply_lost:
            self._held[executor] |= {lease.token: lease for lease in due.leases}
        return len(due.leases)

    async def answer(self, executor: str, *, well: bool = False, then: int = 0) -> None:
        """The app answers one of an executor's calls, which takes up to `then` others with the commit."""
        held = self._held[executor]
        if not held:
            return
        lease = held.pop(self.choice.choice(sorted(held)))
        run = self.runs.get(lease.run)
        effects = self._effects(lease, run, well=well) if run is not None else []
        self.say_queue(without=lease.run)
        guard = LeaseGuard(lease.item, lease.token, lease.seen)
        tokens = [self._id() for _ in range(then)]
        applied = await self.store.apply(guard, effects, executor=executor, tokens=tokens)
        is_same_again = any(isinstance(effect, Rekey | Retry) for effect in effects)
        if applied.status == "ok" and run is not None and lease.kind != PLANNED and not is_same_again:
            run.done += 1
        await self.taken(applied.leases)
        self._held[executor] |= {lease.token: lease for lease in applied.leases}

    def crash(self, executor: str) -> None:
        """An executor forgets everything, and nobody is told."""
        self._held[executor].clear()

    async def hello(self, executor: str) -> None:
        """An executor has reconnected."""
        await self.store.hello(executor, self._held[executor])
        await self.look()

    async def beat(self, executor: str) -> None:
        """A heartbeat: what is lost is forgotten, what has ended is given back."""
        await beat(self.store, self._held[executor])
        await self.look()

    async def cancel(self) -> None:
        """Somebody cancels a run."""
        if self.runs:
            run = self.choice.choice(sorted(self.runs))
            await self.store.apply(LiveGuard(run), [Cancel(run, (self._id(), self._id()))])
            await self.look(cancelled=run)

    async def tick(self, ms: int) -> None:
        """Time passes."""
        self.clock.now_ms += ms
        await self._move_what_is_due()

    async def change(self, *, keys: bool) -> None:
        """A function gets other limits; `keys`: any of them, else only other numbers."""
        config = self.choice.choice(self.app.functions)
        await self._replace(changed(self.choice, config, keys=keys))

    async def pause(self) -> None:
        """A function is paused in one of the ways, or goes on, or the app does."""
        replace = msgspec.structs.replace
        if self.choice.random() < 0.25:
            await self._register(replace(self.app, paused=not self.app.paused))
            return
        await self._replace(
            replace(
                self.choice.choice(self.app.functions),
                paused=self.choice.random() < 0.5,
                new_runs=self.choice.choice(["Skip", "Queue"]),
                running=self.choice.choice(["Continue", "Hold"]),
            )
        )

    async def fill(self) -> None:
        """Executors take whatever there is, until all is quiet.

        Raises:
            AssertionError: they never come to an end.
        """
        for _ in range(200):
            if not await self.lease(self.choice.choice(EXECUTORS), 8) and not self.busy:
                break
        else:
            raise AssertionError("the queue is never quiet")
        self.say_quiet()

    async def drain(self) -> None:
        """Everything goes on, and executors work until nothing is left, or nothing moves."""
        functions = tuple(msgspec.structs.replace(f, paused=False) for f in self.app.functions)
        await self._register(msgspec.structs.replace(self.app, paused=False, functions=functions))
        self._draining = True
        for _ in range(3_000):
            while await self.route():
                pass
            for executor in EXECUTORS:
                await self.hello(executor)
            await self.fill()
            if not self.working and not await self.route():
                if self._next_ms is None:
                    break
                await self.tick(max(1, int(self._next_ms + 1) - self.clock.now_ms))
            for executor in EXECUTORS:
                while self._held[executor]:
                    await self.answer(executor, well=True)
        await self.say_drained()

    # ---- inside

    async def _replace(self, config: FunctionConfig) -> None:
        functions = (config if f.slug == config.slug else f for f in self.app.functions)
        await self._register(msgspec.structs.replace(self.app, functions=tuple(functions)))

    async def _register(self, app: App) -> None:
        before, self.app = self.app, msgspec.structs.replace(app, checksum=str(next(self._numbers)))
        done = await register_app(self.store, ENV, self.app, now_ms=self.clock.now_ms)
        self.say_changed(before)
        self._older = self._registry.version
        self._registry = await self._registries.at_least(ENV, done.registry)

    async def _move_what_is_due(self) -> None:
        """In a script of its own, so that it can be seen what ends and what is queued by it."""
        await self._due()
        await self.look()
        while self._gatherings:
            gathering = self._gatherings.pop()
            # Who dies with one leaves it to others, some time later.
            if self._draining or self.choice.random() < 0.9:
                await self._fire(gathering)

    async def _due(self, executor: str = "", tokens: Sequence[str] = ()) -> Due:
        due = await self.store.due(executor=executor, tokens=tokens)
        self._next_ms = due.next_ms
        self._gatherings += due.gathered
        for each in due.gathered:
            self.say(Closed(self.clock.now_ms, each.id, each.slug, each.events))
        return due

    async def _fire(self, gathering: Gathering) -> None:
        """What was gathered makes its run."""
        events = [await self.store.event(ENV, event) for event in gathering.events]
        entry = self._registry.functions[gathering.slug]
        found = [event for event in events if event is not None]
        effects = fire_gathered(entry, gathering, found, self._context())
        guard = GatherGuard(gathering.id)
        applied = await self.store.apply(guard, effects, registry=self._registry.version)
        assert applied.status == "ok", applied
        await self.look(replacing=True)
        await self.came_of(effects, kind=gathering.kind)
        assert (await self.store.apply(guard, effects)).status != "ok", "a gathering was let go of twice"

    def _effects(self, lease: Lease, run: Run, *, well: bool) -> list[Effect]:
        """What the app says: an error, or the run's next move."""
        now_ms, name = self.clock.now_ms, f"m{run.done}"
        if lease.rekey:
            return rekey(lease, self._registry.functions[run.slug], now_ms)
        if not well and self.choice.random() < 0.15:
            return [Retry(lease.item, lease.attempt + 1, now_ms + self.choice.choice([0, 200, 1_500]))]
        if lease.kind == PLANNED:
            return [Save(lease.run, lease.step, b'{"data":1}', True)]
        move = run.moves[run.done] if run.done < len(run.moves) else "end"
        if move == "step":
            return [Save(lease.run, name, b'{"data":1}', True)]
        if move == "sleep":
            until_ms = now_ms + self.choice.choice([1, 400, 2_000])
            pause = f"{lease.run}.{name}"
            return [Wait(pause, lease.run, name, "sleep", ENV, "", "", "", until_ms, b"", b"null")]
        if move == "fork":
            steps = (f"{name}a", f"{name}b")
            return [Pending(lease.run, steps), *(Plan(lease.run, step) for step in steps)]
        return [
            Finish(lease.run, "Completed", b'"done"', b"", b"", b'{"data":"done"}', (self._id(), self._id()))
        ]

    def _context(self) -> Context:
        return Context(
            now_ms=self.clock.now_ms,
            chance=0.0,
            new_id=self._id,
            canonical=rfc8785.dumps,
            seal=lambda op: b"",
            registry=self._registry,
        )

    def _id(self) -> str:
        return encode_ulid(self.clock.now_ms, next(self._numbers))


async def live(cluster: Cluster, steps: int) -> None:
    """So many things happen, in an order that the cluster's seed gives; then everything is brought to its end."""
    await cluster.open()
    choice = cluster.choice
    for _ in range(steps):
        await _something(cluster, choice)
    await cluster.drain()


_WEIGHTS = {
    "send": 5.0,
    "route": 6.0,
    "lease": 5.0,
    "answer": 9.0,
    "tick": 4.0,
    "fill": 2.0,
    "slots": 0.5,
    "hello": 0.6,
    "beat": 1.0,
    "crash": 0.3,
    "cancel": 0.4,
    "change": 0.5,
    "rekey": 0.3,
    "pause": 0.5,
}


async def _something(cluster: Cluster, choice: random.Random) -> None:
    executor = choice.choice(EXECUTORS)
    match choice.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]:
        case "send":
            await cluster.send()
        case "route":
            await cluster.route()
        case "lease":
            await cluster.lease(executor, choice.randint(1, 3), reply_lost=choice.random() < 0.1)
        case "answer":
            await cluster.answer(executor, then=choice.choice([0, 0, 1, 2]))
        case "tick":
            await cluster.tick(choice.choice([0, 1, 30, 400, 400, 1_100, 5_000, LONG_MS // 3]))
        case "fill":
            await cluster.fill()
        case "slots":
            await cluster.count_slots()
        case "hello":
            await cluster.hello(executor)
        case "beat":
            await cluster.beat(executor)
        case "crash":
            cluster.crash(executor)
        case "cancel":
            await cluster.cancel()
        case "change":
            await cluster.change(keys=False)
        case "rekey":
            await cluster.change(keys=cluster.wanted.rekey)
        case "pause":
            await cluster.pause()
