"""Whether a step gets dearer as queued, sleeping and waiting runs pile up."""

from statistics import median

from benchmarks.figures import Figure
from benchmarks.processes import NULL_APP, BenchmarkError, NotApplicable
from benchmarks.session import Bench, Session
from benchmarks.suites.seed import seed_mixture


async def run(bench: Bench) -> list[Figure]:
    """CPU time of server and store per step beside many other runs, divided by that beside few.

    Two servers, one with few and one with many such runs, are measured in turns; the figure is the median of
    the ratios of neighbours, so that what changes on the machine meanwhile meets both.
    """
    sizes = bench.sizes
    if bench.target == "peer":
        raise NotApplicable("growth compares two servers of its own: it cannot be measured on a peer")
    async with bench.session(NULL_APP) as small, bench.session(NULL_APP) as large:
        await seed_mixture(small, sizes.growth_small)
        await seed_mixture(large, sizes.growth_large)
        pairs = [await _pair(small, large) for _ in range(sizes.growth_rounds)]
    few = median(one for one, _ in pairs)
    many = median(other for _, other in pairs)
    ratio = median(other / one for one, other in pairs)
    return [
        Figure(f"growth.cpu-per-step.{sizes.growth_small}-others", few, "µs"),
        Figure(f"growth.cpu-per-step.{sizes.growth_large}-others", many, "µs"),
        Figure("growth.cpu-per-step.ratio", ratio, "x"),
    ]


async def _pair(small: Session, large: Session) -> tuple[float, float]:
    return await _cost(small), await _cost(large)


async def _cost(session: Session) -> float:
    """CPU microseconds of server and store per step of short chains.

    Raises:
        BenchmarkError: so little was used that the system's clock shows none.
    """
    sizes = session.sizes
    outcome = await session.closed_loop(
        "chain", sizes.growth_runs, sizes.chain_in_flight, length=sizes.chain_short
    )
    used = (outcome.cpu.server or 0.0) + (outcome.cpu.store or 0.0)
    if used <= 0:
        raise BenchmarkError(
            f"{sizes.growth_runs} runs used no CPU time that can be measured: take more runs"
        )
    return used * 1e6 / (sizes.growth_runs * sizes.chain_short)
