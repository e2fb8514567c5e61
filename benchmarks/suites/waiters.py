"""Many runs wait for an event each: how long an event takes to find its run."""

from benchmarks.figures import Figure, percentiles, rate
from benchmarks.load import bodies, event
from benchmarks.processes import NULL_APP
from benchmarks.session import Bench
from benchmarks.suites.seed import seed_waiters

ONE_IN = 10


async def run(bench: Bench) -> list[Figure]:
    """From the acceptance of the event that a run waits for to the run's next request.

    All events have the name that is waited for; nine of ten have a key that nobody waits for. They are sent
    ten a body at a fixed rate, whether the server keeps up or not.
    """
    sizes = bench.sizes
    async with bench.session(NULL_APP) as session:
        waiting = session.marks(sizes.waiters)
        await seed_waiters(session, waiting)
        count = min(len(waiting), max(1, round(sizes.waiters_rate * sizes.waiters_s / ONE_IN)))
        stride = len(waiting) // count
        chosen = waiting[::stride][:count]
        events = []
        for mark in chosen:
            events.append(event("null/resume", key=f"w{mark}"))
            events.extend(event("null/resume", key=f"nobody-{mark}-{n}") for n in range(ONE_IN - 1))
        before = await session.cpu()
        accepted = await session.load.send_paced(list(bodies(events, ONE_IN)), sizes.waiters_rate / ONE_IN)
        await session.app.finished.every(chosen, sizes.stall_s)
        used = await session.cpu() - before
        stats = await session.load.stats(session.app.origin, waiting)
    offsets = [mark - waiting.start for mark in chosen]
    waits_ms = [
        (stats["resumed"][offset] - answer.accepted_us) / 1000
        for offset, answer in zip(offsets, accepted, strict=True)
    ]
    first_us = min(answer.sent_us for answer in accepted)
    seconds = (max(stats["finished"][offset] for offset in offsets) - first_us) / 1e6
    name = f"waiters.{len(waiting)}"
    return [
        *percentiles(f"{name}.resumed", waits_ms, "ms"),
        rate(f"{name}.events", len(events), seconds, operation="event", cpu=used),
    ]
