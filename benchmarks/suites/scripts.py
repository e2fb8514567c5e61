"""What an event, a run and a step cost the store; beside the code of another checkout, how much more or less."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median

import msgspec

from benchmarks.figures import Figure
from benchmarks.processes import HERE, NULL_APP, BenchmarkError, NotApplicable, end
from benchmarks.session import Bench
from benchmarks.verbs import Plan, Taken

ROOMS = ("engine", "apps", "operator", "executor", "gateway", "cli")
COSTS = {
    "append": "µs/event",
    "append_alone": "µs/event",
    "start": "µs/run",
    "finish": "µs/run",
    "run": "µs/run",
    "step": "µs/step",
    "event_bytes": "bytes/event",
    "run_bytes": "bytes/run",
}
"""`run`: start and end."""


async def run(bench: Bench) -> list[Figure]:
    """CPU time and memory of the store by what `verbs.py` does in a shard of its own, without the server.

    With `--against DIR` the code of that checkout takes turns with this one's, in another shard of the same store: the
    ratios are medians of those of neighbours.
    """
    sizes, against = bench.sizes, bench.settings.against
    plan = Plan(sizes.scripts_runs, sizes.scripts_chains, sizes.scripts_steps, sizes.scripts_in_flight)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(bench.session(NULL_APP))
        store = session.server.store
        if store is None or store.url is None:
            raise NotApplicable("the store of this server cannot be reached: it is what is measured")
        url = store.url.partition("?")[0]
        workers = [await stack.enter_async_context(_worker(url, "{bench-this}:", None))]
        if against is not None:
            workers.append(await stack.enter_async_context(_worker(url, "{bench-that}:", against)))
        rounds = [[await worker.carry_out(plan) for worker in workers] for _ in range(sizes.scripts_rounds)]
    return [figure for name, unit in COSTS.items() for figure in _figures(name, unit, rounds)]


def _figures(name: str, unit: str, rounds: list[list[Taken]]) -> list[Figure]:
    costs = [[_cost(taken, name) for taken in each] for each in rounds]
    label = f"scripts.{name.replace('_', '-')}"
    figures = [Figure(label, median(each[0] for each in costs), unit)]
    if len(costs[0]) > 1:
        figures.append(Figure(f"{label}.against", median(each[1] for each in costs), unit))
        figures.append(Figure(f"{label}.ratio", median(this / that for this, that in costs), "x"))
    return figures


def _cost(taken: Taken, name: str) -> float:
    if name == "run":
        return taken.start + taken.finish
    return float(getattr(taken, name))


class _Worker:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def carry_out(self, plan: Plan) -> Taken:
        """Do a round.

        Raises:
            BenchmarkError: the process has ended.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(plan) + b"\n")
        return msgspec.json.decode(await self.line(), type=Taken)

    async def line(self) -> bytes:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise BenchmarkError("what measures the scripts ended (see its error above)")
        return line


@asynccontextmanager
async def _worker(url: str, prefix: str, checkout: Path | None) -> AsyncIterator[_Worker]:
    """The verbs of this checkout, or of another one."""
    env = dict(os.environ)
    if checkout is not None:
        env["PYTHONPATH"] = os.pathsep.join(str(checkout.resolve() / room) for room in ROOMS)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.verbs", url, prefix),
        cwd=HERE.parent,
        env=env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        worker = _Worker(process)
        await worker.line()
        yield worker
    finally:
        await end(process)
