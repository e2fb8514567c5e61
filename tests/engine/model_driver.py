"""Drives the store's scheduler with the operations of its model, and compares the two after each."""

import itertools
from collections.abc import Mapping, Sequence

from innkeeper_engine.model.effects import Cancel, Finish, Rekey, Start
from innkeeper_engine.model.guards import LeaseGuard, NoGuard
from innkeeper_engine.store.store import Store
from tests.engine.model_names import fn_of, item_name, number_of, signed
from tests.engine.model_promises import check, cut
from tests.engine.model_rules import BrokenError, Cap, Cut, Op, Throttle
from tests.engine.model_scheduler import Scheduler
from tests.engine.model_server import Key, copy_shard, read_shard

START_MS = 1_700_000_000_000
NO_IDS = ("0" * 26, "1" * 26)


class TestClock:
    """A clock that stands until it is moved."""

    __test__ = False

    def __init__(self, now_ms: int = START_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


class Lockstep:
    """A store and a model that have had the same operations."""

    def __init__(
        self,
        store: Store,
        copy: Store,
        clock: TestClock,
        caps: Mapping[tuple[str, str], Cap],
        signatures: Mapping[str, str] | None = None,
    ) -> None:
        """`copy` is a second shard on the same server; both stores take their time from `clock`.

        Both look at as many nodes in one script (`StoreSettings.nodes`).
        """
        self._store, self._copy, self._clock = store, copy, clock
        self.model = Scheduler(dict(caps), signatures, now_ms=clock.now_ms, nodes=store.settings.nodes)
        self._leases = itertools.count()
        self._tokens: dict[str, str] = {}

    async def open(self) -> None:
        """Tell the store of the functions."""
        for fn in sorted({fn for fn, _ in self.model.caps} | set(self.model.signatures)):
            await self._configure(fn)

    # ---- operations

    async def do(self, op: Op) -> None:
        """Do one operation on both.

        Raises:
            BrokenError: they differ afterwards, or a promise does not hold.
        """
        expected = self.model.do(op)
        match op:
            case ("add", str() as partition):
                await self._add(partition, self.model.added - 1)
            case ("add", str() as partition, int() as boost):
                await self._add(partition, self.model.added - 1, boost)
            case ("lease",):
                await self._lease(expected)
            case ("rekey", int() as number, str() as partition, int() as boost):
                await self._rekey(number, partition, boost)
            case ("done" | "expire" | "cancel" as how, int() as number):
                await self._end(how, item_name(number))
            case ("tick", int() as ms):
                self._clock.now_ms += ms
                await self._store.due()
            case (_, str() as fn, *_):
                await self._configure(fn)
        await self.check()

    async def _add(self, partition: str, number: int, boost: int = 0) -> None:
        run = item_name(number)[:-2]
        event = ((f"E{number:025}", b"{}"),)
        fn = f"e/{fn_of(partition)}"
        place = (partition, partition, self.model.times[number] - boost, 0)
        start = Start(run, "e", fn, b'"f"', "a", event, *place, announces=False, boost_ms=boost)
        await self._store.apply(NoGuard(), [start])

    async def _lease(self, expected: str | None) -> None:
        token = f"T{next(self._leases):03}"
        due = await self._store.due(executor="X", tokens=[token])
        leased = [lease.item for lease in due.leases]
        if leased != ([] if expected is None else [expected]):
            raise BrokenError(f"the store leased {leased}, the model {expected}")
        if expected is not None:
            if due.leases[0].rekey != self.model.leased[expected].stale:
                raise BrokenError(f"{expected}: only one of the two leased it to be keyed again")
            self._tokens[expected] = token

    async def _rekey(self, number: int, partition: str, boost: int) -> None:
        item = item_name(number)
        rekey = Rekey(item, item[:-2], partition, partition, self.model.times[number] - boost, boost)
        applied = await self._store.apply(LeaseGuard(item, self._tokens.pop(item), 0), [rekey])
        assert applied.status in ("ok", "ended")

    async def _end(self, how: str, item: str) -> None:
        run = item[:-2]
        if how == "cancel":
            await self._store.apply(NoGuard(), [Cancel(run, NO_IDS)])
            return
        token = self._tokens.pop(item)
        if how == "done":
            effects = [Finish(run, "Completed", b"1", b"", b"", b"", NO_IDS)]
            applied = await self._store.apply(LeaseGuard(item, token, 0), effects)
            assert applied.status in ("ok", "ended")
            return
        # What time would do, to this one lease.
        await self._store.command("ZADD", self._store.key("timers"), self._clock.now_ms, f"L{item}")
        assert (await self._store.due()).expired == 1

    async def _configure(self, fn: str) -> None:
        caps: list[str | int] = []
        for (owner, definition), cap in self.model.caps.items():
            if owner == fn:
                caps += [definition, f"{cap.emission_ms},{cap.burst}" if isinstance(cap, Throttle) else cap]
        if signature := self.model.signatures.get(fn):
            caps += ["sig", signature]
        await self._store.configure("e", functions=[(fn, self.model.held.get(fn, ""), caps)])

    # ---- checks

    async def check(self) -> None:
        """The store is where the model is, goes where the model goes, and keeps its promises.

        Raises:
            BrokenError: it is not, does not, or breaks one.
        """
        _compare(await read_shard(self._store), self.model)
        drained = check(self.model)
        await copy_shard(self._store, self._copy)
        left = 300
        again = self._copy.key("again")
        while (
            await self._copy.due(executor="D", tokens=[f"D{n}" for n in range(8)])
        ).leases or await self._copy.command("EXISTS", again):
            left -= 1
            if left < 0:
                raise BrokenError("draining leases more than there is")
        _compare(await read_shard(self._copy), drained)

    async def finish_everything(self) -> None:
        """Let every function go on, and every lease end, until nothing is left: no run is forgotten.

        Raises:
            BrokenError: something is left.
        """
        for fn in sorted(self.model.held):
            await self.do(("hold", fn, ""))
        for _ in range(4 * self.model.added + 10):
            for item, lease in sorted(self.model.leased.items()):
                if lease.stale:
                    signature = self.model.signatures.get(fn_of(lease.partition), "")
                    to = signed(lease.partition, signature)
                    await self.do(("rekey", number_of(item), to, lease.boost))
                else:
                    await self.do(("done", number_of(item)))
            await self.do(("lease",))
            if not self.model.leased and self.model.timers:
                await self.do(("tick", max(1, min(self.model.timers.values()) - self._clock.now_ms)))
            if not (self.model.leased or self.model.timers or self.model.ready or self.model.again):
                break
        keys = await read_shard(self._store)
        left = sorted(name for name in keys if name.partition(":")[0] in _EMPTY_AT_THE_END)
        if left:
            raise BrokenError(f"all runs could have ended, and these are left: {left}")


_EMPTY_AT_THE_END = frozenset(
    {
        "n",
        "ready",
        "lr",
        "wl",
        "wn",
        "wk",
        "ws",
        "wd",
        "hl",
        "again",
        "s",
        "q",
        "i",
        "st",
        "ri",
        "x",
        "timers",
        "timers2",
        "w",
        "wi",
        "wp",
    }
)


def _compare(keys: Mapping[str, Key], model: Scheduler) -> None:
    actual, expected = cut_of(keys), cut(model)
    for part, value in expected.items():
        if actual[part] != value:
            raise BrokenError(f"{part}: the store has {actual[part]}, the model {value}")


def cut_of(keys: Mapping[str, Key]) -> Cut:
    """The store's state as the model would show it."""
    timers = dict(keys["timers"].value) if "timers" in keys else {}
    waiting = {}
    for name, key in _named(keys, "wl:"):
        waiting[name] = [(lane, _members(keys[f"wn:{name}\x03{lane}"])) for lane in _members(key)]
    woken = {}
    for name, key in _named(keys, "wk:"):
        woken[name] = dict(key.value)
    return {
        "ready": _members(keys["ready"]) if "ready" in keys else [],
        "turn": float(keys["clock"].value.get("turn", "0")) if "clock" in keys else 0.0,
        "rings": {name: key.value for name, key in _named(keys, "lr:")},
        "places": {name: key.value["w"] for name, key in _named(keys, "n:")},
        "queues": {name: _members(key) for name, key in _named(keys, "q:")},
        "slots": {name: key.value for name, key in _named(keys, "s:")},
        "waiting": waiting,
        "woken": woken,
        "tats": {name: int(float(key.value)) for name, key in _named(keys, "tat:")},
        "timers": {name[1:]: int(at) for name, at in timers.items() if name.startswith("T")},
        "again": [tuple(job.split("\x02")[:2]) for job in keys["again"].value] if "again" in keys else [],
    }


def _named(keys: Mapping[str, Key], head: str) -> list[tuple[str, Key]]:
    return [(name[len(head) :], key) for name, key in keys.items() if name.startswith(head)]


def _members(key: Key) -> list[str]:
    return [member for member, _ in key.value]


async def run_trace(lockstep: Lockstep, ops: Sequence[Op]) -> None:
    """Do operations one after the other, checking after each."""
    for op in ops:
        await lockstep.do(op)
