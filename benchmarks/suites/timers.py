"""Many sleeping runs: how late they wake, and what they cost while they sleep."""

import asyncio
import time
from collections.abc import Callable

from benchmarks.figures import Figure, percentiles
from benchmarks.processes import NULL_APP, BenchmarkError
from benchmarks.session import Bench, Session
from benchmarks.suites.seed import seed_sleepers

PROBE_SHARE = 50
"""One in so many is seeded first, to learn how long the others will take."""
MARGIN = 1.3
SLACK_S = 3.0
ATTEMPTS = 3


async def run(bench: Bench) -> list[Figure]:
    """Lateness: from the moment a run was due (its app's answer plus the duration it asked for) to its next
    request. Idle: CPU time of server and store while all sleep and none is due, as a share of one core.
    """
    async with bench.session(NULL_APP) as session:
        marks = await _seed(session)
        idle = await _idle(session, marks)
        await session.app.finished.every(marks, session.sizes.sleepers_window_s + session.sizes.stall_s)
        stats = await session.load.stats(session.app.origin, marks)
    late_ms = [(at - due) / 1000 for due, at in zip(stats["slept"], stats["resumed"], strict=True)]
    return [*percentiles(f"timers.{len(marks)}-sleepers.lateness", late_ms, "ms"), *idle]


async def _seed(session: Session) -> range:
    """Put the runs to sleep so that they begin to wake after the idle time; their marks."""
    sizes = session.sizes
    started = time.monotonic()
    probe = session.marks(max(1, sizes.sleepers // PROBE_SHARE))
    far_ms = int(time.time() * 1000) + 86_400_000
    await seed_sleepers(session, probe, lambda _: far_ms)
    seeding_s = (time.monotonic() - started) / len(probe) * sizes.sleepers * MARGIN
    for attempt in range(ATTEMPTS):
        marks = session.marks(sizes.sleepers)
        first_due = time.time() + seeding_s * (1 + attempt) + sizes.idle_s + SLACK_S
        await seed_sleepers(session, marks, _evenly(marks, first_due, sizes.sleepers_window_s))
        if time.time() + sizes.idle_s < first_due:
            return marks
        # Too slow: the first are due before all sleep. Let them end, and take more time.
        await session.app.finished.every(marks, sizes.sleepers_window_s + sizes.stall_s)
    raise BenchmarkError(
        f"seeding {sizes.sleepers} sleeping runs took longer than foreseen, {ATTEMPTS} times"
    )


def _evenly(marks: range, first_due_s: float, window_s: float) -> Callable[[int], int]:
    """Due times (ms since the epoch) spread evenly over the window, in order of the marks."""
    return lambda mark: int((first_due_s + window_s * (mark - marks.start) / len(marks)) * 1000)


async def _idle(session: Session, marks: range) -> list[Figure]:
    """CPU use of server and store over the idle time.

    Raises:
        BenchmarkError: a run woke meanwhile.
    """
    before = await session.cpu()
    started = time.monotonic()
    await asyncio.sleep(session.sizes.idle_s)
    used = await session.cpu() - before
    seconds = time.monotonic() - started
    if not session.app.finished.marks.isdisjoint(marks):
        raise BenchmarkError(
            "a run woke before it was due, or the idle time overlapped with the first timers"
        )
    name = f"timers.{len(marks)}-sleepers.idle"
    figures = []
    for process, cpu_s in (("server", used.server), ("store", used.store)):
        if cpu_s is not None:
            figures.append(Figure(f"{name}.{process}", 100 * cpu_s / seconds, "% of a core"))
    return figures
