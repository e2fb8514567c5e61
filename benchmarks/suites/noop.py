"""Runs of one request: everything a run costs apart from its steps."""

from benchmarks.figures import Figure, rate
from benchmarks.processes import NULL_APP
from benchmarks.session import Bench


async def run(bench: Bench) -> list[Figure]:
    """Runs per second, from the first event sent to the last answer of the app."""
    sizes = bench.sizes
    async with bench.session(NULL_APP) as session:
        outcome = await session.open_loop(
            "noop", sizes.noop_runs, sizes.noop_senders, warm_up=sizes.noop_runs // 20
        )
    figure = rate("noop.null", len(outcome.marks), outcome.seconds, operation="run", cpu=outcome.cpu)
    async with bench.ceiling(NULL_APP) as ceiling:
        figure = await ceiling.figure(
            figure, function="noop", shape="single", runs=sizes.noop_runs, in_flight=sizes.noop_senders
        )
    return [figure]
