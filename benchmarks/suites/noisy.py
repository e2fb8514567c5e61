"""Whether a tenant with a long queue delays another one of the same function."""

from benchmarks.figures import Figure, percentile, percentiles
from benchmarks.load import Accepted
from benchmarks.processes import NULL_APP
from benchmarks.session import Bench, Session
from benchmarks.suites.seed import seed_tenant

WARM_UP_EVENTS = 5


async def run(bench: Bench) -> list[Figure]:
    """From the sending of tenant B's event to its first request, without and with many queued runs of tenant A.

    The function may have one request at a time for each tenant. That of A never ends, so all others of A wait for its
    slot. `ratio` is the p99 beside A, divided by that without.
    """
    sizes = bench.sizes
    async with bench.session(NULL_APP) as session:
        await session.closed_loop("tenant", WARM_UP_EVENTS, 1, tenant="B")
        alone = await _paced(session)
        await seed_tenant(session, session.marks(sizes.noisy_queued), "A")
        beside = await _paced(session)
    name = f"noisy.{sizes.noisy_queued}-queued"
    return [
        *percentiles("noisy.alone.sent", alone, "ms"),
        *percentiles(f"{name}.sent", beside, "ms"),
        Figure(f"{name}.ratio", percentile(beside, 0.99) / percentile(alone, 0.99), "x"),
    ]


async def _paced(session: Session) -> list[float]:
    """Ms from sent to started, of each event of tenant B."""
    sizes = session.sizes
    marks = session.marks(max(1, round(sizes.noisy_s * sizes.noisy_rate)))
    bodies = [session.event("tenant", mark, tenant="B") for mark in marks]
    answers: list[Accepted] = await session.load.send_paced(bodies, sizes.noisy_rate)
    await session.app.finished.every(marks, sizes.stall_s)
    stats = await session.load.stats(session.app.origin, marks)
    await session.verify(answers)
    return [(at - answer.sent_us) / 1000 for at, answer in zip(stats["first"], answers, strict=True)]
