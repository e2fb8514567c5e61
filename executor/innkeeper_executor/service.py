"""One executor: its loops, its start and its end."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import structlog

from innkeeper_apps.classes import Routes
from innkeeper_apps.driver import Driver
from innkeeper_apps.egress import EgressPolicy
from innkeeper_apps.sealing import Sealer
from innkeeper_engine.decide.context import Context
from innkeeper_engine.decide.crons import fire
from innkeeper_engine.metrics import Metrics
from innkeeper_engine.model.calls import Target
from innkeeper_engine.model.clock import Clock, Ids, RandomIds, SystemClock
from innkeeper_engine.model.effects import Effect
from innkeeper_engine.model.guards import CronGuard
from innkeeper_engine.model.state import RunSummary
from innkeeper_engine.store.connection import Address, StoreError, StoreUnavailableError
from innkeeper_engine.store.store import Greeter, Store, StoreSettings
from innkeeper_engine.tracing import Tracer, is_sampled
from innkeeper_executor.applying import apply_decided
from innkeeper_executor.chores import Chores
from innkeeper_executor.fetching import Fetcher
from innkeeper_executor.gathering import Gatherings
from innkeeper_executor.recorder import Recorder
from innkeeper_executor.replaying import Replays
from innkeeper_executor.router import Router
from innkeeper_executor.settings import ExecutorSettings
from innkeeper_executor.shedding import Shedding
from innkeeper_executor.surroundings import Surroundings
from innkeeper_executor.sweeping import Sweeps
from innkeeper_executor.tracing import RunTraces
from innkeeper_executor.waking import FREE_JOBS, MAX_WAIT_S, Bell, Leadership
from innkeeper_executor.worker import RunLine, Worker

log = structlog.get_logger("innkeeper.executor")

DUE_AT_ONCE = 256


class Executor:
    """Routes events, leases work, calls apps and keeps time. Any number may share a shard."""

    def __init__(
        self,
        address: Address,
        store_settings: StoreSettings,
        settings: ExecutorSettings,
        *,
        driver: Driver,
        encryption_key: bytes,
        target: Target | None = None,
        fetch_egress: EgressPolicy | Routes | None = None,
        clock: Clock | None = None,
        ids: Ids | None = None,
        on_run: Callable[[RunLine], None] | None = None,
        tracer: Tracer | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """`on_run` is told of each run that ended, and so are traces where there is a `tracer`.

        `metrics`: where this process counts; its own where it is not given.
        """
        clock, ids = clock or SystemClock(), ids or RandomIds()
        self.id = f"ex-{ids.ulid(clock.now_ms())}"
        self._settings = settings
        self._driver = driver
        self.metrics = metrics or Metrics()
        self.store = Store(
            address, store_settings, greeting=self._say_hello, name=self.id, metrics=self.metrics
        )
        surroundings = Surroundings(self.store, settings, Sealer(encryption_key), clock, ids)
        self._surroundings = surroundings
        self._clock = clock
        self._fetcher = Fetcher(
            surroundings, fetch_egress or EgressPolicy.users(), settings.request_timeout_s
        )
        self._traces = RunTraces(tracer)
        self._worker = Worker(
            self.store, surroundings, driver, self._fetcher, target or Target(), self.id, on_run, self._traces
        )
        self.metrics.executor_capacity.tell = lambda: settings.capacity
        self.metrics.executor_working.tell = lambda: len(self._worker.tokens)
        self._router = Router(self.store, surroundings, self._worker.apply)
        self._gatherings = Gatherings(self.store, surroundings, self._worker.apply)
        self._sweeps = Sweeps(self.store, surroundings, self._worker.apply)
        self._replays = Replays(self.store, surroundings, self._worker.apply)
        self._shedding = Shedding(self.store)
        self._chores = Chores()
        self._on_run = on_run
        self._recorder = Recorder(self.store, address, self._tell_ended if on_run or tracer else None)
        self._work_bell = Bell(self.store, address, "wake", name=f"{self.id}-wake")
        self._route_bell = Bell(self.store, address, "rwake", name=f"{self.id}-route")
        self._inbox = Bell(self.store, address, f"inbox:{self.id}", FREE_JOBS, name=f"{self.id}-inbox")
        self._waits = (self._recorder, self._work_bell, self._route_bell, self._inbox)
        self._routing = Leadership(self.store, "router", self.id)
        self._recording = Leadership(self.store, "recorder", self.id)
        self._loops: list[asyncio.Task[None]] = []
        self._draining = False

    @property
    def ready(self) -> bool:
        """Whether it takes work: the store is reachable and it is not being drained."""
        return self.store.connected and not self._draining

    async def start(self) -> None:
        """Connect and begin.

        Raises:
            StoreUnavailableError: no Redis or Valkey at the address.
        """
        await self.store.open()
        await asyncio.gather(*(each.open() for each in self._waits))
        for loop in (self._due_loop, self._inbox_loop, self._beat_loop, self._route_loop, self._record_loop):
            self._loops.append(asyncio.create_task(self._for_ever(loop), name=loop.__name__))

    async def drain(self) -> None:
        """Take no new lease, let requests in flight end within the grace period, hand the others back, disconnect.

        What is handed back is leased to another executor at once, with no attempt counted; another one routes and
        records.
        """
        self._draining = True
        self._worker.stop_accepting()
        try:
            async with asyncio.timeout(self._settings.grace_s):
                await self._worker.wait_until_idle()
        except TimeoutError:
            log.warning(
                "requests outlived the grace period; their leases go back", count=len(self._worker.tokens)
            )
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self._chores.close()
        await self._worker.abort_all()
        # Before jobs are given up: they are not offered to this executor.
        await asyncio.gather(*(each.close() for each in self._waits))
        try:
            async with asyncio.timeout(5):
                await self.store.hello(self.id, [])
                await self._routing.release()
                await self._recording.release()
        except (StoreUnavailableError, StoreError, TimeoutError) as error:
            reason = str(error) or "no answer"
            log.warning("leases could not be handed back; they run out by themselves", reason=reason)
        await self.store.close()
        await asyncio.gather(self._driver.close(), self._fetcher.close())

    # ---- loops

    async def _for_ever(self, step: Callable[[], Awaitable[None]]) -> None:
        """Repeat a step; an outage of the store is waited out, anything else is logged and tried again."""
        delay_s = 0.05
        while True:
            try:
                await step()
                delay_s = 0.05
            except (StoreUnavailableError, StoreError) as error:
                log.warning("the store does not answer", loop=step.__name__, reason=str(error))
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, 2.0)
            except Exception:
                log.exception("a loop failed and goes on", loop=step.__name__)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, 2.0)

    async def _due_loop(self) -> None:
        wait_s = 0.0
        while True:
            await self._chores.wait_for_room()
            if not self._worker.free:
                await self._wait_for_room()
            elif wait_s > 0:
                await self._work_bell.wait(wait_s)
            wait_s = await self._due()

    async def _wait_for_room(self) -> None:
        """Until something may be taken. A wake-up that comes meanwhile is for others: `due` hands it on."""
        room = asyncio.create_task(self._worker.wait_for_room())
        try:
            if self._work_bell.listening:
                await self._work_bell.wait(MAX_WAIT_S, room)
            else:
                await asyncio.wait({room}, timeout=MAX_WAIT_S)
        finally:
            room.cancel()

    async def _inbox_loop(self) -> None:
        token = await self._inbox.wait(MAX_WAIT_S)
        for leadership in (self._routing, self._recording):
            if token == leadership.job:
                leadership.offer()
        if token is not None:
            self._worker.run_ended(token)

    async def _due(self) -> float:
        tokens = self._worker.take_tokens(64)
        due = None
        try:
            due = await self.store.due(n=DUE_AT_ONCE, executor=self.id, tokens=tokens)
        finally:
            self._worker.settle_tokens(tokens, due.leases if due else None)
        self._surroundings.saw_version(due.registry)
        if due.expired:
            log.warning("leases ran out and went back to the queue", count=due.expired)
        for cron_id, slot_ms in due.crons:
            await self._fire(cron_id, slot_ms)
        for gathered in due.gathered:
            self._chores.begin(f"gathering {gathered.id}", partial(self._gatherings.fire, gathered))
        for env, cancellation_id in due.sweeps:
            work = partial(self._sweeps.go_on, env, cancellation_id)
            self._chores.begin(f"sweep {env}/{cancellation_id}", work)
        for env, replay_id in due.replays:
            work = partial(self._replays.go_on, env, replay_id)
            self._chores.begin(f"replay {env}/{replay_id}", work)
        if due.full:
            self._chores.begin("shedding", self._shedding.shed_some)
        if due.watch:
            self._chores.begin("watch for runs that are stuck", self._watch)
        if due.next_ms is None:
            return MAX_WAIT_S
        return max(0.001, min((due.next_ms - due.clock_ms) / 1000, MAX_WAIT_S))

    async def _watch(self) -> None:
        """A page of the runs that go on: one that has nothing to go on by would otherwise never be noticed."""
        for stuck in await self.store.watch():
            log.error(
                "a run is stuck: it has nothing to go on by; cancel it or run it again",
                run=stuck.run,
                function=stuck.slug,
                env=stuck.env,
            )

    async def _fire(self, cron_id: str, slot_ms: int) -> None:
        late_ms = 0

        def decide(context: Context) -> list[Effect] | None:
            nonlocal late_ms
            known = context.registry.crons.get(cron_id)
            if known is None:
                return None
            # Its jitter puts it off on purpose.
            late_ms = max(0, context.now_ms - slot_ms - known[1].jitter_ms)
            return list(self._traces.rooted(fire(*known, slot_ms, context)))

        env, guard = cron_id.partition("/")[0], CronGuard(cron_id, slot_ms)
        if await apply_decided(self._surroundings, self._worker.apply, env, guard, decide) is not None:
            self.metrics.cron_lateness_seconds.add(late_ms / 1000)

    async def _beat_loop(self) -> None:
        while True:
            await asyncio.sleep(self._settings.beat_ms / 1000)
            leases = self._worker.leases
            if leases:
                lost, ended = await self.store.beat(leases)
                for token in lost:
                    self._worker.lease_lost(token)
                for token in ended:
                    self._worker.run_ended(token)

    async def _route_loop(self) -> None:
        away_s = await self._routing.hold()
        if away_s:
            await self._routing.wait(away_s)
            return
        renew_at = asyncio.get_running_loop().time() + Leadership.RENEW_S
        while asyncio.get_running_loop().time() < renew_at:
            if not await self._router.route_once():
                await self._route_bell.wait(renew_at - asyncio.get_running_loop().time())

    async def _record_loop(self) -> None:
        away_s = await self._recording.hold()
        if away_s:
            await self._recording.wait(away_s)
            return
        await self._recorder.record_once(int(Leadership.RENEW_S * 1000))

    async def _tell_ended(self, ended: Mapping[str, str]) -> None:
        """Runs are cancelled and skipped by events and by people, not by their own requests: history knows."""
        wanted = list(ended)
        if self._on_run is None:
            cancelled = [run_id for run_id, why in ended.items() if not why]
            traces = await self.store.run_traces(cancelled)
            wanted = [run_id for run_id, trace in zip(cancelled, traces, strict=True) if is_sampled(trace)]
        for run in await asyncio.gather(*map(self.store.run, wanted)):
            if run is not None:
                self._tell_end(run, ended[run.id])

    def _tell_end(self, run: RunSummary, why: str) -> None:
        if not why:
            self._traces.ended_otherwise(run)
        if self._on_run is not None:
            self._on_run(
                RunLine(
                    run=run.id,
                    slug=run.slug,
                    status=run.status,
                    queued_ms=run.queued_ms,
                    ended_ms=run.ended_ms if run.ended_ms is not None else run.queued_ms,
                    why=why,
                )
            )

    async def _say_hello(self, greeter: Greeter) -> None:
        self._surroundings.reconnected()
        back = await greeter.hello(self.id, self._worker.tokens)
        await greeter.arm_watch()
        if back:
            log.info("leases that were lost on the way went back to the queue", count=back)
