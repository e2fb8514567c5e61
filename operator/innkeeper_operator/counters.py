"""How many runs there are, in the status of Functions: seldom, only where it changed, and never many writes at once.

Every write of a status goes to etcd and to everybody who watches Functions. A thousand busy functions would be 33
writes a second for ever, so there is a budget for the whole operator, and who was written longest ago comes first.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec
import structlog

from innkeeper_engine.model.clock import Clock
from innkeeper_engine.model.state import FunctionCounts
from innkeeper_operator.actions import set_status
from innkeeper_operator.cluster import Cluster
from innkeeper_operator.conditions import time_text
from innkeeper_operator.environs import Environs
from innkeeper_operator.metrics import Metrics
from innkeeper_operator.objects import FUNCTION_KIND, AppObject, FunctionObject, Json
from innkeeper_operator.registry_io import RegistryIO
from innkeeper_operator.rounds import in_rounds
from innkeeper_operator.world import FUNCTIONS, Dirty, Key, World

_log = structlog.get_logger(__name__)

INTERVAL_MS: Final = 30_000
"""Between two writes of one Function's counts."""
WRITES_PER_S: Final = 10
"""Of the whole operator."""


class Change(msgspec.Struct, frozen=True):
    """Counts that a Function's status does not show yet."""

    key: Key
    uid: str
    runs: Json


def shown(counts: FunctionCounts) -> Json:
    """`status.runs` for these counts."""
    found: Json = {
        "queued": counts.queued,
        "running": counts.running,
        "completed24h": counts.completed24h,
        "failed24h": counts.failed24h,
    }
    if counts.last_run_ms is not None:
        found["lastRunTime"] = time_text(counts.last_run_ms)
    return found


def changes(
    functions: Iterable[FunctionObject],
    counts: Mapping[Key, FunctionCounts],
    written_ms: Mapping[str, int],
    now_ms: int,
) -> list[Change]:
    """What is to be written now, who was written longest ago first.

    Args:
        counts: by namespace and name of the Function; of which nothing is known, nothing is written.
        written_ms: when the counts of a Function were written last, by its uid.
    """
    found: list[tuple[int, Change]] = []
    for function in functions:
        meta = function.meta
        count = counts.get(meta.key)
        last_ms = written_ms.get(meta.uid, 0)
        if count is None or meta.deleting or now_ms - last_ms < INTERVAL_MS:
            continue
        runs, there = shown(count), function.status.get("runs")
        # A function that never ran shows nothing rather than zeros: a thousand of them would be a thousand writes.
        if runs == there or (there is None and count.last_run_ms is None and not any(count[:4])):
            continue
        found.append((last_ms, Change(meta.key, meta.uid, runs)))
    found.sort(key=lambda each: (each[0], each[1].key))
    return [change for _, change in found]


class Counters:
    """Writes counts for as long as the operator is active."""

    def __init__(
        self,
        world: World,
        cluster: Cluster,
        registry: RegistryIO,
        environs: Environs,
        clock: Clock,
        metrics: Metrics,
        on_dirty: Callable[[Dirty], None],
        *,
        interval_ms: int = INTERVAL_MS,
        writes_per_s: float = WRITES_PER_S,
    ) -> None:
        """`on_dirty`: the answer to a write may show a change of which the watch has not told yet."""
        self._world = world
        self._cluster = cluster
        self._registry = registry
        self._environs = environs
        self._clock = clock
        self._metrics = metrics
        self._on_dirty = on_dirty
        self._interval_s = interval_ms / 1000
        self._pause_s = 1 / writes_per_s
        self._written_ms: dict[str, int] = {}

    async def run(self) -> None:
        """Count and write until cancelled; what fails is tried again in the next round."""
        await in_rounds(self.write, self._interval_s, "counts of runs were not written")

    async def write(self) -> None:
        """Count, and write what is due.

        Raises:
            ApiError, StoreError, StoreUnavailableError: the rest is left to the next round.
        """
        functions = [f for f in self._world.functions() if isinstance(f, FunctionObject)]
        alive = {function.meta.uid for function in functions}
        self._written_ms = {uid: at for uid, at in self._written_ms.items() if uid in alive}
        counts = await self._counts(functions)
        for change in changes(functions, counts, self._written_ms, self._clock.now_ms()):
            await self._write(change)
            await asyncio.sleep(self._pause_s)

    async def _counts(self, functions: Iterable[FunctionObject]) -> dict[Key, FunctionCounts]:
        by_env: defaultdict[str, dict[Key, str]] = defaultdict(dict)
        for function in functions:
            app = self._world.app((function.meta.namespace, function.spec.app_ref.name))
            slug = function.status.get("slug")
            if isinstance(app, AppObject) and isinstance(slug, str):
                by_env[self._environs.member(app).env][function.meta.key] = slug
        found: dict[Key, FunctionCounts] = {}
        for env, slugs in by_env.items():
            counted = await self._registry.counts(env, slugs.values())
            found |= {key: counted[slug] for key, slug in slugs.items() if slug in counted}
        return found

    async def _write(self, change: Change) -> None:
        known = self._world.function(change.key)
        if not isinstance(known, FunctionObject) or known.meta.uid != change.uid:
            return
        action = set_status(FUNCTION_KIND, known.meta, known.status | {"runs": change.runs})
        self._metrics.counter_writes.inc()
        raw = await self._cluster.do(action, status_now=known.status)
        self._written_ms[change.uid] = self._clock.now_ms()
        if raw is not None:
            self._on_dirty(self._world.put(FUNCTIONS, raw))
