"""Executors over a real store, with an app that answers when the test says so."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import orjson

from innkeeper_apps.egress import EgressPolicy
from innkeeper_apps.sealing import Sealer
from innkeeper_engine.decide.retries import RetryPolicy
from innkeeper_engine.model.calls import Answer, Call, Op, OpKind, Target
from innkeeper_engine.model.clock import Clock, RandomIds, SystemClock
from innkeeper_engine.model.effects import Cancel, Effect
from innkeeper_engine.model.functions import App, Concurrency, FunctionConfig, Trigger
from innkeeper_engine.model.functions import Cancel as CancelRule
from innkeeper_engine.model.guards import Guard, LiveGuard, NoGuard
from innkeeper_engine.model.state import Applied, Due, Lease
from innkeeper_engine.registering import register_app
from innkeeper_engine.store.connection import Address
from innkeeper_engine.store.store import Store, StoreSettings
from innkeeper_engine.tracing import Tracer
from innkeeper_executor.fetching import Fetcher
from innkeeper_executor.gathering import Gatherings
from innkeeper_executor.replaying import Replays
from innkeeper_executor.router import Router
from innkeeper_executor.service import Executor
from innkeeper_executor.settings import ExecutorSettings
from innkeeper_executor.surroundings import Surroundings
from innkeeper_executor.sweeping import Sweeps
from innkeeper_executor.worker import RunLine, Worker

T = TypeVar("T")

KEY = bytes(range(32))
ENV = "default"
QUICK_RETRIES = RetryPolicy(backoff_ms=(1,), jitter_ms=0)


async def soon(awaitable: Awaitable[T], seconds: float = 5.0) -> T:
    """The result, or TimeoutError: what a test waits for must come."""
    async with asyncio.timeout(seconds):
        return await awaitable


class VirtualClock:
    """A clock that a test moves, for a store, its decisions and its scripts."""

    def __init__(self) -> None:
        self.ms = 1_800_000_000_000

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return self.ms


# ---- answers


def output(value: Any = None) -> Answer:
    """The function returned."""
    return Answer(kind="output", output=orjson.dumps(value), status=200)


def failure(message: str = "no", *, no_retry: bool | None = None) -> Answer:
    """The function threw."""
    error = orjson.dumps({"message": message, "name": "Error"})
    return Answer(kind="error", error=error, reason=message, no_retry=no_retry, status=500)


def ops(*asked: Op, version: int = 2) -> Answer:
    """The function asks for these operations."""
    return Answer(kind="ops", ops=asked, version=version, status=206)


def ran(step: str, value: Any = None) -> Op:
    """A step that the app has run."""
    return Op(id=step, kind=OpKind.STEP_RUN, name=step, data=orjson.dumps(value))


def planned(step: str) -> Op:
    """A step that wants a request of its own."""
    return Op(id=step, kind=OpKind.STEP_PLANNED, name=step)


def sleep(step: str, duration: str) -> Op:
    """A sleep."""
    return Op(id=step, kind=OpKind.SLEEP, name=step, opts={"duration": duration})


def wait_for(step: str, event: str, timeout: str = "1h", **opts: Any) -> Op:
    """A wait for an event."""
    options = {"event": event, "timeout": timeout, **opts}
    return Op(id=step, kind=OpKind.WAIT_FOR_EVENT, name=step, opts=options)


def fetch(step: str, url: str) -> Op:
    """A request that the server makes."""
    return Op(id=step, kind=OpKind.GATEWAY, name=step, opts={"url": url, "method": "GET"})


# ---- the app


class Request:
    """A call that the app has not answered yet."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.aborted = asyncio.Event()
        self.may_stop = asyncio.Event()
        """An aborted request has not stopped before this is set."""
        self.may_stop.set()

    def answer(self, answer: Answer) -> None:
        """Answer it."""
        self.answered.set_result(answer)


Script = Callable[[Call], Answer]


class ScriptedDriver:
    """Carries calls to nobody. Functions with a script answer at once, others when the test says so."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.targets: list[Target] = []
        self.scripts: dict[str, Script] = {}
        self.in_flight = 0
        self.most_in_flight = 0
        self.closed = False
        self._arrivals: asyncio.Queue[Request] = asyncio.Queue()

    async def call(self, call: Call, target: Target, *, timeout_s: float) -> Answer:
        """One call, answered by a script or by the test."""
        self.calls.append(call)
        self.targets.append(target)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            script = self.scripts.get(call.slug)
            if script is not None:
                await asyncio.sleep(0)
                return script(call)
            return await self._ask(Request(call))
        finally:
            self.in_flight -= 1

    async def _ask(self, request: Request) -> Answer:
        self._arrivals.put_nowait(request)
        try:
            return await request.answered
        except asyncio.CancelledError:
            request.aborted.set()
            await request.may_stop.wait()
            raise

    async def arrival(self, seconds: float = 5.0) -> Request:
        """The next call that nobody has taken yet."""
        return await soon(self._arrivals.get(), seconds)

    @property
    def nothing_arrived(self) -> bool:
        """Whether every call that came was taken by the test."""
        return self._arrivals.empty()

    async def close(self) -> None:
        """As a driver closes its connections."""
        self.closed = True


# ---- the house


def function(
    slug: str,
    *events: str,
    crons: Sequence[str] = (),
    cancel: Sequence[CancelRule] = (),
    concurrency: int | None = None,
    retries: int = 4,
) -> FunctionConfig:
    """A function as registered; triggered by `test/<slug>` unless told otherwise."""
    names = events or (() if crons else (f"test/{slug}",))
    return FunctionConfig(
        slug=slug,
        name=slug,
        url=f"http://127.0.0.1:9/api/inngest?fnId={slug}&stepId=step",
        triggers=(*(Trigger(event=name) for name in names), *(Trigger(cron=line) for line in crons)),
        cancel=tuple(cancel),
        concurrency=() if concurrency is None else (Concurrency(limit=concurrency),),
        retries=retries,
    )


class Hand:
    """The parts of one executor without its loops: the test makes each move."""

    def __init__(self, store: Store, settings: ExecutorSettings, clock: Clock, name: str) -> None:
        self.store = store
        self.driver = ScriptedDriver()
        self.ended: list[RunLine] = []
        self.surroundings = Surroundings(store, settings, Sealer(KEY), clock, RandomIds())
        self.fetcher = Fetcher(self.surroundings, EgressPolicy.dev(), 5.0)
        self.worker = Worker(
            store, self.surroundings, self.driver, self.fetcher, Target(), name, self.ended.append
        )
        self.router = Router(store, self.surroundings, self._apply_only)
        self.gatherings = Gatherings(store, self.surroundings, self._apply_only)
        self.sweeps = Sweeps(store, self.surroundings, self._apply_only)
        self.replays = Replays(store, self.surroundings, self._apply_only)
        self.found_due: Due | None = None
        """What the last `due` brought."""

    async def _apply_only(
        self, guard: Guard, effects: Sequence[Effect], *, registry: int | None = None
    ) -> Applied:
        """What is committed beside requests, without taking work with it."""
        return await self.store.apply(guard, effects, registry=registry)

    async def route_all(self) -> None:
        """Route until nothing is left."""
        while await self.router.route_once():
            pass

    async def due(self, most: int = 64) -> int:
        """One turn of the loop that keeps time and takes work; returns how many items it took."""
        tokens = self.worker.take_tokens(most)
        due = await self.store.due(executor=self.worker.id, tokens=tokens)
        self.worker.settle_tokens(tokens, due.leases)
        self.surroundings.saw_version(due.registry)
        self.found_due = due
        return len(due.leases)

    async def chores(self) -> int:
        """One turn of that loop without taking work, and all that it finds to do beside; returns how much."""
        await self.due(0)
        assert self.found_due is not None
        for gathered in self.found_due.gathered:
            await self.gatherings.fire(gathered)
        for env, cancellation_id in self.found_due.sweeps:
            await self.sweeps.go_on(env, cancellation_id)
        for env, replay_id in self.found_due.replays:
            await self.replays.go_on(env, replay_id)
        found = self.found_due
        return len(found.gathered) + len(found.sweeps) + len(found.replays)

    async def lease(self) -> Lease:
        """The next item, which nobody works."""
        token = self.surroundings.new_id()
        (lease,) = (await self.store.apply(NoGuard(), [], executor=self.worker.id, tokens=[token])).leases
        return lease

    async def close(self) -> None:
        """Abort what is under way."""
        await self.worker.abort_all()
        await self.fetcher.close()


class House:
    """One shard with an app on it, and whatever works there."""

    def __init__(self, store: Store, clock: Clock | None = None) -> None:
        self.store = store
        self.clock = clock or SystemClock()
        self.driver = ScriptedDriver()
        """The app that executors of `start_executor` call."""
        self.tracer: Tracer | None = None
        """What executors of `start_executor` tell of spans."""
        self._ids = RandomIds()
        self._ended: dict[str, RunLine] = {}
        self._some_ended = asyncio.Condition()
        self._executors: list[Executor] = []
        self._hands: list[Hand] = []
        self._tellers: set[asyncio.Task[None]] = set()

    def hand(self, store: Store | None = None, **settings: Any) -> Hand:
        """An executor without loops."""
        made = ExecutorSettings(**{"policy": QUICK_RETRIES, **settings})
        self._hands.append(Hand(store or self.store, made, self.clock, f"ex-{secrets.token_hex(4)}"))
        return self._hands[-1]

    def executor(
        self,
        address: Address | None = None,
        *,
        driver: ScriptedDriver | None = None,
        clock: Clock | None = None,
        store_settings: StoreSettings | None = None,
        on_run: bool = True,
        **settings: Any,
    ) -> Executor:
        """An executor on this shard, not started; drained after the test. Without `on_run` it tells of no run's end."""
        executor = Executor(
            address or self.store.address,
            store_settings or self.store.settings,
            ExecutorSettings(**{"policy": QUICK_RETRIES, "grace_s": 0.0, **settings}),
            driver=driver or self.driver,
            encryption_key=KEY,
            fetch_egress=EgressPolicy.dev(),
            clock=clock,
            on_run=self._on_run if on_run else None,
            tracer=self.tracer,
        )
        self._executors.append(executor)
        return executor

    async def start_executor(self, address: Address | None = None, **options: Any) -> Executor:
        """A running executor on this shard."""
        executor = self.executor(address, **options)
        await executor.start()
        return executor

    async def drain(self, executor: Executor) -> None:
        """Drain an executor now."""
        self._executors.remove(executor)
        await executor.drain()

    async def close(self) -> None:
        """End everything that works here."""
        await asyncio.gather(*(executor.drain() for executor in self._executors))
        for hand in self._hands:
            await hand.close()

    async def register(self, *functions: FunctionConfig, app: str = "app") -> None:
        """Register an app with exactly these functions."""
        made = App(
            id=app, url="http://127.0.0.1:9/api/inngest", functions=functions, checksum=secrets.token_hex(8)
        )
        await register_app(self.store, ENV, made, now_ms=self.clock.now_ms())

    def event(self, name: str, data: Any = None, **fields: Any) -> tuple[str, str, bytes]:
        """An event as `append` takes it."""
        event_id = self._ids.ulid(self.clock.now_ms())
        body = {"data": data or {}, "id": event_id, "name": name, "ts": self.clock.now_ms(), "user": {}}
        return event_id, name, orjson.dumps(body | fields, option=orjson.OPT_SORT_KEYS)

    async def send(self, name: str, data: Any = None, **fields: Any) -> str:
        """Send one event; its id, when it has been accepted."""
        event = self.event(name, data, **fields)
        await self.store.append(ENV, [event])
        return event[0]

    async def started(self, event_id: str) -> list[str]:
        """The runs that an event started."""
        return [run.id for run in await self.store.event_runs(ENV, event_id)]

    async def cancel(self, run: str, note: bytes = b"") -> None:
        """Cancel a run, as the API does; with a note, which the API gives, its end is told to those who watch."""
        ids = (self._ids.ulid(self.clock.now_ms()), self._ids.ulid(self.clock.now_ms()))
        assert (await self.store.apply(LiveGuard(run), [Cancel(run, ids, note)])).status == "ok"

    async def status(self, run: str) -> str:
        """The status of a run that is known."""
        summary = await self.store.run(run)
        assert summary is not None
        return summary.status

    async def steps(self, run: str) -> list[str]:
        """The steps of a live run, in the order in which they completed."""
        return [step.decode() for step in await self._command("LRANGE", f"sk:{run}", 0, -1)]

    async def items(self, run: str) -> list[str]:
        """The queue items of a live run, sorted."""
        members = [member.decode() for member in await self._command("SMEMBERS", f"ri:{run}")]
        return sorted(member[1:] for member in members if member[0] == "i")

    async def item(self, item: str) -> dict[str, str]:
        """One queue item; empty when it is gone."""
        flat = [field.decode("latin-1") for field in await self._command("HGETALL", f"i:{item}")]
        return dict(zip(flat[::2], flat[1::2], strict=True))

    async def slots(self, slug: str) -> int:
        """How many requests of a function hold a slot."""
        return int(await self._command("SCARD", f"s:c|{ENV}/{slug}"))

    async def run_ended(self, run: str, seconds: float = 5.0) -> RunLine:
        """Until an executor of this house has ended the run."""
        await self.runs_ended([run], seconds)
        return self._ended[run]

    async def runs_ended(self, runs: Sequence[str], seconds: float = 5.0) -> None:
        """Until executors of this house have ended all of these runs."""
        await self._until_ended(lambda: all(run in self._ended for run in runs), seconds)

    async def so_many_ended(self, count: int, seconds: float = 5.0) -> None:
        """Until executors of this house have ended so many runs."""
        await self._until_ended(lambda: len(self._ended) >= count, seconds)

    async def _until_ended(self, enough: Callable[[], bool], seconds: float) -> None:
        async with asyncio.timeout(seconds), self._some_ended:
            await self._some_ended.wait_for(enough)

    def _on_run(self, line: RunLine) -> None:
        assert line.run not in self._ended, "a run ends once"
        self._ended[line.run] = line
        telling = asyncio.create_task(self._tell())
        self._tellers.add(telling)
        telling.add_done_callback(self._tellers.discard)

    async def _tell(self) -> None:
        async with self._some_ended:
            self._some_ended.notify_all()

    async def _command(self, command: str, key: str, *rest: str | int) -> Any:
        return await self.store.command(command, self.store.key(key), *rest)


def milliseconds() -> float:
    """The wall clock, finer than executors need it."""
    return time.time_ns() / 1e6
