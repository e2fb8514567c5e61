"""A cluster in one process, on a clock that is moved by hand: events, executors that die, settings that change.

All that it does comes from one seed. It goes through the real decisions and the real scripts, and writes down what
happened (`flow_records`); whether that is right is for `flow_history` to say.
"""

import itertools
import random
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import orjson
import rfc8785

from innkeeper_engine.compiled import Registry
from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.gathered import fire_gathered
from innkeeper_engine.decide.keying import rekey
from innkeeper_engine.decide.route import Arrival, start_effects
from innkeeper_engine.model.clock import encode_ulid
from innkeeper_engine.model.effects import (
    Cancel,
    CursorGuard,
    Effect,
    Finish,
    Gather,
    GatherGuard,
    LeaseGuard,
    LiveGuard,
    Pending,
    Plan,
    Rekey,
    Retry,
    Save,
    Skip,
    Start,
    Wait,
)
from innkeeper_engine.model.functions import App, FunctionConfig, Timeouts
from innkeeper_engine.model.state import PLANNED, Due, Lease
from innkeeper_engine.model.state import Gathered as Gathering
from innkeeper_engine.registering import register_app
from innkeeper_engine.registry import Registries
from innkeeper_engine.store.store import Store
from tests.engine.flow_records import (
    Closed,
    Drained,
    Ended,
    Gathered,
    Made,
    Met,
    Needs,
    Queue,
    Quiet,
    Record,
    Refused,
    Released,
    Rights,
    Slots,
    Taken,
    Waiter,
)
from tests.engine.flow_settings import (
    EVERYONE,
    LONG_MS,
    Data,
    Wanted,
    boost_of,
    changed,
    grouping_of,
    needs_of,
    random_data,
    random_function,
    rights_of,
)
from tests.engine.model_driver import TestClock
from tests.engine.model_server import read_shard

ENV = "env"
LEASE_MS = 1_000
EXECUTORS = ("X", "Y", "Z")

_LOOK = """
local runs, leased = {}, {}
local asked = cjson.decode(ARGV[2])
for n, run in ipairs(asked.runs) do
  local items = {}
  for _, member in ipairs(redis.call('SMEMBERS', ARGV[1] .. 'ri:' .. run)) do
    if string.sub(member, 1, 1) == 'i' then
      local id = string.sub(member, 2)
      local item = redis.call('HMGET', ARGV[1] .. 'i:' .. id, 'st', 'p')
      items[#items + 1] = {id, item[1], item[2]}
    end
  end
  runs[n] = {redis.call('EXISTS', ARGV[1] .. 'st:' .. run), redis.call('HGET', ARGV[1] .. 'run:' .. run, 's'), items}
end
for n, item in ipairs(asked.items) do leased[n] = redis.call('HGET', ARGV[1] .. 'i:' .. item, 'tk') end
local busy = redis.call('EXISTS', ARGV[1] .. 'ready', ARGV[1] .. 'again')
return {runs, leased, busy}
"""

_IS_GATHERED = """
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
  if redis.call('LPOS', key, ARGV[2]) then return 1 end
end
return 0
"""

_EMPTY_AT_THE_END = frozenset(
    {
        *("n", "ready", "lr", "wl", "wn", "wk", "ws", "wd", "hl", "again", "s", "q"),
        *(
            "i",
            "st",
            "ri",
            "sk",
            "pd",
            "x",
            "timers",
            "w",
            "wi",
            "wp",
            "sg",
            "g",
            "ge",
            "gh",
            "rq",
            "rb",
            "es",
        ),
    }
)
"""Keys that say what is to be done."""


class Item(NamedTuple):
    """A request that is queued, put off or under way."""

    run: str
    queued: bool
    partition: str
    time_ms: float
    """By which it queues, but for its priority."""


class Run(msgspec.Struct, kw_only=True):
    """A run that goes on."""

    slug: str
    data: Data
    time_ms: float
    """By which its next requests queue: when its event was accepted, or is for."""
    born: int
    due_ms: int
    single: str
    moves: list[str]
    begun: bool = False
    done: int = 0


class Event(NamedTuple):
    """An event that was sent."""

    data: Data
    sender_id: str
    at: int
    due_ms: int


class Cluster:
    """One environment, one app, three executors. Every public coroutine is one thing that happens."""

    def __init__(self, store: Store, clock: TestClock, seed: int, wanted: Wanted, functions: int = 3) -> None:
        self.store, self.clock, self.wanted = store, clock, wanted
        self.choice = random.Random(seed)
        self.history: list[Record] = []
        self._app = App(
            id="app",
            url="http://app/",
            functions=tuple(random_function(self.choice, f"app-f{n}", wanted) for n in range(functions)),
        )
        self._registries = Registries(store)
        self._registry = Registry(ENV, 0, [])
        self._numbers = itertools.count(1)
        self._events: dict[str, Event] = {}
        self._seen: set[str] = set()
        self._runs: dict[str, Run] = {}
        self._items: dict[str, Item] = {}
        self._leases: dict[str, str] = {}
        """Item -> token, as the store has it."""
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
        await self._register(self._app)

    # ---- what happens

    async def send(self) -> None:
        """An event is accepted; now and then with an id that was used before, or for later."""
        choice, now_ms, event_id = self.choice, self.clock.now_ms, self._id()
        sender_id = f"mine-{choice.randrange(6)}" if choice.random() < 0.15 else ""
        due_ms = now_ms + choice.choice([300, 3_000]) if choice.random() < 0.1 else 0
        name = choice.choice([EVERYONE, *(f.slug for f in self._app.functions)])
        event = Event(random_data(choice), sender_id, now_ms, due_ms)
        self._events[event_id] = event
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
        event = self._events.get(
            queued.id, Event({}, "", queued.received_ms, 0)
        )  # or one of the engine's own
        met = [f for f in self._app.functions if queued.name in (f.slug, EVERYONE)]
        for config in met:
            rights = rights_of(self._app, config, event.data, event.sender_id)
            self._say(Met(self.clock.now_ms, queued.id, config.slug, rights))
        guard = CursorGuard(ENV, peeked.cursor, "", 1)
        if self._older and self.choice.random() < 0.2:
            late = await self.store.apply(guard, effects, registry=self._older)
            assert late.status == "moved", late
        applied = await self.store.apply(guard, effects, registry=self._registry.version)
        assert applied.status == "ok", applied
        await self._look(replacing=True)
        await self._came_of(effects)
        return True

    async def lease(self, executor: str, count: int, *, reply_lost: bool = False) -> int:
        """An executor takes work; where the reply gets lost it does not know of it."""
        await self._move_what_is_due()
        self._say_queue()
        tokens = [self._id() for _ in range(count)]
        due = await self._due(executor, tokens)
        await self._taken(executor, due.leases, reply_lost=reply_lost)
        return len(due.leases)

    async def answer(self, executor: str, *, well: bool = False, then: int = 0) -> None:
        """The app answers one of an executor's calls, which takes up to `then` others with the commit."""
        held = self._held[executor]
        if not held:
            return
        lease = held.pop(self.choice.choice(sorted(held)))
        run = self._runs.get(lease.run)
        effects = self._effects(lease, run, well=well) if run is not None else []
        self._say_queue(without=lease.run)
        guard = LeaseGuard(lease.item, lease.token, lease.seen)
        tokens = [self._id() for _ in range(then)]
        applied = await self.store.apply(guard, effects, executor=executor, tokens=tokens)
        if applied.status == "ok" and run is not None:
            self._moved_on(lease, run, effects)
        await self._taken(executor, applied.leases)

    def _moved_on(self, lease: Lease, run: Run, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Rekey):
                # Keyed again, it may be as old as its run, which was made after its event was accepted.
                run.time_ms = effect.order + boost_of(self._config(run.slug), run.data)
                self._items[lease.item] = self._items[lease.item]._replace(time_ms=run.time_ms)
                return
        if lease.kind != PLANNED and not any(isinstance(effect, Retry) for effect in effects):
            run.done += 1

    def crash(self, executor: str) -> None:
        """An executor forgets everything, and nobody is told."""
        self._held[executor].clear()

    async def hello(self, executor: str) -> None:
        """An executor has reconnected."""
        await self.store.hello(executor, self._held[executor])
        await self._look()

    async def beat(self, executor: str) -> None:
        """A heartbeat: what is lost is forgotten, what has ended is given back."""
        held = self._held[executor]
        lost, ended = await self.store.beat((lease.item, token) for token, lease in held.items())
        for token in lost:
            del held[token]
        for token in ended:
            lease = held.pop(token)
            applied = await self.store.apply(LeaseGuard(lease.item, token, lease.seen), [])
            assert applied.status == "ended", applied
        await self._look()

    async def cancel(self) -> None:
        """Somebody cancels a run."""
        if self._runs:
            run = self.choice.choice(sorted(self._runs))
            await self.store.apply(LiveGuard(run), [Cancel(run, (self._id(), self._id()))])
            await self._look(cancelled=run)

    async def tick(self, ms: int) -> None:
        """Time passes."""
        self.clock.now_ms += ms
        await self._move_what_is_due()

    async def change(self, *, keys: bool) -> None:
        """A function gets other limits; `keys`: any of them, else only other numbers."""
        config = self.choice.choice(self._app.functions)
        await self._replace(changed(self.choice, config, keys=keys))

    async def pause(self) -> None:
        """A function is paused in one of the ways, or goes on, or the app does."""
        replace = msgspec.structs.replace
        if self.choice.random() < 0.25:
            await self._register(replace(self._app, paused=not self._app.paused))
            return
        await self._replace(
            replace(
                self.choice.choice(self._app.functions),
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
            if not await self.lease(self.choice.choice(EXECUTORS), 8) and not self._busy:
                break
        else:
            raise AssertionError("the queue is never quiet")
        waiting = {name: self._needs(item.run) for name, item in self._items.items() if item.queued}
        self._say(Quiet(self.clock.now_ms, waiting))

    async def count_slots(self) -> None:
        """Look at all that the store counts."""
        keys = await read_shard(self.store)
        slots = {name: frozenset(key.value) for name, key in keys.items() if name.startswith("s:")}
        self._say(Slots(self.clock.now_ms, slots))

    async def drain(self) -> None:
        """Everything goes on, and executors work until nothing is left, or nothing moves."""
        functions = tuple(msgspec.structs.replace(f, paused=False) for f in self._app.functions)
        await self._register(msgspec.structs.replace(self._app, paused=False, functions=functions))
        self._draining = True
        for _ in range(3_000):
            while await self.route():
                pass
            for executor in EXECUTORS:
                await self.hello(executor)
            await self.fill()
            if not self._leases and not await self.route():
                if self._next_ms is None:
                    break
                await self.tick(max(1, int(self._next_ms + 1) - self.clock.now_ms))
            for executor in EXECUTORS:
                while self._held[executor]:
                    await self.answer(executor, well=True)
        keys = await read_shard(self.store)
        left = tuple(sorted(name for name in keys if name.partition(":")[0] in _EMPTY_AT_THE_END))
        self._say(Drained(self.clock.now_ms, left))

    # ---- inside

    def _say(self, record: Record) -> None:
        self.history.append(record)

    def _say_queue(self, without: str = "") -> None:
        waiting = (
            Waiter(name, item.partition, *self._order(item))
            for name, item in self._items.items()
            if item.queued and item.run != without
        )
        self._say(Queue(self.clock.now_ms, tuple(waiting)))

    async def _replace(self, config: FunctionConfig) -> None:
        functions = (config if f.slug == config.slug else f for f in self._app.functions)
        await self._register(msgspec.structs.replace(self._app, functions=tuple(functions)))

    async def _register(self, app: App) -> None:
        self._app = msgspec.structs.replace(app, checksum=str(next(self._numbers)))
        done = await register_app(self.store, ENV, self._app, now_ms=self.clock.now_ms)
        self._older = self._registry.version
        self._registry = await self._registries.at_least(ENV, done.registry)

    async def _move_what_is_due(self) -> None:
        """In a script of its own, so that it can be seen what ends and what is queued by it."""
        await self._due()
        await self._look()
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
            self._say(Closed(self.clock.now_ms, each.id, each.slug, each.events))
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
        await self._look(replacing=True)
        await self._came_of(effects, kind=gathering.kind)
        assert (await self.store.apply(guard, effects)).status != "ok", "a gathering was let go of twice"

    async def _look(self, *, cancelled: str = "", replacing: bool = False) -> None:
        """See which requests are over, which runs, and what is queued."""
        runs, items = sorted(self._runs), sorted(self._leases)
        asked = orjson.dumps({"runs": runs, "items": items})
        found, tokens, self._busy = await self.store.command(
            "EVAL", _LOOK, 0, self.store.settings.prefix, asked
        )
        for item, token in zip(items, tokens, strict=True):
            if token is None or token.decode() != self._leases[item]:
                del self._leases[item]
                self._say(Released(self.clock.now_ms, item))
        known, self._items = self._items, {}
        for run, (live, status, its) in zip(runs, found, strict=True):
            if live:
                for raw, state, partition in its:
                    name, time_ms = raw.decode(), self._runs[run].time_ms
                    if name in known:
                        time_ms = known[name].time_ms
                    self._items[name] = Item(run, state == b"q", partition.decode(), time_ms)
                continue
            replaced = replacing and status == b"Cancelled" and self._runs[run].single != ""
            why = "cancelled" if run == cancelled else "replaced" if replaced else status.decode()
            self._say(Ended(self.clock.now_ms, run, why))
            del self._runs[run]

    async def _taken(self, executor: str, leases: Sequence[Lease], *, reply_lost: bool = False) -> None:
        await self._look_after(leases)
        for lease in leases:
            run = self._runs[lease.run]
            needs = Needs((), held=self._needs(lease.run).held) if lease.rekey else self._needs(lease.run)
            item = self._items[lease.item]
            partition = "" if lease.rekey else item.partition
            self._say(Taken(self.clock.now_ms, lease.item, lease.run, needs, partition, *self._order(item)))
            run.begun = run.begun or not lease.rekey
            self._leases[lease.item] = lease.token
            if not reply_lost:
                self._held[executor][lease.token] = lease

    async def _look_after(self, leases: Iterable[Lease]) -> None:
        """What is over is said before what is new."""
        await self._look()
        assert all(lease.run in self._runs for lease in leases), "an item of a run that has ended was leased"

    async def _came_of(self, effects: Sequence[Effect], *, kind: str = "") -> None:
        """See which runs were made, skipped, and what was gathered."""
        for effect in effects:
            if isinstance(effect, Start | Skip):
                await self._began(effect.run, kind=kind)
            elif isinstance(effect, Gather):
                await self._gathered(effect)
        await self._look()

    async def _gathered(self, effect: Gather) -> None:
        config, event = self._config(effect.fn.partition("/")[2]), self._events[effect.event]
        for skip in effect.refused:
            assert isinstance(skip, Skip)
            await self._began(skip.run)
        pattern = self.store.key(f"ge:{effect.group}#*")
        if not await self.store.command("EVAL", _IS_GATHERED, 0, pattern, effect.event):
            return
        grouping = grouping_of(config, event.data)
        assert grouping is not None, f"{effect} by {config}"
        rights = rights_of(self._app, config, event.data, event.sender_id)
        # Only a batch takes them for each event.
        own = Rights(repeat=rights.repeat, once=rights.once) if grouping.most else Rights()
        self._say(Gathered(self.clock.now_ms, effect.event, config.slug, grouping, own))

    async def _began(self, run: str, *, kind: str = "") -> None:
        summary = await self.store.run(run)
        if summary is None or run in self._seen:
            return
        self._seen.add(run)
        now_ms, config = self.clock.now_ms, self._config(summary.slug)
        events = [self._events[event] for event in summary.event_ids]
        event = events[0]
        rights = rights_of(self._app, config, event.data, event.sender_id)
        if kind == "batch":
            rights = rights._replace(repeat="", once="")
        if summary.status == "Skipped":
            why = await self._why(run)
            self._say(Refused(now_ms, run, config.slug, summary.event_ids, why, rights))
            return
        due_ms = event.due_ms if event.due_ms > now_ms and kind != "batch" else 0
        limits = config.timeouts or Timeouts()
        times = (due_ms, limits.start_ms or 0, limits.finish_ms or 0)
        self._say(Made(now_ms, run, config.slug, summary.event_ids, rights, *times))
        self._runs[run] = Run(
            slug=config.slug,
            data=event.data,
            # What was gathered is as old as its run.
            time_ms=max(now_ms if kind else event.at, due_ms),
            born=event.at,
            due_ms=due_ms,
            single=rights.single,
            moves=[self.choice.choice(["step", "sleep", "fork"]) for _ in range(self.choice.randrange(3))],
        )

    async def _why(self, run: str) -> str:
        """Why a run was skipped, as its history has it."""
        lines = await self.store.command("XREVRANGE", self.store.key("hist"), "+", "-", "COUNT", 50)
        for _, (_, of, _, text) in lines:
            note = orjson.loads(text)
            if of.decode() == run and note["type"] == "skipped":
                return str(note["why"])
        raise AssertionError(f"{run} is skipped, and its history does not say why")

    def _needs(self, run: str) -> Needs:
        known = self._runs[run]
        return needs_of(self._app, self._config(known.slug), known.data, begun=known.begun)

    def _order(self, item: Item) -> tuple[float, int]:
        run = self._runs[item.run]
        return item.time_ms - boost_of(self._config(run.slug), run.data), run.born

    def _config(self, slug: str) -> FunctionConfig:
        return next(f for f in self._app.functions if f.slug == slug)

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
