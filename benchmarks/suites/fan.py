"""One run that plans a thousand steps at once."""

from benchmarks.figures import Figure, rate
from benchmarks.processes import NULL_APP
from benchmarks.session import Bench

CEILING_IN_FLIGHT = 64


async def run(bench: Bench) -> list[Figure]:
    """Steps per second of the one run. There is no warm-up run: the first one is what a user waits for."""
    width = bench.sizes.fan_width
    async with bench.session(NULL_APP) as session:
        await session.closed_loop("noop", 20, 4)
        outcome = await session.closed_loop("fan", 1, 1, width=width)
    figure = rate(f"fan.null.{width}-steps", width, outcome.seconds, operation="step", cpu=outcome.cpu)
    async with bench.ceiling(NULL_APP) as ceiling:
        figure = await ceiling.figure(
            figure, function="fan", shape="fan", runs=1, in_flight=CEILING_IN_FLIGHT, steps=width
        )
    return [figure]
