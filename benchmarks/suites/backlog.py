"""Whether a lease gets dearer as the queue grows, and what a run takes of the store's memory."""

from statistics import median

from benchmarks.figures import Figure
from benchmarks.processes import NULL_APP
from benchmarks.session import Bench, Session
from benchmarks.shard import Cost, Shard, finish, shard, sleep


async def run(bench: Bench) -> list[Figure]:
    """CPU time of the store for a lease and for a commit, beside few and beside many queued requests.

    Two shards of the server's store, worked on without the server; in turns, each filled up again before its turn. The
    ratios are medians of those of neighbours. Memory is what the store says that it uses, divided by the runs: with
    an event of 300 bytes each, as it is kept.
    """
    sizes = bench.sizes
    async with (
        bench.session(NULL_APP) as session,
        shard(session, "short") as short,
        shard(session, "long") as long,
    ):
        await short.fill(sizes.backlog_small)
        queued = await _memory(long, sizes.backlog_large)
        pairs = [(await _round(short, bench), await _round(long, bench)) for _ in range(sizes.backlog_rounds)]
        sleeping = await _sleeping(session, bench)
    return [
        *_figures("lease", bench, [(few[0], many[0]) for few, many in pairs]),
        *_figures("commit", bench, [(few[1], many[1]) for few, many in pairs]),
        Figure("backlog.memory.queued", queued, "bytes/run"),
        Figure("backlog.memory.sleeping", sleeping, "bytes/run"),
    ]


async def _round(queue: Shard, bench: Bench) -> tuple[Cost, Cost]:
    """The cost of leases and of commits."""
    sizes = bench.sizes
    await queue.fill(sizes.backlog_leases)
    leases, taking = await queue.lease(sizes.backlog_leases, sizes.backlog_in_flight)
    ending = await queue.commit(leases, sizes.backlog_in_flight, finish)
    return taking, ending


def _figures(what: str, bench: Bench, pairs: list[tuple[Cost, Cost]]) -> list[Figure]:
    sizes = bench.sizes
    return [
        Figure(f"backlog.{what}.{sizes.backlog_small}", median(few.store_us for few, _ in pairs), "µs"),
        Figure(f"backlog.{what}.{sizes.backlog_large}", median(many.store_us for _, many in pairs), "µs"),
        Figure(f"backlog.{what}.ratio", median(many.store_us / few.store_us for few, many in pairs), "x"),
    ]


async def _memory(queue: Shard, count: int) -> float:
    before = await queue.memory_bytes()
    await queue.fill(count)
    return (await queue.memory_bytes() - before) / count


async def _sleeping(session: Session, bench: Bench) -> float:
    """Bytes of a run that sleeps, its event and its first step's wait included."""
    sizes = bench.sizes
    async with shard(session, "asleep") as asleep:
        before = await asleep.memory_bytes()
        await asleep.fill(sizes.backlog_asleep)
        leases, _ = await asleep.lease(sizes.backlog_asleep, sizes.backlog_in_flight)
        await asleep.commit(leases, sizes.backlog_in_flight, sleep)
        return (await asleep.memory_bytes() - before) / sizes.backlog_asleep
