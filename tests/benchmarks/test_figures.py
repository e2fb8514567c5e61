"""The arithmetic on figures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import Cpu, Figure, as_dict, percentile, percentiles, rate, summarize

SOME = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=200)
SHARES = st.floats(min_value=0, max_value=1)


def test_percentile_is_the_nearest_rank() -> None:
    values = [float(n) for n in range(1, 101)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile(values, 1) == 100
    assert percentile(values, 0) == 1


def test_percentile_of_few_values_is_one_of_them() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3
    assert percentile([7.0], 0.99) == 7


@given(SOME, SHARES)
def test_at_least_the_share_of_the_values_does_not_exceed_the_percentile(
    values: list[float], share: float
) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)


@given(SOME, SHARES)
def test_fewer_than_the_share_lie_below_the_percentile(values: list[float], share: float) -> None:
    below = sum(value < percentile(values, share) for value in values)
    assert below == 0 or below < share * len(values)


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.1), ([1.0], -0.1)])
def test_percentile_refuses_what_it_cannot_answer(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, share)


def test_percentiles_are_two_figures_in_the_unit_given() -> None:
    figures = percentiles("latency", [float(n) for n in range(1, 1001)], "ms")
    assert [(f.name, f.value, f.unit) for f in figures] == [
        ("latency.p50", 500, "ms"),
        ("latency.p99", 990, "ms"),
    ]


def test_cpu_difference_and_division_keep_what_is_unknown_unknown() -> None:
    used = Cpu(3.0, None, 1.5, 2.0) - Cpu(1.0, None, 1.0, None)
    assert used == Cpu(2.0, None, 0.5, None)
    assert used.per_operation(1000) == Cpu(2000.0, None, 500.0, None)


def test_cpu_of_no_operation_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one operation"):
        Cpu(1.0, 1.0, 1.0, 1.0).per_operation(0)


def test_rate_counts_operations_per_second_and_their_cpu_time() -> None:
    figure = rate("noop", 5000, 4.0, operation="run", cpu=Cpu(2.0, 0.5, None, 1.0))
    assert figure.value == 1250
    assert figure.unit == "runs/s"
    assert figure.cpu == Cpu(400.0, 100.0, None, 200.0)


def test_rate_in_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="no throughput"):
        rate("noop", 1, 0.0, operation="run", cpu=Cpu(None, None, None, None))


def test_summary_is_the_median_with_lowest_and_highest() -> None:
    runs = [[Figure("a", value, "ms")] for value in (30.0, 10.0, 20.0)]
    (summary,) = summarize(runs)
    assert (summary.median.value, summary.low, summary.high, summary.runs) == (20, 10, 30, 3)


def test_summary_takes_cpu_and_ceiling_as_medians_of_their_own() -> None:
    runs = [
        [Figure("a", 1.0, "runs/s", cpu=Cpu(1.0, None, 9.0, 0.0), operation="run", ceiling=100.0)],
        [Figure("a", 2.0, "runs/s", cpu=Cpu(3.0, 5.0, 7.0, 0.0), operation="run", ceiling=300.0)],
        [Figure("a", 3.0, "runs/s", cpu=Cpu(2.0, None, 8.0, 0.0), operation="run", ceiling=200.0)],
    ]
    (summary,) = summarize(runs)
    assert summary.median.cpu == Cpu(2.0, 5.0, 8.0, 0.0)
    assert summary.median.ceiling == 200
    assert summary.median.share == pytest.approx(0.01)


def test_summary_keeps_a_figure_that_one_run_lacks() -> None:
    summaries = summarize([[Figure("a", 1.0, "ms")], [], [Figure("a", 3.0, "ms"), Figure("b", 5.0, "ms")]])
    assert [(s.median.name, s.median.value, s.runs) for s in summaries] == [("a", 2.0, 2), ("b", 5.0, 1)]


def test_a_figure_named_twice_in_one_run_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        summarize([[Figure("a", 1.0, "ms"), Figure("a", 2.0, "ms")]])


def test_a_figure_that_changes_its_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="units"):
        summarize([[Figure("a", 1.0, "ms")], [Figure("a", 2.0, "s")]])


def test_json_of_a_figure_leaves_out_what_it_does_not_have() -> None:
    assert as_dict(Figure("a", 1.0, "ms")) == {"name": "a", "value": 1.0, "unit": "ms"}
    full = as_dict(Figure("b", 50.0, "runs/s", cpu=Cpu(1.0, None, 2.0, 3.0), operation="run", ceiling=200.0))
    assert full["share_of_ceiling"] == 0.25
    assert full["cpu_us_per_operation"] == {"server": 1.0, "store": None, "app": 2.0, "load": 3.0}
