"""Writes down what a store has done: which requests are over, which runs, what was made, skipped and gathered.

It looks before and after every script, and asks the settings (`flow_settings`) what they want of what it sees.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import orjson

from innkeeper_engine.model.effects import Effect, Gather, Skip, Start
from innkeeper_engine.model.functions import App, FunctionConfig, Timeouts
from innkeeper_engine.model.state import Lease
from innkeeper_engine.store.store import Store
from tests.engine.flow_records import (
    Changed,
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
from tests.engine.flow_settings import Data, boost_of, grouping_of, needs_of, rights_of, throttling_of
from tests.engine.model_driver import TestClock
from tests.engine.model_server import read_shard

ENV = "env"

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

_WORK = (
    "n ready lr wl wn wk ws wd hl again s q i st ri sk pd x timers timers2 w wi wp sg g ge gh rq rb es routes"
)
_EMPTY_AT_THE_END = frozenset(_WORK.split(" "))
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


class Witness:
    """The history of one environment with one app."""

    def __init__(self, store: Store, clock: TestClock, choice: random.Random, app: App) -> None:
        self.store, self.clock, self.choice, self.app = store, clock, choice, app
        self.history: list[Record] = []
        self.events: dict[str, Event] = {}
        self.runs: dict[str, Run] = {}
        """Those that go on."""
        self.busy = False
        """Whether somebody is ready to go out, or is to be looked at again."""
        self._seen: set[str] = set()
        self._items: dict[str, Item] = {}
        self._leases: dict[str, str] = {}
        """Item -> token, as the store has it."""

    @property
    def working(self) -> bool:
        """Whether requests are under way."""
        return bool(self._leases)

    def config(self, slug: str) -> FunctionConfig:
        """The function as it is now."""
        return next(f for f in self.app.functions if f.slug == slug)

    def say(self, record: Record) -> None:
        """Write it down."""
        self.history.append(record)

    def say_changed(self, before: App) -> None:
        """Functions have been registered anew."""
        for old, new in zip(before.functions, self.app.functions, strict=True):
            throttle = throttling_of(new)
            if throttle is not None and throttle != throttling_of(old):
                self.say(Changed(self.clock.now_ms, throttle))

    def say_queue(self, without: str = "") -> None:
        """All that waits; `without` the requests of one run."""
        waiting = (
            Waiter(name, item.partition, *self._order(item))
            for name, item in self._items.items()
            if item.queued and item.run != without
        )
        self.say(Queue(self.clock.now_ms, tuple(waiting)))

    def say_met(self, event: str, name: str, everyone: str) -> None:
        """An event meets its functions."""
        for config in self.app.functions:
            if name in (config.slug, everyone):
                sent = self.events[event]
                rights = rights_of(self.app, config, sent.data, sent.sender_id)
                self.say(Met(self.clock.now_ms, event, config.slug, rights))

    def say_quiet(self) -> None:
        """Nothing more goes out."""
        waiting = {name: self._needs(item.run) for name, item in self._items.items() if item.queued}
        self.say(Quiet(self.clock.now_ms, waiting))

    async def say_drained(self) -> None:
        """Everything that could end has."""
        keys = await read_shard(self.store)
        left = tuple(sorted(name for name in keys if name.partition(":")[0] in _EMPTY_AT_THE_END))
        self.say(Drained(self.clock.now_ms, left))

    async def count_slots(self) -> None:
        """Look at all that the store counts."""
        keys = await read_shard(self.store)
        slots = {name: frozenset(key.value) for name, key in keys.items() if name.startswith("s:")}
        self.say(Slots(self.clock.now_ms, slots))

    async def look(self, *, cancelled: str = "", replacing: bool = False) -> None:
        """See which requests are over, which runs, and what is queued."""
        runs, items = sorted(self.runs), sorted(self._leases)
        asked = orjson.dumps({"runs": runs, "items": items})
        found, tokens, self.busy = await self.store.command(
            "EVAL", _LOOK, 0, self.store.settings.prefix, asked
        )
        for item, token in zip(items, tokens, strict=True):
            if token is None or token.decode() != self._leases[item]:
                del self._leases[item]
                self.say(Released(self.clock.now_ms, item))
        known, self._items = self._items, {}
        for run, (live, status, its) in zip(runs, found, strict=True):
            if live:
                for raw, state, partition in its:
                    name = raw.decode()
                    time_ms = known[name].time_ms if name in known else self.runs[run].time_ms
                    self._items[name] = Item(run, state == b"q", partition.decode(), time_ms)
                continue
            replaced = replacing and status == b"Cancelled" and self.runs[run].single != ""
            why = "cancelled" if run == cancelled else "replaced" if replaced else status.decode()
            self.say(Ended(self.clock.now_ms, run, why))
            del self.runs[run]

    async def taken(self, leases: Sequence[Lease]) -> None:
        """Requests have gone out; what is over is said before."""
        await self.look()
        for lease in leases:
            run = self.runs[lease.run]
            needs = Needs((), held=self._needs(lease.run).held) if lease.rekey else self._needs(lease.run)
            item = self._items[lease.item]
            partition = "" if lease.rekey else item.partition
            self.say(Taken(self.clock.now_ms, lease.item, lease.run, needs, partition, *self._order(item)))
            run.begun = run.begun or not lease.rekey
            self._leases[lease.item] = lease.token

    async def came_of(self, effects: Sequence[Effect], *, kind: str = "") -> None:
        """See which runs were made, skipped, and what was gathered."""
        for effect in effects:
            if isinstance(effect, Start | Skip):
                await self._began(effect.run, kind=kind)
            elif isinstance(effect, Gather):
                await self._gathered(effect)
        await self.look()

    async def _gathered(self, effect: Gather) -> None:
        config, event = self.config(effect.fn.partition("/")[2]), self.events[effect.event]
        for skip in effect.refused:
            assert isinstance(skip, Skip)
            await self._began(skip.run)
        pattern = self.store.key(f"ge:{effect.group}#*")
        if not await self.store.command("EVAL", _IS_GATHERED, 0, pattern, effect.event):
            return
        grouping = grouping_of(config, event.data)
        assert grouping is not None, f"{effect} by {config}"
        rights = rights_of(self.app, config, event.data, event.sender_id)
        # Only a batch takes them for each event.
        own = Rights(repeat=rights.repeat, once=rights.once) if grouping.most else Rights()
        self.say(Gathered(self.clock.now_ms, effect.event, config.slug, grouping, own))

    async def _began(self, run: str, *, kind: str = "") -> None:
        summary = await self.store.run(run)
        if summary is None or run in self._seen:
            return
        self._seen.add(run)
        now_ms, config = self.clock.now_ms, self.config(summary.slug)
        event = self.events[summary.event_ids[0]]
        rights = rights_of(self.app, config, event.data, event.sender_id)
        if kind == "batch":
            rights = rights._replace(repeat="", once="")
        if summary.status == "Skipped":
            why = await self._why(run)
            self.say(Refused(now_ms, run, config.slug, summary.event_ids, why, rights))
            return
        due_ms = event.due_ms if event.due_ms > now_ms and kind != "batch" else 0
        limits = config.timeouts or Timeouts()
        times = (due_ms, limits.start_ms or 0, limits.finish_ms or 0)
        self.say(Made(now_ms, run, config.slug, summary.event_ids, rights, *times))
        self.runs[run] = Run(
            slug=config.slug,
            data=event.data,
            # What was gathered is as old as its run.
            time_ms=max(now_ms if kind else event.at, due_ms),
            born=event.at,
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
        known = self.runs[run]
        return needs_of(self.app, self.config(known.slug), known.data, begun=known.begun)

    def _order(self, item: Item) -> tuple[float, int]:
        run = self.runs[item.run]
        return item.time_ms - boost_of(self.config(run.slug), run.data), run.born
