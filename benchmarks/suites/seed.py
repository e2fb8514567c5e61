"""Brings a server into a state with many runs that are queued, asleep or waiting.

Black-box: each run starts by an event, is called once, and its first answer puts it where it belongs. The one
exception is `seed_sleepers`, which has a fast way through the store where the caller provides one.
"""

import time
from collections.abc import Awaitable, Callable

from benchmarks.load import bodies
from benchmarks.session import Session

PER_BODY = 100
SENDERS = 4
FAR_MS = 86_400_000

StoreSeeder = Callable[[str, range, Callable[[int], int]], Awaitable[None]]
"""(store URL, marks, mark -> due ms since the epoch): writes sleeping runs of `bench-null-sleep`."""


async def seed_sleepers(
    session: Session, marks: range, wake_at_ms: Callable[[int], int], through_store: StoreSeeder | None = None
) -> None:
    """Runs of `sleep` that wake at `wake_at_ms(mark)` (ms since the epoch).

    Raises:
        RunsLost: some did not go to sleep.
    """
    if (
        through_store is not None
        and session.server.store is not None
        and session.server.store.url is not None
    ):
        await through_store(session.server.store.url, marks, wake_at_ms)
        return
    events = [session.event("sleep", mark, wake_at=wake_at_ms(mark)) for mark in marks]
    await session.load.send_all(bodies(events, PER_BODY), SENDERS)
    await session.app.slept.every(marks, session.sizes.stall_s)


async def seed_waiters(session: Session, marks: range) -> None:
    """Runs of `wait`, each waiting for `null/resume` with its own `data.key`, `w{mark}`.

    Raises:
        RunsLost: some did not come to wait.
    """
    events = [session.event("wait", mark, key=f"w{mark}") for mark in marks]
    await session.load.send_all(bodies(events, PER_BODY), SENDERS)
    await session.app.slept.every(marks, session.sizes.stall_s)


async def seed_queued(session: Session, marks: range) -> None:
    """Runs of `blocked`, which may have one request at a time and never answers: the others stay queued."""
    events = [session.event("blocked", mark) for mark in marks]
    await _queue(session, events)


async def _queue(session: Session, events: list[bytes]) -> None:
    """Send events, and wait until the last of them have their runs."""
    answers = await session.load.send_all(bodies(events, PER_BODY), SENDERS)
    for answer in answers[-SENDERS:]:
        await session.load.await_run(answer.ids()[-1], session.sizes.stall_s)


async def seed_tenant(session: Session, marks: range, tenant: str) -> None:
    """Runs of `tenant` whose key is full: the first one's request never ends, the others stay queued."""
    events = [session.event("tenant", mark, tenant=tenant, block=1) for mark in marks]
    await _queue(session, events)


async def seed_mixture(session: Session, count: int) -> None:
    """A third each of queued, sleeping (for a day) and waiting runs.

    Raises:
        RunsLost: some did not get there.
    """
    third = count // 3
    far = int(time.time() * 1000) + FAR_MS
    await seed_sleepers(session, session.marks(third), lambda mark: far + mark)
    await seed_waiters(session, session.marks(third))
    await seed_queued(session, session.marks(count - 2 * third))
