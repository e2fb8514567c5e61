"""What a plan asks for, done: in the registry first, then in the cluster."""

import asyncio
import itertools
from collections.abc import Callable, Iterable

from innkeeper_engine.model.functions import App
from innkeeper_engine.registering import FunctionTakenError
from innkeeper_operator.actions import Action, Apply, SetFinalizer, SetStatus, Tell, tell
from innkeeper_operator.cluster import BY_KIND, Cluster
from innkeeper_operator.errors import ApiError
from innkeeper_operator.keys import AppKeys, key_notice
from innkeeper_operator.metrics import Metrics
from innkeeper_operator.objects import APP_KIND, FUNCTION_KIND, WEBHOOK_KIND, AppObject, Json, Unreadable
from innkeeper_operator.registry_io import RegistryIO
from innkeeper_operator.views import Answered, AppPlan, AppView, Outcome
from innkeeper_operator.world import Dirty, World

_AT_ONCE = 8
"""Requests to the API server at the same time, for one app."""


class Doer:
    """Does actions, and learns from the answers at once: the watch tells of them a moment later."""

    def __init__(
        self, world: World, cluster: Cluster, metrics: Metrics, on_dirty: Callable[[Dirty], None]
    ) -> None:
        self._world = world
        self._cluster = cluster
        self._metrics = metrics
        self._on_dirty = on_dirty

    async def do(self, actions: Iterable[Action]) -> None:
        """Do what a plan asks of the cluster: in its order, actions of one kind side by side.

        Raises:
            ApiError: something was refused; the rest was done all the same.
        """
        failed: BaseException | None = None
        for _, group in itertools.groupby(actions, type):
            limit = asyncio.Semaphore(_AT_ONCE)
            results = await asyncio.gather(
                *(self._one(action, limit) for action in group), return_exceptions=True
            )
            failed = failed or next((each for each in results if isinstance(each, BaseException)), None)
        if failed is not None:
            try:
                raise failed
            finally:
                del failed, results  # else it and this frame hold each other

    async def _one(self, action: Action, limit: asyncio.Semaphore) -> None:
        async with limit:
            status_now = None
            if isinstance(action, SetStatus):
                status_now = self._status(action)
                self._metrics.status_writes.labels(action.kind).inc()
            elif isinstance(action, Apply):
                action = self._pinned(action)
            raw = await self._cluster.do(action, status_now=status_now)
            if raw is not None and not isinstance(action, Tell):
                kind = APP_KIND if isinstance(action, SetFinalizer) else str(raw.get("kind") or "")
                if kind in BY_KIND:
                    self._on_dirty(self._world.put(BY_KIND[kind].plural, raw))

    def _status(self, action: SetStatus) -> Json:
        """The status as it is."""
        key = (action.namespace, action.name)
        of_kind = {
            APP_KIND: self._world.app,
            FUNCTION_KIND: self._world.function,
            WEBHOOK_KIND: self._world.webhook,
        }
        known = of_kind[action.kind](key)
        return known.status if known is not None and not isinstance(known, Unreadable) else {}

    def _pinned(self, action: Apply) -> Apply:
        """The same, but only for the very object that was seen: applying to one that has gone would make it anew."""
        meta = action.manifest["metadata"]
        if action.manifest["kind"] != FUNCTION_KIND:
            return action
        known = self._world.function((meta["namespace"], meta["name"]))
        if known is None:
            return action
        manifest = action.manifest | {"metadata": meta | {"uid": known.meta.uid}}
        return Apply(manifest=manifest, force=action.force)


class PlanDoer:
    """Does plans for apps: writes the registration, then does the actions."""

    def __init__(
        self,
        world: World,
        registry: RegistryIO,
        doer: Doer,
        on_dirty: Callable[[Dirty], None],
        apps_of: Callable[[str, str], Iterable[AppObject]],
    ) -> None:
        """`apps_of`: the InngestApps that stand for a registration, by environment and app id."""
        self._world = world
        self._registry = registry
        self._doer = doer
        self._on_dirty = on_dirty
        self._apps_of = apps_of

    async def do(self, view: AppView, plan: AppPlan, news: Iterable[Action]) -> ApiError | None:
        """Do it; returns what the API server refused once the registration was written.

        By then the outcome that the plan was made of counts, and whatever was refused is planned again.

        Raises:
            ApiError: what has to be in the cluster before anything is registered was refused.
            StoreError, StoreUnavailableError, FunctionTakenError, RunsLeftError: as `write`.
        """
        app_id = view.registered.id if view.registered is not None else ""
        # Before anything is registered, so that the object cannot go without the registration.
        held = [each for each in plan.actions if isinstance(each, SetFinalizer) and each.present]
        await self._doer.do(held)
        await self.write(view.env, app_id, view.registered, plan)
        try:
            await self._doer.do([*(each for each in plan.actions if each not in held), *news])
        except ApiError as error:
            return error
        return None

    async def write(self, env: str, app_id: str, before: App | None, plan: AppPlan) -> None:
        """Do what a plan asks of the registry; `before` is what it holds of the app.

        Raises:
            StoreError, StoreUnavailableError: the registry could not be written.
            FunctionTakenError: another app has one of the functions; apps of this id are looked at again.
            RunsLeftError: runs that are to be cancelled go on.
        """
        if plan.write is not None:
            try:
                await self._registry.register(env, plan.write)
            except FunctionTakenError:
                # Another app was faster: the next look sees it, and says so.
                self._on_dirty(Dirty(apps=frozenset(a.meta.key for a in self._apps_of(env, plan.write.id))))
                raise
        if plan.cancel_runs:
            # What was written says that nothing new starts, or these would not be all of them.
            await self._registry.cancel_runs(env, app_id)
        if plan.remove:
            await self._registry.remove(env, app_id)
        if before is not None and (plan.remove or plan.write is not None):
            stays = plan.write is not None and not plan.remove
            kept = {function.slug for function in plan.write.functions} if plan.write and stays else set()
            self._freed({function.slug for function in before.functions} - kept)

    def _freed(self, slugs: Iterable[str]) -> None:
        """Slugs are free again: apps that waited for one are looked at."""
        free = set(slugs)
        if not free:
            return
        waiting = {
            (function.meta.namespace, function.spec.app_ref.name)
            for function in self._world.functions()
            if not isinstance(function, Unreadable) and function.status.get("slug") in free
        }
        self._on_dirty(Dirty(apps=frozenset(waiting)))


def old_key_news(app: AppObject, keys: AppKeys, outcome: Outcome | None) -> tuple[Tell, ...]:
    """Say so where an app still has an old key, before that one goes."""
    notice = key_notice(keys, outcome.signing_key_hash if isinstance(outcome, Answered) else "")
    if notice is None:
        return ()
    return (tell(APP_KIND, app.meta, "Warning", *notice),)
