"""When Webhooks took a request last, in their status: to the minute, and never many writes at once.

Gateways note it in the store (`WebhookStore.note_taken`). Every write of a status goes to etcd and to everybody who
watches Webhooks; so one that takes requests all the time is written once a minute at most, and one that takes none is
not written at all.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec
import structlog

from innkeeper_engine.durations import MINUTE_MS
from innkeeper_engine.store.webhooks import WebhookStore
from innkeeper_operator.actions import set_status
from innkeeper_operator.cluster import Cluster
from innkeeper_operator.conditions import read_time_ms, time_text
from innkeeper_operator.errors import ApiError
from innkeeper_operator.metrics import Metrics
from innkeeper_operator.objects import WEBHOOK_KIND, Json, Unreadable, WebhookObject
from innkeeper_operator.rounds import in_rounds
from innkeeper_operator.webhooks import LAST_RECEIVED, record_key
from innkeeper_operator.world import WEBHOOKS, Dirty, Key, World

_log = structlog.get_logger(__name__)

INTERVAL_MS: Final = MINUTE_MS
"""Between two looks into the store."""
WRITES_PER_S: Final = 5
"""Of the whole operator."""


class Change(msgspec.Struct, frozen=True):
    """A time that a Webhook's status does not show yet."""

    key: Key
    uid: str
    received: str
    """In RFC 3339: UTC, whole seconds."""


def newest(taken_ms: Mapping[tuple[str, str], int]) -> dict[Key, int]:
    """The times in the store, by namespace and name of the Webhook instead of environment and record.

    One that has just moved to another environment may have a record in both.
    """
    found: dict[Key, int] = {}
    for (_, name), at_ms in taken_ms.items():
        key = record_key(name)
        found[key] = max(at_ms, found.get(key, at_ms))
    return found


def changes(webhooks: Iterable[WebhookObject], taken_ms: Mapping[Key, int]) -> list[Change]:
    """What is to be written now, first who shows the oldest time.

    Args:
        taken_ms: by namespace and name of the Webhook; of which nothing is known, what is shown stays.
    """
    found: list[tuple[int, Change]] = []
    for webhook in webhooks:
        meta = webhook.meta
        at_ms = taken_ms.get(meta.key)
        if at_ms is None or meta.deleting:
            continue
        shown_ms = read_time_ms(str(webhook.status.get(LAST_RECEIVED) or ""))
        if shown_ms is None or abs(at_ms - shown_ms) >= MINUTE_MS:
            found.append((shown_ms or 0, Change(meta.key, meta.uid, time_text(at_ms))))
    found.sort(key=lambda each: (each[0], each[1].key))
    return [change for _, change in found]


class ReceivedTimes:
    """Writes these times for as long as the operator is active."""

    def __init__(
        self,
        world: World,
        cluster: Cluster,
        store: WebhookStore,
        metrics: Metrics,
        on_dirty: Callable[[Dirty], None],
        *,
        interval_ms: int = INTERVAL_MS,
        writes_per_s: float = WRITES_PER_S,
    ) -> None:
        """`on_dirty`: the answer to a write may show a change of which the watch has not told yet."""
        self._world = world
        self._cluster = cluster
        self._store = store
        self._metrics = metrics
        self._on_dirty = on_dirty
        self._interval_s = interval_ms / 1000
        self._pause_s = 1 / writes_per_s

    async def run(self) -> None:
        """Look and write until cancelled; what fails is tried again in the next round."""
        await in_rounds(self.write, self._interval_s, "when webhooks took requests was not written")

    async def write(self) -> None:
        """Write what is not shown yet: one look into the store, and a write for each Webhook that shows something else.

        Raises:
            ApiError: the API server does not answer, or has too much to do.
            StoreError, StoreUnavailableError: the times are not known.
        """
        webhooks = [each for each in self._world.webhooks() if not isinstance(each, Unreadable)]
        if not webhooks:
            return
        taken_ms = newest(await self._store.last_taken())
        for change in changes(webhooks, taken_ms):
            try:
                await self._write(change)
            except ApiError as error:
                if not 400 <= error.status < 500 or error.status == 429:
                    raise
                # A rule about this one, perhaps: it keeps nobody else waiting.
                namespace, name = change.key
                why = str(error)
                _log.warning("a webhook's status was refused", namespace=namespace, name=name, error=why)
            await asyncio.sleep(self._pause_s)

    async def _write(self, change: Change) -> None:
        known = self._world.webhook(change.key)
        if not isinstance(known, WebhookObject) or known.meta.uid != change.uid:
            return
        status: Json = known.status | {LAST_RECEIVED: change.received}
        action = set_status(WEBHOOK_KIND, known.meta, status)
        self._metrics.status_writes.labels(WEBHOOK_KIND).inc()
        # What this one was made of, not what is there by now: the patch holds the time alone.
        raw = await self._cluster.do(action, status_now=known.status)
        if raw is not None:
            self._on_dirty(self._world.put(WEBHOOKS, raw))
