"""Figures as text for a terminal, as Markdown and as JSON. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.figures import Cpu, Figure, Summary, as_dict, summarize

Runs = Mapping[str, Sequence[Sequence[Figure]]]
"""By target: the figures of each run."""


def number(value: float) -> str:
    """Three digits that matter or more, thousands apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def cpu_text(cpu: Cpu, operation: str) -> str:
    """CPU time per operation, process by process."""
    names = ("server", "store", "app", "load")
    known = [
        f"{name} {number(value)}"
        for name, value in zip(names, cpu.values(), strict=True)
        if value is not None
    ]
    return f"CPU µs/{operation}: " + ", ".join(known) if known else ""


def cell(summary: Summary) -> str:
    """The median, and how far the runs lie apart."""
    text = f"{number(summary.median.value)} {summary.median.unit}"
    return text if summary.runs == 1 else f"{text} ({number(summary.low)}–{number(summary.high)})"


def beside(figure: Figure) -> list[str]:
    """What is said beside a throughput: CPU time, and the share of what the app alone can do."""
    parts = [cpu_text(figure.cpu, figure.operation)] if figure.cpu is not None else []
    if figure.share is not None and figure.ceiling is not None:
        text = f"{figure.share:.0%} of the ceiling {number(figure.ceiling)} {figure.unit}"
        if figure.ceiling_cpu is not None:
            text += f" ({cpu_text(figure.ceiling_cpu, figure.operation)})"
        parts.append(text)
    return [part for part in parts if part]


def text_report(runs: Runs) -> str:
    """One block per target, one line per figure, its CPU time and ceiling below it."""
    lines: list[str] = []
    for target, of_target in runs.items():
        summaries = summarize(of_target)
        if not summaries:
            continue
        width = max(len(summary.median.name) for summary in summaries)
        lines.append(f"--- {target}")
        for summary in summaries:
            lines.append(f"{summary.median.name:<{width}}  {cell(summary)}")
            lines.extend(f"{'':<{width}}    {part}" for part in beside(summary.median))
    return "\n".join(lines)


def markdown(environment: Mapping[str, str], runs: Runs) -> str:
    """The tables of the README."""
    lines = [f"- {key}: {value}" for key, value in environment.items()]
    for target, of_target in runs.items():
        lines += [
            "",
            f"**{target}**",
            "",
            "| figure | median (lowest–highest) | beside it |",
            "| --- | --- | --- |",
        ]
        for summary in summarize(of_target):
            lines.append(f"| {summary.median.name} | {cell(summary)} | {'; '.join(beside(summary.median))} |")
    return "\n".join(lines)


def as_json(environment: Mapping[str, str], runs: Runs, failures: Sequence[str]) -> dict[str, Any]:
    """Everything, single runs included."""
    return {
        "environment": dict(environment),
        "failures": list(failures),
        "targets": {
            target: {
                "median": [as_dict(summary.median) for summary in summarize(of_target)],
                "runs": [[as_dict(figure) for figure in run] for run in of_target],
            }
            for target, of_target in runs.items()
        },
    }
