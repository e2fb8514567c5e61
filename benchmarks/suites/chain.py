"""Sequential steps: what one step costs, and how long it takes when the server has nothing else to do."""

from dataclasses import dataclass
from statistics import median

from benchmarks.ceiling import Shape
from benchmarks.figures import Figure, rate
from benchmarks.processes import NULL_APP, TS3_APP, TS4_APP, AppKind
from benchmarks.session import Bench, CeilingSession, Outcome, Session


@dataclass(frozen=True)
class Variant:
    """An app's way to run a chain."""

    name: str
    kind: AppKind
    function: str
    shape: Shape


VARIANTS = (
    Variant("null", NULL_APP, "chain", "chain"),
    Variant("null-checkpointed", NULL_APP, "chain-checkpointed", "checkpointed"),
    Variant("ts4-checkpointed", TS4_APP, "chain", "checkpointed"),
    Variant("ts3", TS3_APP, "chain", "chain"),
)


async def run(bench: Bench) -> list[Figure]:
    """For each way: steps per second of short and of long runs with many in flight, and the time of one step
    of runs with one in flight.
    """
    figures: list[Figure] = []
    for kind in (NULL_APP, TS4_APP, TS3_APP):
        mine = [variant for variant in VARIANTS if variant.kind is kind]
        rates: list[tuple[Variant, int, int, Figure]] = []
        async with bench.session(kind) as session:
            for variant in mine:
                for length, runs in _lengths(bench):
                    figure = await _throughput(session, variant, length, runs)
                    rates.append((variant, length, runs, figure))
                figures.extend([await _step_time(session, variant, length) for length, _ in _lengths(bench)])
        async with bench.ceiling(kind) as ceiling:
            figures.extend([await _with_ceiling(bench, ceiling, *entry) for entry in rates])
    return sorted(figures, key=lambda figure: _order(figure.name))


def _lengths(bench: Bench) -> tuple[tuple[int, int], tuple[int, int]]:
    sizes = bench.sizes
    return (sizes.chain_short, sizes.chain_short_runs), (sizes.chain_long, sizes.chain_long_runs)


def _order(name: str) -> tuple[int, str]:
    return [variant.name for variant in VARIANTS].index(name.split(".")[1]), name


async def _throughput(session: Session, variant: Variant, length: int, runs: int) -> Figure:
    outcome = await session.closed_loop(
        variant.function,
        runs,
        session.sizes.chain_in_flight,
        warm_up=max(1, runs // 20),
        length=length,
    )
    name = f"chain.{variant.name}.{length}-steps.{session.sizes.chain_in_flight}-in-flight"
    return rate(name, length * runs, outcome.seconds, operation="step", cpu=outcome.cpu)


async def _step_time(session: Session, variant: Variant, length: int) -> Figure:
    runs = session.sizes.chain_alone_runs
    outcome = await session.closed_loop(
        variant.function, runs if length == session.sizes.chain_short else max(1, runs // 5), 1, length=length
    )
    return Figure(
        f"chain.{variant.name}.{length}-steps.1-in-flight", _ms_per_step(outcome, length), "ms/step"
    )


def _ms_per_step(outcome: Outcome, length: int) -> float:
    """Median over the runs of (last answer - first request) / steps, both as the app saw them."""
    pairs = zip(outcome.stats["first"], outcome.stats["finished"], strict=True)
    return float(median((finished - first) / length / 1000 for first, finished in pairs))


async def _with_ceiling(
    bench: Bench, ceiling: CeilingSession, variant: Variant, length: int, runs: int, figure: Figure
) -> Figure:
    return await ceiling.figure(
        figure,
        function=variant.function,
        shape=variant.shape,
        runs=runs,
        in_flight=bench.sizes.chain_in_flight,
        steps=length,
    )
