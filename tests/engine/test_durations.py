"""Durations and instants are read in every form that SDKs and users write."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_engine.durations import (
    DurationError,
    format_duration,
    parse_duration_ms,
    parse_instant_ms,
    parse_retry_after_ms,
    parse_time_or_duration_ms,
)

NOW = 1_795_343_330_232


def at_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1s", 1_000),
        ("5s", 5_000),
        ("10s", 10_000),
        ("30s", 30_000),
        ("60s", 60_000),
        ("1m", 60_000),
        ("1min", 60_000),
        ("1 min", 60_000),
        ("5m", 300_000),
        ("5 minutes", 300_000),
        ("10m", 600_000),
        ("15m", 900_000),
        ("30m", 1_800_000),
        ("30 minutes", 1_800_000),
        ("45m", 2_700_000),
        ("1h", 3_600_000),
        ("1 hour", 3_600_000),
        ("1h ", 3_600_000),
        ("2 hours", 7_200_000),
        ("3 hours", 10_800_000),
        ("4h", 14_400_000),
        ("4 hours", 14_400_000),
        ("18h30m", 66_600_000),
        ("24h", 86_400_000),
        ("1d", 86_400_000),
        ("1 day", 86_400_000),
        ("2d", 172_800_000),
        ("2.5d", 216_000_000),
        ("2d12h", 216_000_000),
        ("3d", 259_200_000),
        ("3 days", 259_200_000),
        ("7d", 604_800_000),
        ("1w", 604_800_000),
        ("2 weeks", 1_209_600_000),
        ("30d", 2_592_000_000),
        ("4w2d", 2_592_000_000),
        ("300ms", 300),
        ("2h45m", 9_900_000),
        ("1h 30m", 5_400_000),
        (" 1 H 30 Min ", 5_400_000),
        (".5s", 500),
        ("1.s", 1_000),
        ("1500us", 1),
        ("999µs", 0),
        ("2000000ns", 2),
        ("0.1s0.2s", 300),
        ("0s", 0),
    ],
)
def test_duration_texts_are_read_in_milliseconds(text: str, ms: int) -> None:
    assert parse_duration_ms(text) == ms


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "an empty text is no duration: write a number and a unit"),
        ("   ", "an empty text is no duration"),
        ("60", "60 has no unit"),
        ("1h30", "30 has no unit"),
        ("-5m", "is negative"),
        ("5 parsecs", "unknown unit 'parsecs'"),
        ("1y", "unknown unit 'y'"),
        ("PT1H", "'PT1H' is no duration"),
        ("h", "'h' is no duration"),
        ("1h,30m", "no duration"),
        ("1..5s", "no duration"),
        ("٣s", "no duration"),
        ("9" * 99 + "w", "is too long"),
        ("1s" * 51, "100 characters at most"),
    ],
)
def test_what_is_no_duration_says_what_would_be(text: str, says: str) -> None:
    with pytest.raises(DurationError) as raised:
        parse_duration_ms(text)
    assert says in str(raised.value)


@given(st.integers(min_value=0, max_value=2**53 - 1))
def test_a_formatted_duration_reads_back_as_itself(ms: int) -> None:
    assert parse_duration_ms(format_duration(ms)) == ms


@given(st.text(max_size=30))
def test_any_text_is_a_duration_or_a_duration_error(text: str) -> None:
    try:
        length = parse_duration_ms(text)
    except DurationError:
        return
    assert length >= 0


@given(st.lists(st.tuples(st.integers(0, 99), st.sampled_from(["w", "d", "h", "m", "s", "ms"])), min_size=1))
def test_the_terms_of_a_compound_add_up(terms: list[tuple[int, str]]) -> None:
    terms = terms[:10]
    whole = "".join(f"{count}{unit}" for count, unit in terms)
    assert parse_duration_ms(whole) == sum(parse_duration_ms(f"{count}{unit}") for count, unit in terms)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0s"),
        (500, "500ms"),
        (216_000_000, "2d12h"),
        (5_400_000, "1h30m"),
        (604_800_000, "7d"),
        (61_001, "1m1s1ms"),
    ],
)
def test_durations_are_written_in_their_shortest_exact_form(ms: int, text: str) -> None:
    assert format_duration(ms) == text


def test_a_negative_length_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="zero or more"):
        format_duration(-1)


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("2023-02-01T16:30:00", "2023-02-01T16:30:00+00:00"),
        ("2023-04-01T12:30:00", "2023-04-01T12:30:00+00:00"),
        ("2023-09-30T11:59:59", "2023-09-30T11:59:59+00:00"),
        ("2024-01-01", "2024-01-01T00:00:00+00:00"),
        ("2024-01-0109:08:07", "2024-01-01T09:08:07+00:00"),
        ("2024-01-01 09:08", "2024-01-01T09:08:00+00:00"),
        ("2025-05-01T16:00:00+01:00[Europe/London]", "2025-05-01T15:00:00+00:00"),
        ("2025-05-01T16:00:00[Europe/London]", "2025-05-01T15:00:00+00:00"),
        ("2025-05-01T16:00:00+01:00[!Europe/London][u-ca=gregory]", "2025-05-01T15:00:00+00:00"),
        ("2025-05-01T16:00:00[u-ca=gregory]", "2025-05-01T16:00:00+00:00"),
        ("2024-01-21T18:23:12.000Z", "2024-01-21T18:23:12+00:00"),
        ("2024-01-22T14:22:42.130Z", "2024-01-22T14:22:42.130+00:00"),
        ("2024-04-25T14:46:45.337Z", "2024-04-25T14:46:45.337+00:00"),
        ("2024-04-25T14:46:45.337001-0230", "2024-04-25T17:16:45.338+00:00"),
    ],
)
def test_dates_are_due_at_their_instant(text: str, due: str) -> None:
    assert parse_time_or_duration_ms(text, 0) == at_ms(due)
    assert parse_instant_ms(text) == at_ms(due)


def test_an_instant_may_lie_before_all_counting() -> None:
    assert parse_instant_ms("1969-12-31T23:59:59Z") == -1_000


@pytest.mark.parametrize("text", ["", "5m", "tomorrow", "2024-02-30", "1706718600000"])
def test_what_is_no_date_is_no_instant(text: str) -> None:
    with pytest.raises(DurationError, match="is no date"):
        parse_instant_ms(text)


@pytest.mark.parametrize("text", ["2023-02-01T16:30:00", "2024-01-01", "1969-07-20T20:17:40Z"])
def test_a_date_in_the_past_is_due_now(text: str) -> None:
    assert parse_time_or_duration_ms(text, NOW) == NOW


@pytest.mark.parametrize(
    ("text", "ms"), [("1w", 604_800_000), ("30 minutes", 1_800_000), ("18h30m", 66_600_000)]
)
def test_where_a_date_may_stand_a_duration_counts_from_now(text: str, ms: int) -> None:
    assert parse_time_or_duration_ms(text, NOW) == NOW + ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-02-30",
        "2024-01-01T25:00:00Z",
        "2024-01-01T00:00:00[Mars/Olympus]",
        "2024-01-01T00:00:00[..]",
        "tomorrow",
    ],
)
def test_neither_a_date_nor_a_duration_says_what_would_be(text: str) -> None:
    with pytest.raises(DurationError, match="2024-01-31T16:30:00Z"):
        parse_time_or_duration_ms(text, NOW)


@given(st.integers(10**15, 7 * 10**15))
def test_what_python_prints_as_a_date_reads_back_never_early(us: int) -> None:
    date = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
    for text in (date.isoformat(), date.replace(tzinfo=None).isoformat()):
        assert parse_time_or_duration_ms(text, 0) == -(-us // 1000)


@given(st.text(max_size=40), st.integers(0, 2**45))
def test_a_due_instant_is_never_before_now(text: str, now_ms: int) -> None:
    try:
        due = parse_time_or_duration_ms(text, now_ms)
    except DurationError:
        return
    assert due >= now_ms


@pytest.mark.parametrize(
    ("text", "after_ms"),
    [
        ("30", 30_000),
        ("0", 1_000),
        ("-5", 1_000),
        ("9999999", 86_400_000),
        ("99999999999", 86_400_000),
        ("86400", 86_400_000),
    ],
)
def test_retry_after_in_seconds_is_kept_within_a_second_and_a_day(text: str, after_ms: int) -> None:
    assert parse_retry_after_ms(text, NOW) == NOW + after_ms


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T10:30:00Z",
        "2026-11-22T10:30:00+00:00",
        "2026-11-22T11:30:00.000000+01:00",
        "Sun, 22 Nov 2026 10:30:00 GMT",
        "Sun, 22 Nov 2026 11:30:00 +0100",
        "Sunday, 22-Nov-26 10:30:00 GMT",
        "Sun Nov 22 10:30:00 2026",
    ],
)
def test_retry_after_as_a_date_is_that_instant(text: str) -> None:
    now = at_ms("2026-11-22T10:00:00+00:00")
    assert parse_retry_after_ms(text, now) == at_ms("2026-11-22T10:30:00+00:00")


@pytest.mark.parametrize(
    "text", ["", "soon", "1.5", "2026-02-30T00:00:00Z", "99999-01-01", "Sun, 99 Nov 2026"]
)
def test_an_odd_retry_after_is_none(text: str) -> None:
    assert parse_retry_after_ms(text, NOW) is None


def test_a_date_long_ago_or_far_ahead_is_brought_within_bounds() -> None:
    assert parse_retry_after_ms("2001-01-01T00:00:00Z", NOW) == NOW + 1_000
    assert (
        parse_retry_after_ms(format_datetime(datetime(2199, 1, 1, tzinfo=UTC), usegmt=True), NOW)
        == NOW + 86_400_000
    )


@given(st.text(max_size=40))
def test_any_retry_after_is_none_or_within_bounds(text: str) -> None:
    due = parse_retry_after_ms(text, NOW)
    assert due is None or NOW + 1_000 <= due <= NOW + 86_400_000
