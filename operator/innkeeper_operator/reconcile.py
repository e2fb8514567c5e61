"""One look at an app: what is there, what to do about it, do it.

Observed objects and the registry -> a view -> a plan (pure) -> the registry, then the cluster. Asking an app may take
as long as the app likes, so it goes on beside the looks: its outcome is kept until a plan made of it has been done.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
import structlog

from innkeeper_engine.durations import MINUTE_MS
from innkeeper_engine.model.clock import Clock
from innkeeper_engine.model.environments import parent_name
from innkeeper_engine.model.switches import app_switch
from innkeeper_engine.store.connection import StoreError, StoreUnavailableError
from innkeeper_operator.actions import Apply, SetStatus
from innkeeper_operator.asking import next_ask, told
from innkeeper_operator.cluster import Cluster
from innkeeper_operator.conditions import SYNCED, find
from innkeeper_operator.doing import Doer, PlanDoer, old_key_news
from innkeeper_operator.environs import Environs, Membership
from innkeeper_operator.keys import AppKeys
from innkeeper_operator.memory import read_memory
from innkeeper_operator.metrics import Metrics
from innkeeper_operator.objects import APP_KIND, AppObject, Unreadable
from innkeeper_operator.observe import Observer, told_id
from innkeeper_operator.plan import (
    in_charge,
    plan_app,
    plan_gone,
    plan_unreadable,
    plan_waiting,
)
from innkeeper_operator.registry_io import RegistryIO, registry_mark
from innkeeper_operator.settings import OperatorSettings
from innkeeper_operator.status import APP_ID_MISMATCH
from innkeeper_operator.views import AppPlan, Ask, Attempts, Outcome, Refused
from innkeeper_operator.world import Dirty, Key, World

_log = structlog.get_logger(__name__)


class Asks(Protocol):
    """Asks an app for its functions; never raises for what the app did."""

    async def ask(self, ask: Ask, keys: AppKeys) -> Outcome:
        """Ask once."""
        ...


class _Pending(msgspec.Struct, frozen=True):
    """What came of an ask, until a plan made of it has been done."""

    ask: Ask | None
    outcome: Outcome
    done: tuple[Callable[[], Awaitable[object]], ...] = ()
    """To be called then."""
    last: bool = False
    """The next plan is the last one that is made of it."""


class _State(msgspec.Struct):
    """What this process knows of one app between two looks."""

    attempts: Attempts = Attempts()
    asking: asyncio.Task[None] | None = None
    pending: _Pending | None = None
    demand: Callable[[], Awaitable[object]] | None = None
    """To be called once the app was asked that somebody wants asked."""


class _Place(msgspec.Struct, frozen=True):
    """Where an InngestApp stood when it was last looked at."""

    uid: str
    env: str
    app_id: str


class Reconciler:
    """Looks at apps."""

    def __init__(
        self,
        world: World,
        cluster: Cluster,
        registry: RegistryIO,
        environs: Environs,
        asker: Asks,
        settings: OperatorSettings,
        clock: Clock,
        metrics: Metrics,
        on_dirty: Callable[[Dirty], None],
        on_stray: Callable[[str, str], None],
    ) -> None:
        """`on_dirty` hears which apps are to be looked at again, `on_stray` the environment and the app id of a
        registration that may have lost its InngestApp.
        """
        self._world = world
        self._registry = registry
        self._environs = environs
        self._asker = asker
        self._clock = clock
        self._metrics = metrics
        self._on_dirty = on_dirty
        self._on_stray = on_stray
        self._observer = Observer(world, cluster, registry, environs, settings, clock)
        self._doer = Doer(world, cluster, metrics, on_dirty)
        self._plans = PlanDoer(world, registry, self._doer, on_dirty, self._observer.apps_of)
        self._states: dict[str, _State] = {}
        self._places: dict[Key, _Place] = {}

    async def close(self) -> None:
        """End the asks that go on."""
        tasks = [state.asking for state in self._states.values() if state.asking is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def asking(self) -> int:
        """How many apps are being asked."""
        return sum(1 for state in self._states.values() if state.asking is not None)

    # ---- looks

    async def app(self, key: Key) -> int | None:
        """Look at an InngestApp, and at the Functions that name it; returns when to look again (ms), or None.

        Raises:
            ApiError, StoreError, StoreUnavailableError, FunctionTakenError, RunsLeftError: try again.
        """
        app = self._world.app(key)
        if app is None:
            self._follow(key, None)
            await self._doer.do(plan_waiting(key[1], self._world.functions_of(key), self._clock.now_ms()))
            return None
        if isinstance(app, Unreadable):
            await self._doer.do(plan_unreadable(app))
            return None
        await self._environs.settle()
        self._follow(key, app)
        member = self._environs.member(app)
        state = self._states.setdefault(app.meta.uid, _State())
        pending = state.pending
        later_ms = await self._consider(app, member, state)
        outcome = pending.outcome if pending is not None else None
        view = await self._observer.view(app, member, outcome, pending.ask if pending is not None else None)
        plan = plan_app(view, outcome)
        refused = await self._plans.do(view, plan, old_key_news(app, member.keys, outcome))
        self._places[key] = _Place(app.meta.uid, member.env, told_id(app, outcome))
        if pending is not None and (refused is None or self._is_noted(key, plan)):
            for done in pending.done:
                await done()
            if state.pending is pending:
                state.pending = _rest(pending, plan)
            known = self._world.app(key)
            if isinstance(known, AppObject) and known.meta.uid == app.meta.uid:
                # When it is asked next depends on what it has answered, which is in its status by now.
                later_ms = await self._consider(known, member, state)
        if refused is not None:
            try:
                raise refused
            finally:
                del refused  # else it and this frame hold each other
        return min((at for at in (plan.wake_ms, later_ms) if at is not None), default=None)

    async def gone(self, env: str, app_id: str) -> int | None:
        """Look at a registration without an InngestApp; returns when to look again (ms), or None.

        Raises:
            StoreError, StoreUnavailableError, RunsLeftError: try again.
        """
        registered = (await self._registry.apps(env)).get(app_id)
        if registered is None or self._observer.declared(env, app_id) or not self._environs.looks_after(env):
            return None
        if parent_name(env) in self._environs.unclear():
            return self._clock.now_ms() + MINUTE_MS
        slugs = [function.slug for function in registered.functions]
        plan = plan_gone(registered, await self._registry.live_runs(env, slugs), self._clock.now_ms())
        await self._plans.write(env, app_id, registered, plan)
        return plan.wake_ms

    async def strays(self) -> list[tuple[str, str]]:
        """Environment and app id of every registration without an InngestApp."""
        await self._environs.settle()
        found = []
        for env in await self._registry.environments():
            if not self._environs.looks_after(env):
                continue
            apps = await self._registry.apps(env)
            found += [(env, app_id) for app_id in apps if not self._observer.declared(env, app_id)]
        return found

    def answer(
        self,
        app: AppObject,
        ask: Ask | None,
        outcome: Outcome,
        *done: Callable[[], Awaitable[object]],
    ) -> None:
        """Something came of asking an app, or without it; `done` is called once that is in the registry."""
        state = self._states.setdefault(app.meta.uid, _State())
        if ask is not None:
            state.attempts = told(state.attempts, ask, outcome, self._clock.now_ms())
        if state.pending is not None:
            done = (*state.pending.done, *done)
        state.pending = _Pending(ask, outcome, done)
        self._on_dirty(Dirty(apps=frozenset({app.meta.key})))

    async def demand(self, app: AppObject, token: str, done: Callable[[], Awaitable[object]]) -> None:
        """Somebody wants the app asked right now; `token` names the wish, `done` is called once it was.

        Raises:
            StoreError, StoreUnavailableError: what `done` raises, for a wish that was met before.
        """
        state = self._states.setdefault(app.meta.uid, _State())
        if state.attempts.met == token:
            if state.asking is None:
                await done()
            return
        state.attempts = msgspec.structs.replace(state.attempts, demanded=token)
        state.demand = done
        self._on_dirty(Dirty(apps=frozenset({app.meta.key})))

    def attempts(self, app: AppObject) -> Attempts:
        """What is known of asking an app."""
        state = self._states.get(app.meta.uid)
        return state.attempts if state is not None else Attempts()

    def _follow(self, key: Key, app: AppObject | None) -> None:
        """Notice that an InngestApp has gone, or stands for another app or in another environment by now."""
        before = self._places.get(key)
        if before is None:
            return
        if app is None or app.meta.uid != before.uid:
            del self._places[key]
            self._observer.forget(before.uid)
            state = self._states.pop(before.uid, None)
            if state is not None and state.asking is not None:
                state.asking.cancel()
        elif before.env == self._environs.member(app).env:
            return
        if before.app_id:
            self._on_stray(before.env, before.app_id)

    # ---- asking

    async def _consider(self, app: AppObject, member: Membership, state: _State) -> int | None:
        """Ask the app if it is due; returns when that is to be thought of again."""
        registered = await self._observer.registered(app, member.env, None)
        memory = read_memory(app.status)
        if registered is None and not _answers_for_another(app):
            # Whatever it answered is in no registry.
            memory = msgspec.structs.replace(memory, registry="")
        live = self._observer.live(app)
        registry = registry_mark(await self._registry.id(), member.env)
        switches = await self._registry.switches(member.env)
        # Nothing is awaited from here on: what comes of another ask meanwhile must not be overwritten.
        due, state.attempts = next_ask(
            app,
            live,
            memory,
            state.attempts,
            registry=registry,
            keys=member.keys.fingerprint,
            now_ms=self._clock.now_ms(),
            apps=self._world.app_count,
            busy=self._may_not_ask(app, member, state),
            paused=registered is not None and app_switch(registered.id) in switches,
        )
        if not isinstance(due, Ask):
            return due.at_ms
        demand, state.demand = state.demand, None
        reach = self._environs.reach(member.env, public_only=live.public_only)
        due = msgspec.structs.replace(due, reach=reach)
        state.asking = asyncio.create_task(
            self._ask(app, state, due, member.keys, demand), name=f"ask {app.meta.key}"
        )
        return None

    def _may_not_ask(self, app: AppObject, member: Membership, state: _State) -> bool:
        return (
            state.asking is not None
            or state.pending is not None
            or not member.keys.signing
            or not in_charge(app, self._observer.rivals(app, member.env))
        )

    async def _ask(
        self,
        app: AppObject,
        state: _State,
        ask: Ask,
        keys: AppKeys,
        demand: Callable[[], Awaitable[object]] | None,
    ) -> None:
        try:
            outcome = await self._asker.ask(ask, keys)
            self._metrics.asks.labels(ask.why, type(outcome).__name__).inc()
            self._metrics.process.syncs.add(type(outcome).__name__)
            _log.info(
                "asked an app",
                namespace=app.meta.namespace,
                name=app.meta.name,
                why=ask.why,
                outcome=type(outcome).__name__,
                reason=getattr(outcome, "reason", ""),
            )
        except Exception:
            # It has asked, so another ask is due after a while, like after any failure.
            _log.exception("asking an app broke", namespace=app.meta.namespace, name=app.meta.name)
            self._metrics.asks.labels(ask.why, "Broken").inc()
            self._metrics.process.syncs.add("Broken")
            self._on_dirty(Dirty(apps=frozenset({app.meta.key})))
        else:
            self.answer(app, ask, outcome)
        finally:
            state.asking = None
        if demand is not None:
            await self._met(app, demand)

    async def _met(self, app: AppObject, demand: Callable[[], Awaitable[object]]) -> None:
        """Note that a wish was met; where that fails, it is met again."""
        try:
            await demand()
        except (StoreError, StoreUnavailableError) as error:
            _log.warning(
                "that an app was asked could not be noted",
                namespace=app.meta.namespace,
                name=app.meta.name,
                error=str(error),
            )

    def _is_noted(self, key: Key, plan: AppPlan) -> bool:
        """Whether the app's status remembers what a plan made of its answer, whatever else was refused."""
        known = self._world.app(key)
        return isinstance(known, AppObject) and all(
            known.status.get("sync") == action.status.get("sync")
            for action in plan.actions
            if isinstance(action, SetStatus) and action.kind == APP_KIND
        )


def _answers_for_another(app: AppObject) -> bool:
    """Whether the app says that it is another one than its InngestApp says: asking again would bring nothing new."""
    synced = find(app.status, SYNCED)
    return synced is not None and synced.reason == APP_ID_MISMATCH


def _rest(pending: _Pending, plan: AppPlan) -> _Pending | None:
    """What is left of an outcome once a plan made of it has been done.

    What was refused is in no registry. So the objects that were just made for it get their status by another plan.
    """
    makes = any(isinstance(action, Apply) for action in plan.actions)
    if isinstance(pending.outcome, Refused) and makes and not pending.last:
        return msgspec.structs.replace(pending, done=(), last=True)
    return None
