"""`python -m benchmarks`: measure a server, print the figures. See README.md in this folder."""

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import uvloop

from benchmarks import environment, report
from benchmarks.figures import Figure
from benchmarks.processes import BenchmarkError, NotApplicable
from benchmarks.session import Bench, Settings, Target
from benchmarks.sizes import Sizes, quick
from benchmarks.suites import SUITES

ROOT = Path(__file__).resolve().parent.parent
MODES: dict[str, tuple[Target, ...]] = {
    "memory": ("memory",),
    "fsync": ("fsync",),
    "both": ("memory", "fsync"),
    "none": (),
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = out.add_argument
    add("--only", default="", metavar="A,B", help=f"of: {', '.join(SUITES)}")
    add("--mode", choices=list(MODES), default=None, help="default: both, with --quick memory")
    add(
        "--runs",
        type=int,
        default=None,
        metavar="N",
        help="each figure is the median of N (3, with --quick 1)",
    )
    add("--quick", action="store_true", help="a smoke of everything: figures are produced, no run is lost")
    add(
        "--scale",
        type=float,
        default=1.0,
        help="of the many sleeping, waiting and queued runs, e.g. 0.1",
    )
    add("--peer", metavar="URL", help="measure this running server as well (--mode none: only this one)")
    add("--peer-pid", type=int, metavar="PID", help="its process, for the CPU time")
    add("--innkeeper", default=str(Path(sys.executable).parent / "innkeeper"), metavar="COMMAND")
    add(
        "--modules",
        type=Path,
        default=ROOT / "tests/sdk/ts",
        metavar="DIR",
        help="holds node_modules with SDKs",
    )
    add("--scratch", type=Path, default=Path(tempfile.gettempdir()), metavar="DIR", help="data of mode fsync")
    add(
        "--against",
        type=Path,
        metavar="DIR",
        help="a checkout of another version: `scripts` measures its code in turns with this one's",
    )
    add("--json", type=Path, metavar="FILE", help="write every single figure")
    add("--markdown", type=Path, metavar="FILE", help="write the tables of the README")
    return out


def fail(message: str) -> NoReturn:
    """End with a usage error."""
    parser().error(message)


def sizes_of(options: argparse.Namespace) -> Sizes:
    """The sizes that the options ask for."""
    sizes = quick() if options.quick else Sizes()
    if options.scale <= 0:
        fail(f"--scale is a positive number, got {options.scale}")
    return replace(
        sizes,
        sleepers=max(3, round(sizes.sleepers * options.scale)),
        waiters=max(10, round(sizes.waiters * options.scale)),
        growth_large=max(sizes.growth_small + 3, round(sizes.growth_large * options.scale)),
        noisy_queued=max(10, round(sizes.noisy_queued * options.scale)),
        keys=max(10 * sizes.keys_rounds, round(sizes.keys * options.scale)),
        backlog_large=max(sizes.backlog_small + 1, round(sizes.backlog_large * options.scale)),
    )


def targets_of(options: argparse.Namespace) -> tuple[Target, ...]:
    """What is measured, in turns."""
    mode = options.mode or ("memory" if options.quick else "both")
    targets = MODES[mode] + (("peer",) if options.peer else ())
    if not targets:
        fail("--mode none measures only a peer: give --peer URL")
    return targets


def suites_of(options: argparse.Namespace) -> list[str]:
    """The names of the benchmarks to run."""
    names = [name for name in options.only.split(",") if name] or list(SUITES)
    unknown = [name for name in names if name not in SUITES]
    if unknown:
        fail(f"--only names unknown benchmarks {', '.join(unknown)}; there are {', '.join(SUITES)}")
    return names


class Measurement:
    """All runs of all benchmarks, and what went wrong."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._runs = options.runs or (1 if options.quick else 3)
        self._names = suites_of(options)
        settings = Settings(
            innkeeper=tuple(shlex.split(options.innkeeper)),
            modules=options.modules.resolve(),
            scratch=options.scratch.resolve(),
            peer_url=options.peer,
            peer_pid=options.peer_pid,
            against=options.against,
        )
        sizes = sizes_of(options)
        self.environment = environment.describe(settings.modules, settings.scratch)
        self._benches = [Bench(target, sizes, settings) for target in targets_of(options)]
        self.failures: list[str] = []
        self.figures: dict[str, list[list[Figure]]] = defaultdict(list)

    async def carry_out(self) -> None:
        """Each benchmark `runs` times, the targets in turns, so that they meet the same machine."""
        for key, value in self.environment.items():
            print(f"{key}: {value}")
        for name in self._names:
            for number in range(self._runs):
                for bench in self._benches:
                    await self._one(name, number, bench)
        for bench in self._benches:
            self.environment[f"store of {bench.target}"] = bench.store or "unknown"
            print(f"store of {bench.target}: {bench.store or 'unknown'}")

    async def _one(self, name: str, number: int, bench: Bench) -> None:
        start = time.monotonic()
        label = f"{name}, {bench.target}, run {number + 1} of {self._runs}"
        try:
            figures = await SUITES[name](bench)
        except NotApplicable as reason:
            print(f"skipped {label}: {reason}", file=sys.stderr, flush=True)
            return
        except BenchmarkError as error:
            self.failures.append(f"{label}: {error}")
            print(f"FAILED {label}: {error}", file=sys.stderr, flush=True)
            return
        self._keep(bench.target, number, figures)
        print(f"{label}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)

    def _keep(self, target: str, number: int, figures: list[Figure]) -> None:
        runs = self.figures[target]
        while len(runs) <= number:
            runs.append([])
        runs[number].extend(figures)


def main() -> int:
    """Measure, print, write; 1 where a benchmark failed or a run was lost."""
    options = parser().parse_args()
    measurement = Measurement(options)
    uvloop.run(measurement.carry_out())
    print(report.text_report(measurement.figures))
    if options.json:
        document = report.as_json(measurement.environment, measurement.figures, measurement.failures)
        options.json.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    if options.markdown:
        options.markdown.write_text(report.markdown(measurement.environment, measurement.figures) + "\n")
    for failure in measurement.failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if measurement.failures else 0


if __name__ == "__main__":
    sys.exit(main())
