"""What a plan asks of the cluster, done."""

import asyncio
import itertools
from collections.abc import Callable, Iterable

from innkeeper_operator.actions import Action, Apply, SetFinalizer, SetStatus, Tell
from innkeeper_operator.cluster import BY_KIND, Cluster
from innkeeper_operator.keys import AppKeys, key_notice
from innkeeper_operator.metrics import Metrics
from innkeeper_operator.objects import APP_KIND, FUNCTION_KIND, WEBHOOK_KIND, AppObject, Json, Unreadable
from innkeeper_operator.views import Answered, Outcome
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
            raise failed

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


def old_key_news(app: AppObject, keys: AppKeys, outcome: Outcome | None) -> tuple[Tell, ...]:
    """Say so where an app still has an old key, before that one goes."""
    notice = key_notice(keys, outcome.signing_key_hash if isinstance(outcome, Answered) else "")
    if notice is None:
        return ()
    meta, (reason, message) = app.meta, notice
    return (
        Tell(
            kind=APP_KIND,
            namespace=meta.namespace,
            name=meta.name,
            uid=meta.uid,
            type="Warning",
            reason=reason,
            message=message,
        ),
    )
