"""What the command line asks for."""

import pytest

from benchmarks.__main__ import parser, sizes_of, suites_of, targets_of
from benchmarks.sizes import Sizes
from benchmarks.suites import SUITES


def test_both_modes_and_all_benchmarks_by_default() -> None:
    options = parser().parse_args([])
    assert targets_of(options) == ("memory", "fsync")
    assert suites_of(options) == list(SUITES)
    assert sizes_of(options) == Sizes()


def test_quick_takes_one_mode_unless_told() -> None:
    assert targets_of(parser().parse_args(["--quick"])) == ("memory",)
    assert targets_of(parser().parse_args(["--quick", "--mode", "both"])) == ("memory", "fsync")


def test_a_peer_is_measured_beside_the_modes_or_alone() -> None:
    assert targets_of(parser().parse_args(["--peer", "http://x"])) == ("memory", "fsync", "peer")
    assert targets_of(parser().parse_args(["--peer", "http://x", "--mode", "none"])) == ("peer",)


def test_scale_changes_the_large_numbers_only() -> None:
    sizes = sizes_of(parser().parse_args(["--scale", "0.01"]))
    assert (sizes.sleepers, sizes.waiters, sizes.growth_large) == (1000, 1000, 1003)
    assert (sizes.noisy_queued, sizes.keys, sizes.backlog_large) == (1000, 1000, 10_000)
    assert sizes.noop_runs == Sizes().noop_runs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "noop,nope"], "unknown benchmarks nope"),
        (["--mode", "none"], "--peer URL"),
        (["--scale", "0"], "positive"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_remedy(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = parser().parse_args(arguments)
    with pytest.raises(SystemExit):
        suites_of(options), targets_of(options), sizes_of(options)
    assert message in capsys.readouterr().err
