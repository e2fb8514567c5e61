"""How long an event waits for the first request to its function, on a server that has little to do."""

from benchmarks.figures import Figure, percentiles
from benchmarks.processes import NULL_APP, TS4_APP, AppKind
from benchmarks.session import Bench

WARM_UP_EVENTS = 5


async def run(bench: Bench) -> list[Figure]:
    """`accepted`: from the 200 to the arrival at the app (below 0: the app was called before the sender had
    read its answer); `sent`: from the sending of the event.
    """
    return [figure for kind in (TS4_APP, NULL_APP) for figure in await _with_app(bench, kind)]


async def _with_app(bench: Bench, kind: AppKind) -> list[Figure]:
    sizes = bench.sizes
    async with bench.session(kind) as session:
        await session.closed_loop("noop", WARM_UP_EVENTS, 1)
        marks = session.marks(round(sizes.latency_s * sizes.latency_rate))
        accepted = await session.load.send_paced(
            [session.event("noop", mark) for mark in marks], sizes.latency_rate
        )
        await session.app.finished.every(marks, sizes.stall_s)
        stats = await session.load.stats(session.app.origin, marks)
        await session.verify(accepted)
    from_accepted = [at - a.accepted_us for at, a in zip(stats["first"], accepted, strict=True)]
    from_sent = [at - a.sent_us for at, a in zip(stats["first"], accepted, strict=True)]
    return [
        *percentiles(f"latency.{kind.name}.accepted", [us / 1000 for us in from_accepted], "ms"),
        *percentiles(f"latency.{kind.name}.sent", [us / 1000 for us in from_sent], "ms"),
    ]
