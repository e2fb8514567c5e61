"""Takes the operator's finalizer off every InngestApp, so that nothing hangs on an operator that is not there.

For the time before an uninstall: `innkeeper operator release`. Runs and registrations stay as they are in Redis.
"""

import asyncio
from collections.abc import Sequence

import structlog

from innkeeper_engine.model.clock import SystemClock
from innkeeper_operator.actions import SetFinalizer
from innkeeper_operator.cluster import Cluster
from innkeeper_operator.election import Election
from innkeeper_operator.errors import ApiError
from innkeeper_operator.objects import FINALIZER, read_meta
from innkeeper_operator.world import APPS

_log = structlog.get_logger(__name__)

_ROUNDS = 10
_HOLDER = "release"
_HOLD_MS = 120_000
"""For so long no operator works after its finalizers were taken off: time enough for all of it to be uninstalled."""
_AT_ONCE = 8


async def release(
    cluster: Cluster, namespaces: Sequence[str] = (), *, lease: tuple[str, str] | None = None
) -> int:
    """Take the finalizer off in these namespaces (none: all); returns off how many apps.

    An operator that still runs would put it back. So its Lease (`lease`: namespace and name) is taken away first, and
    it is looked until nothing is left, a few times at most.

    Raises:
        ApiError: the API server refused, or some finalizers are still there in the end.
    """
    if lease is not None:
        namespace, name = lease
        await Election(cluster, SystemClock(), namespace=namespace, name=name, me=_HOLDER).seize(_HOLD_MS)
    released: set[str] = set()
    left: list[SetFinalizer] = []
    for round_number in range(_ROUNDS):
        if round_number:
            await asyncio.sleep(1)
        left = await _held(cluster, namespaces)
        if not left:
            return len(released)
        limit = asyncio.Semaphore(_AT_ONCE)

        async def take_off(action: SetFinalizer, limit: asyncio.Semaphore = limit) -> None:
            async with limit:
                await cluster.set_finalizer(action)

        await asyncio.gather(*(take_off(action) for action in left))
        released.update(action.uid for action in left)
    raise ApiError(
        0,
        "StillHeld",
        f"{len(left)} InngestApps still have the finalizer {FINALIZER}, for example {left[0].namespace}/{left[0].name}: "
        "does an operator still run? Scale it to 0 first",
    )


async def _held(cluster: Cluster, namespaces: Sequence[str]) -> list[SetFinalizer]:
    found: list[SetFinalizer] = []
    for namespace in namespaces or (None,):
        try:
            items = await cluster.list_all(APPS, namespace)
        except ApiError as error:
            if error.status != 404:
                raise
            _log.info("there are no InngestApps: their CustomResourceDefinition is gone")
            continue
        for raw in items:
            meta = read_meta(raw)
            if FINALIZER in meta.finalizers:
                found.append(
                    SetFinalizer(namespace=meta.namespace, name=meta.name, uid=meta.uid, present=False)
                )
    return found
