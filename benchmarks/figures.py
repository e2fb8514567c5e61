"""What a benchmark yields, and the arithmetic on it. Pure."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Cpu:
    """CPU time by process: seconds in a measurement, microseconds per operation beside a figure.

    None where the process cannot be seen, as with a peer on another machine.
    """

    server: float | None
    store: float | None
    app: float | None
    load: float | None

    def __sub__(self, earlier: "Cpu") -> "Cpu":
        """What was used since `earlier`; None wherever one side is unknown."""
        return self._zip(earlier, lambda now, then: now - then)

    def __add__(self, other: "Cpu") -> "Cpu":
        """The sum of two measurements; None wherever one side is unknown."""
        return self._zip(other, lambda one, two: one + two)

    def per_operation(self, operations: int) -> "Cpu":
        """Seconds as microseconds per operation.

        Raises:
            ValueError: there was no operation.
        """
        if operations <= 0:
            raise ValueError(f"CPU time per operation needs at least one operation, there were {operations}")
        return Cpu(*(None if value is None else value * 1e6 / operations for value in self.values()))

    def values(self) -> tuple[float | None, float | None, float | None, float | None]:
        """Server, store, app, load."""
        return self.server, self.store, self.app, self.load

    def _zip(self, other: "Cpu", combine: Callable[[float, float], float]) -> "Cpu":
        pairs = zip(self.values(), other.values(), strict=True)
        return Cpu(*(None if a is None or b is None else combine(a, b) for a, b in pairs))


@dataclass(frozen=True)
class Figure:
    """One measured number of one run, or the median of several."""

    name: str
    """`suite.variant.metric`, the same in every run."""
    value: float
    unit: str
    cpu: Cpu | None = None
    """Microseconds per operation, beside a throughput."""
    operation: str = ""
    """What `cpu` is per: `run`, `step`, `event`."""
    ceiling: float | None = None
    """What the app alone reached, driven by a server that only answers; in `unit`."""
    ceiling_cpu: Cpu | None = None

    @property
    def share(self) -> float | None:
        """The value as a share of its ceiling."""
        return self.value / self.ceiling if self.ceiling else None


@dataclass(frozen=True)
class Summary:
    """A figure over all runs of one target."""

    median: Figure
    low: float
    high: float
    runs: int


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed (nearest rank).

    Raises:
        ValueError: no values, or a share outside 0 to 1.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("a percentile needs at least one value")
    if not 0 <= share <= 1:
        raise ValueError(f"the share of a percentile lies between 0 and 1, got {share}")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def percentiles(name: str, values: Sequence[float], unit: str) -> list[Figure]:
    """The figures `name.p50` and `name.p99`.

    Raises:
        ValueError: no values.
    """
    return [
        Figure(f"{name}.p50", percentile(values, 0.5), unit),
        Figure(f"{name}.p99", percentile(values, 0.99), unit),
    ]


def rate(name: str, count: int, seconds: float, *, operation: str, cpu: Cpu, label: str = "") -> Figure:
    """A throughput of `count` operations in `seconds`, with the CPU time (`cpu`, in seconds) of each.

    Raises:
        ValueError: nothing was done, or in no time.
    """
    if seconds <= 0:
        raise ValueError(f"{name}: {count} operations in {seconds} s is no throughput")
    unit = f"{label or operation + 's'}/s"
    return Figure(name, count / seconds, unit, cpu=cpu.per_operation(count), operation=operation)


def summarize(runs: Sequence[Sequence[Figure]]) -> list[Summary]:
    """The median of each figure over the runs, in the order of the first run that has it.

    Raises:
        ValueError: two figures of one run have the same name, or a figure changes its unit.
    """
    by_name: dict[str, list[Figure]] = {}
    for run in runs:
        names = [figure.name for figure in run]
        if len(set(names)) != len(names):
            raise ValueError(f"a run names a figure twice: {sorted(names)}")
        for figure in run:
            by_name.setdefault(figure.name, []).append(figure)
    return [_summary(figures) for figures in by_name.values()]


def _summary(figures: Sequence[Figure]) -> Summary:
    first = figures[0]
    if len({figure.unit for figure in figures}) != 1:
        raise ValueError(f"{first.name} is given in different units: {sorted({f.unit for f in figures})}")
    values = [figure.value for figure in figures]
    median = Figure(
        first.name,
        statistics.median(values),
        first.unit,
        cpu=_median_cpu([figure.cpu for figure in figures]),
        operation=first.operation,
        ceiling=_median([figure.ceiling for figure in figures]),
        ceiling_cpu=_median_cpu([figure.ceiling_cpu for figure in figures]),
    )
    return Summary(median, min(values), max(values), len(figures))


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _median_cpu(samples: Iterable[Cpu | None]) -> Cpu | None:
    known = [sample for sample in samples if sample is not None]
    if not known:
        return None
    return Cpu(*(_median(column) for column in zip(*(sample.values() for sample in known), strict=True)))


def as_dict(figure: Figure) -> dict[str, Any]:
    """A figure as JSON data, without what it does not have."""
    out: dict[str, Any] = {"name": figure.name, "value": figure.value, "unit": figure.unit}
    if figure.cpu is not None:
        out["cpu_us_per_operation"] = _cpu_dict(figure.cpu)
        out["operation"] = figure.operation
    if figure.ceiling is not None:
        out["ceiling"] = figure.ceiling
        out["share_of_ceiling"] = figure.share
    if figure.ceiling_cpu is not None:
        out["ceiling_cpu_us_per_operation"] = _cpu_dict(figure.ceiling_cpu)
    return out


def _cpu_dict(cpu: Cpu) -> dict[str, float | None]:
    return {field.name: getattr(cpu, field.name) for field in fields(cpu)}
