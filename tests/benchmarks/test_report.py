"""Figures as text, Markdown and JSON."""

import json

import pytest

from benchmarks.figures import Cpu, Figure
from benchmarks.report import as_json, markdown, number, text_report

RUNS = {
    "memory": [
        [
            Figure(
                "noop.null",
                value,
                "runs/s",
                cpu=Cpu(300.0, 80.0, 30.0, None),
                operation="run",
                ceiling=10_000.0,
            )
        ]
        for value in (1000.0, 1500.0, 1250.0)
    ]
}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1234, "0.12"),
        (1.0, "1.00"),
        (12.34, "12.3"),
        (123.4, "123"),
        (1234567.8, "1,234,568"),
        (-250.4, "-250"),
    ],
)
def test_numbers_show_the_digits_that_matter(value: float, text: str) -> None:
    assert number(value) == text


def test_text_has_median_spread_cpu_and_share_of_the_ceiling() -> None:
    text = text_report(RUNS)
    assert "--- memory" in text
    assert "1,250 runs/s (1,000–1,500)" in text
    assert "CPU µs/run: server 300, store 80.0, app 30.0" in text
    assert "load" not in text
    assert "12% of the ceiling 10,000 runs/s" in text


def test_a_single_run_has_no_spread() -> None:
    assert "(" not in text_report({"fsync": [[Figure("a", 5.0, "ms")]]})


def test_a_target_without_figures_is_left_out() -> None:
    assert text_report({"memory": []}) == ""


def test_markdown_lists_the_machine_and_has_a_row_per_figure() -> None:
    text = markdown({"CPU": "one of these"}, RUNS)
    assert text.startswith("- CPU: one of these\n")
    (row,) = [line for line in text.splitlines() if line.startswith("| noop.null")]
    assert row.count("|") == 4


def test_json_holds_every_run_and_the_failures() -> None:
    document = json.loads(json.dumps(as_json({"CPU": "x"}, RUNS, ["noop: lost"])))
    assert [run[0]["value"] for run in document["targets"]["memory"]["runs"]] == [1000, 1500, 1250]
    assert document["targets"]["memory"]["median"][0]["value"] == 1250
    assert document["failures"] == ["noop: lost"]
