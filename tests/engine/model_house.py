"""A whole engine in a few lines, on the real store: executors that crash and lose replies, a router, a plain-Python
account of what must come of it."""

import itertools
from collections import Counter, defaultdict

import orjson
import rfc8785

from innkeeper_engine.compiled import Registry
from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.respond import respond
from innkeeper_engine.decide.retries import RetryPolicy
from innkeeper_engine.decide.route import Arrival, batch_of, start_effects, waiter_effects, waiter_queries
from innkeeper_engine.model.clock import encode_ulid
from innkeeper_engine.model.effects import Cancel, Effect, Save, Start
from innkeeper_engine.model.guards import CursorGuard, LeaseGuard, LiveGuard
from innkeeper_engine.model.state import Lease, Peeked
from innkeeper_engine.registering import register_app
from innkeeper_engine.store.numbers import read_shard_numbers
from innkeeper_engine.store.store import Store
from tests.engine.model_apps import FUNCTIONS, Invoke, Sdk, app, output_of
from tests.engine.model_driver import TestClock
from tests.engine.model_runs import beat
from tests.engine.model_server import Key, read_shard

ENV = "env"
LEASE_MS = 1_000


class House:
    """One environment with two executors. Every public coroutine is one thing that happens."""

    def __init__(self, store: Store, clock: TestClock) -> None:
        self.store, self.clock = store, clock
        self.registry = Registry(ENV, 1, [app()])
        self.sdk = Sdk()
        self.held: dict[str, dict[str, Lease]] = {"X": {}, "Y": {}}
        """What each executor knows that it works on."""
        self.resent: list[tuple[LeaseGuard, list[Effect]]] = []
        """Commits whose replies got lost."""
        self.stale_peeks: list[Peeked] = []
        self.runs: dict[str, Start] = {}
        self.recorded: dict[tuple[str, str], bytes] = {}
        self.cancelled: set[str] = set()
        self._numbers = itertools.count(1)

    async def open(self) -> None:
        """Register the functions."""
        await register_app(self.store, ENV, app(), now_ms=self.clock.now_ms)

    # ---- what happens

    async def send(self, name: str) -> None:
        """An event is accepted."""
        body = rfc8785.dumps({"data": {}, "id": self._id(), "name": name, "ts": self.clock.now_ms})
        await self.store.append(ENV, [(self._id(), name, body)])

    async def route(self) -> bool:
        """Some events are routed; False when there are none."""
        peeked = await self.store.peek(4)
        if peeked is None:
            return False
        self.stale_peeks = [*self.stale_peeks[-1:], peeked]
        assert await self._route(peeked) == "ok"
        return True

    async def route_again(self) -> None:
        """Another router did the same work, and is late."""
        if self.stale_peeks:
            assert await self._route(self.stale_peeks[-1]) == "moved"

    async def cancel(self, number: int) -> None:
        """Somebody cancels the n-th run."""
        if self.runs:
            run = sorted(self.runs)[number % len(self.runs)]
            applied = await self.store.apply(LiveGuard(run), [Cancel(run, (self._id(), self._id()))])
            if applied.status == "ok":
                self.cancelled.add(run)

    async def lease(self, executor: str, count: int, *, reply_lost: bool = False) -> int:
        """An executor takes work; where the reply gets lost it does not know of it."""
        tokens = [self._id() for _ in range(count)]
        leases = (await self.store.due(executor=executor, tokens=tokens)).leases
        if not reply_lost:
            self.held[executor] |= {lease.token: lease for lease in leases}
        return len(leases)

    async def answer(self, executor: str, number: int, *, reply_lost: bool = False) -> None:
        """The app answers one of an executor's calls, which is committed."""
        held = self.held[executor]
        if not held:
            return
        lease = held.pop(sorted(held)[number % len(held)])
        effects = respond(lease, self.sdk.answer(lease), self._context())
        guard = LeaseGuard(lease.item, lease.token, lease.seen)
        applied = await self.store.apply(guard, effects)
        if applied.status == "ok":
            self._note(effects)
        if reply_lost:
            self.resent.append((guard, effects))

    async def resend(self) -> None:
        """Commits whose outcome is not known are sent again: none of them may count twice."""
        while self.resent:
            guard, effects = self.resent.pop()
            assert (await self.store.apply(guard, effects)).status == "lost"

    async def beat(self, executor: str) -> None:
        """A heartbeat: what is lost is forgotten, what has ended is given back."""
        await beat(self.store, self.held[executor])

    async def hello(self, executor: str) -> None:
        """An executor has reconnected."""
        await self.store.hello(executor, self.held[executor])

    def crash(self, executor: str) -> None:
        """An executor forgets everything, and nobody is told."""
        self.held[executor].clear()

    async def tick(self, ms: int) -> None:
        """Time passes."""
        self.clock.now_ms += ms
        await self.store.due()

    async def finish_everything(self) -> None:
        """The executors come back and work until no run is left."""
        for _ in range(400):
            await self.resend()
            for executor in self.held:
                await self.beat(executor)
                await self.hello(executor)
                await self.lease(executor, 8)
                while self.held[executor]:
                    await self.answer(executor, 0)
            while await self.route():
                pass
            due = await self.store.due()
            keys = await read_shard(self.store)
            # Nodes that a cancellation has emptied go with their next visit.
            if "ready" not in keys and not any(name.startswith("st:") for name in keys):
                return
            if "ready" not in keys and due.next_ms is not None:
                self.clock.now_ms = max(self.clock.now_ms, int(due.next_ms))
        raise AssertionError(
            f"runs that never end: {sorted(name for name in keys if name.startswith('st:'))}"
        )

    # ---- what must come of it

    async def check(self) -> None:
        """At any time: slots are the leases, no cap is exceeded, who is known to work holds a lease or has lost it."""
        keys = await read_shard(self.store)
        items = {name[2:]: key.value for name, key in keys.items() if name.startswith("i:")}
        leased = {item for item, fields in items.items() if fields["st"] == "l"}
        live = live_runs(keys)
        for slug, function in FUNCTIONS.items():
            slots = keys[f"s:c|{ENV}/{slug}"].value if f"s:c|{ENV}/{slug}" in keys else set()
            assert slots == {item for item in leased if items[item]["p"].startswith(f"{ENV}/{slug}\x01")}
            assert not function.cap or len(slots) <= function.cap
            for kind, status in (("rq", "Scheduled"), ("rb", "Running")):
                indexed = keys.get(f"{kind}:{ENV}/{slug}")
                assert (indexed.value if indexed else set()) == live[slug, status]
        by_executor = [item for name, key in keys.items() if name.startswith("x:") for item in key.value]
        assert sorted(by_executor) == sorted(leased)

    async def check_the_end(self) -> None:
        """Every run ended as it should, with the results that were recorded first, and left nothing behind."""
        for run, start in self.runs.items():
            await self._check_run(run, start.fn.removeprefix(f"{ENV}/"))
        failed = sum(
            start.fn == f"{ENV}/app-fails" for run, start in self.runs.items() if run not in self.cancelled
        )
        assert sum(start.fn == f"{ENV}/app-after" for start in self.runs.values()) == failed
        await self._check_numbers()
        check_leftovers(await read_shard(self.store))

    async def _check_numbers(self) -> None:
        """Whatever has happened, what was counted adds up, and nothing is left of what was to be done."""
        numbers = await read_shard_numbers(self.store, self.clock.now_ms)
        for env in numbers.environments:
            for slug, function in env.functions.items():
                total = Counter[str]()
                for counts in function.counts.values():
                    total.update(counts)
                made = sum(start.fn == f"{ENV}/{slug}" for start in self.runs.values())
                assert total["s"] == total["C"] + total["F"] + total["X"] == made
                assert total["b"] <= total["s"]
                assert total["q"] >= total["r"] == total["0"] + total["1"] + total["2"] >= total["b"]
                assert (function.queued, function.running, function.oldest_ms) == (0, 0, None)
                assert (function.steps_running, function.steps_scheduled) == (0, 0)
        assert (numbers.leases, numbers.lanes_parked, numbers.lanes_ready) == (0, 0, 0)

    async def _check_run(self, run: str, slug: str) -> None:
        summary = await self.store.run(run)
        assert summary is not None
        well = "Completed" if FUNCTIONS[slug].ends_well else "Failed"
        assert summary.status == ("Cancelled" if run in self.cancelled else well)
        payload = await self.store.run_state(run)
        results = {k: v for k, v in payload.items() if not k.startswith("e:") and k not in ("o", "x", ":k")}
        for step, result in results.items():
            assert self.recorded.get((run, step), result) == result
        if summary.status == "Completed":
            assert set(results) == {step.id for group in FUNCTIONS[slug].groups for step in group}
            assert payload["o"] == output_of(results)
        await self._check_children(run, slug, results)

    async def _check_children(self, run: str, slug: str, results: dict[str, bytes]) -> None:
        for step in (step for group in FUNCTIONS[slug].groups for step in group if isinstance(step, Invoke)):
            children = [child for child, start in self.runs.items() if start.parent == f"{run}.{step.id}"]
            assert len(children) <= 1, "a function was invoked twice"
            if step.id not in results:
                continue
            summary = await self.store.run(children[0])
            assert summary is not None
            result = orjson.loads(results[step.id])
            if summary.status == "Completed":
                (output,) = await self.store.run_payload(children[0], "o")
                assert result == {"data": orjson.loads(output or b"")}
            else:
                assert result == {"error": {"message": "invoked function was cancelled", "name": "Error"}}

    # ---- inside

    async def _route(self, peeked: Peeked) -> str:
        context = self._context()
        arrivals = [Arrival(event) for event in peeked.events]
        arrivals = arrivals[: batch_of(arrivals, self.registry)]
        effects: list[Effect] = []
        for arrival in arrivals:
            found = await self.store.waiters(ENV, waiter_queries(arrival))
            effects += waiter_effects(arrival, [waiter for group in found for waiter in group], context)
            effects += start_effects(arrival, context)
        alive = {e.run for e in effects if isinstance(e, Cancel) and await self.store.is_live(e.run)}
        applied = await self.store.apply(CursorGuard(ENV, peeked.cursor, "", len(arrivals)), effects)
        if applied.status == "ok":
            self.cancelled |= alive
            self._note(effects)
        return applied.status

    def _note(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Save):
                self.recorded.setdefault((effect.run, effect.step), effect.result)
            elif isinstance(effect, Start):
                self.runs.setdefault(effect.run, effect)

    def _context(self) -> Context:
        return Context(
            now_ms=self.clock.now_ms,
            chance=0.0,
            new_id=self._id,
            canonical=rfc8785.dumps,
            seal=lambda op: b"",
            registry=self.registry,
            policy=RetryPolicy(backoff_ms=(100, 200), jitter_ms=0),
        )

    def _id(self) -> str:
        return encode_ulid(self.clock.now_ms, next(self._numbers))


_WITH_EXPIRY = frozenset(
    {"m", "run", "pl", "h", "ev", "er", "idem", "once", "rl", "rn", "inbox", "rc", "rs", "ei", "en"}
)
_FOR_EVER = frozenset(
    {
        "clock",
        "me",
        "mf",
        "mg",
        "xs",
        "regver",
        "reg",
        "envs",
        "fns",
        "f",
        "wake",
        "rwake",
        "routes",
        "hist",
        "esq",
        "ec",
        "runs",
        "ended",
        "forget",
        "kept",
        "eis",
        "lis",
        "tat",
    }
)


def live_runs(keys: dict[str, Key]) -> defaultdict[tuple[str, str], set[str]]:
    """The runs of each function (its slug) and status."""
    runs = defaultdict[tuple[str, str], set[str]](set)
    for name, key in keys.items():
        if name.startswith("run:"):
            runs[key.value["f"], key.value["s"]].add(name[4:])
    return runs


def check_leftovers(keys: dict[str, Key]) -> None:
    """After the end of every run: keys that expire, and those that an environment or a function has one of.

    Raises:
        AssertionError: something else is left.
    """
    left = {name for name, key in keys.items() if key.ttl_ms < 0 and name.partition(":")[0] not in _FOR_EVER}
    assert not left, f"left behind: {sorted(left)}"
    expiring = Counter(name.partition(":")[0] for name, key in keys.items() if key.ttl_ms >= 0)
    assert set(expiring) <= _WITH_EXPIRY | {"tat"}, f"expires, but should not: {expiring}"
