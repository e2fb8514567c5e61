"""Which windows an export writes, and how far an archive goes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_cli.archive.windows import (
    Gap,
    Progress,
    Wanted,
    Window,
    advanced,
    bounds,
    check_window_ms,
    gap,
    path_of,
    window_at,
)

H = 3_600_000
NOW = 1000 * H + 1234


def within(wanted: Wanted, progress: Progress | None = None, settled_ms: int = NOW) -> Window:
    """From when to when, in hours."""
    found = bounds(wanted, progress, now_ms=NOW, settled_ms=settled_ms, keep_s=72 * 3600, window_ms=H)
    assert found.start_ms % H == found.end_ms % H == 0
    return Window(found.start_ms // H, found.end_ms // H)


def test_an_export_of_all_is_of_all_windows_that_are_over() -> None:
    assert within(Wanted()) == (0, 1000)


def test_it_goes_on_where_the_last_one_was() -> None:
    assert within(Wanted(), Progress(990 * H)) == (990, 1000)
    assert within(Wanted(from_ms=980 * H + 5), Progress(990 * H)) == (980, 1000)


def test_it_begins_at_the_beginning_where_the_last_one_did_not() -> None:
    """Files tell which windows are done."""
    assert within(Wanted(), Progress(990 * H, 980 * H)) == (0, 1000)


def test_a_window_is_written_whole_or_not() -> None:
    """It begins where the asked-for time does or before, and ends when that does or before."""
    assert within(Wanted(from_ms=990 * H + 5, until_ms=992 * H + 5)) == (990, 992)
    assert within(Wanted(until_ms=2000 * H)) == (0, 1000)


def test_what_goes_soon_is_what_is_older_than_the_rest_of_its_retention() -> None:
    """Windows of which anything goes within that time, as far as they are over."""
    assert within(Wanted(expiring_within_ms=6 * H)) == (0, 1000 - 72 + 6 + 1)
    assert within(Wanted(expiring_within_ms=72 * H)) == (0, 1000)
    assert within(Wanted(expiring_within_ms=900 * H)) == (0, 1000)


def test_runs_whose_history_is_not_complete_wait() -> None:
    assert within(Wanted(), settled_ms=998 * H + 1) == (0, 998)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)), max_size=12))
def test_progress_tells_nothing_that_was_not_done(spans: list[tuple[int, int]]) -> None:
    """In whatever order: from its beginning to its end, all was."""
    progress = None
    done: set[int] = set()
    for start, length in spans:
        done |= set(range(start, start + length))
        progress = advanced(progress, Window(start, start + length))
        assert set(range(progress.since_ms, progress.through_ms)) <= done


def test_progress_joins_what_touches_it() -> None:
    assert advanced(Progress(5, 2), Window(5, 7)) == Progress(7, 2)
    assert advanced(Progress(5, 2), Window(0, 2)) == Progress(5, 0)
    assert advanced(Progress(5, 2), Window(6, 7)) == Progress(5, 2)


def test_a_gap_is_told() -> None:
    """When the last export was longer ago than things are kept, and this one goes on from there."""
    assert gap(Progress(900 * H), Wanted(), now_ms=NOW, keep_s=72 * 3600) == Gap(900 * H, NOW - 72 * H)
    assert gap(Progress(990 * H), Wanted(), now_ms=NOW, keep_s=72 * 3600) is None
    assert gap(None, Wanted(), now_ms=NOW, keep_s=72 * 3600) is None
    assert gap(Progress(900 * H), Wanted(from_ms=0), now_ms=NOW, keep_s=72 * 3600) is None


@pytest.mark.parametrize("minutes", [1, 5, 60, 24 * 60])
def test_lengths_of_windows_that_make_a_day(minutes: int) -> None:
    assert check_window_ms(minutes * 60_000) == minutes * 60_000


@pytest.mark.parametrize("window_ms", [0, 59_999, 7 * 60_000, 48 * H])
def test_other_lengths_are_refused(window_ms: int) -> None:
    with pytest.raises(ValueError, match="no length of a window"):
        check_window_ms(window_ms)


def test_where_files_are() -> None:
    window = window_at(1_795_411_406_000, H)
    path = path_of("runs", "prod~feature%2Fx", window, ".parquet")
    assert path == "runs/env=prod~feature!2Fx/date=2026-11-23/runs-20261123T050000Z.parquet"
