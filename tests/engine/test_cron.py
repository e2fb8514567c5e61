"""Cron lines fire once per slot, whatever the clocks of their zone do."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innkeeper_engine.cron import CronError, CronLine, jitter_ms

DAY_MS = 86_400_000
# 2020 to 2032.
INSTANTS = st.integers(1_577_836_800_000, 1_956_528_000_000)

# Half-hour shifts, shifts at midnight, both hemispheres, none at all.
ZONES = ["UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "America/St_Johns"]


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def fired(line: str, after: str, until: str) -> list[str]:
    """The slots as UTC texts, walked one by one."""
    cron, slots, at = CronLine.parse(line), [], ms(after)
    while (at := cron.next_after_ms(at)) <= ms(until):
        slots.append(datetime.fromtimestamp(at / 1000, UTC).strftime("%m-%d %H:%M:%S").removesuffix(":00"))
    return slots


@st.composite
def lines(draw: st.DrawFn) -> str:
    def field(low: int, high: int) -> str:
        number = st.integers(low, high)
        return draw(
            st.one_of(
                st.just("*"),
                number.map(str),
                st.integers(2, high).map(lambda step: f"*/{step}"),
                st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}"),
                st.lists(number, min_size=2, max_size=3).map(lambda many: ",".join(map(str, many))),
            )
        )

    seconds = field(0, 59) + " " if draw(st.booleans()) else ""
    days = draw(st.sampled_from(["* *", "* 1-5", "1,15 *", "13 5", "L *", "* 7", "? MON"]))
    dom, dow = days.split()
    zone = draw(st.sampled_from(ZONES))
    month = draw(st.sampled_from(["*", "3,10", "JAN-JUN"]))
    return f"TZ={zone} {seconds}{field(0, 59)} {field(0, 23)} {dom} {month} {dow}"


@pytest.mark.parametrize(
    ("line", "after", "slots"),
    [
        ("0 9 * * MON", "2026-11-22T00:00Z", ["11-23 09:00", "11-30 09:00"]),
        ("0 12 * * 5", "2026-11-22T00:00Z", ["11-27 12:00"]),
        ("TZ=Europe/Paris 0 12 * * 5", "2026-11-22T00:00Z", ["11-27 11:00"]),
        ("CRON_TZ=Europe/Paris 0 12 * * 5", "2026-11-22T00:00Z", ["11-27 11:00"]),
        ("0 8 * * 1-5", "2026-11-26T00:00Z", ["11-26 08:00", "11-27 08:00", "11-30 08:00"]),
        ("0 5 * * *", "2026-11-28T00:00Z", ["11-28 05:00", "11-29 05:00", "11-30 05:00"]),
        ("* * * * *", "2026-11-30T23:57:30Z", ["11-30 23:58", "11-30 23:59"]),
        ("*/20 * * * * *", "2026-11-30T23:59:00Z", ["11-30 23:59:20", "11-30 23:59:40"]),
        ("30 15 10 * * *", "2026-11-29T10:15:30Z", ["11-30 10:15:30"]),
        ("0 0 ? * 7", "2026-11-22T00:00Z", ["11-29"]),
        ("0 0 29 * 1", "2026-11-22T00:00Z", ["11-23", "11-29", "11-30"]),
        (
            "15,45 6-8/2 L * *",
            "2026-11-22T00:00Z",
            ["11-30 06:15", "11-30 06:45", "11-30 08:15", "11-30 08:45"],
        ),
    ],
)
def test_a_line_fires_at_the_times_it_names(line: str, after: str, slots: list[str]) -> None:
    expected = [slot if " " in slot else f"{slot} 00:00" for slot in slots]
    assert fired(line, after, "2026-11-30T23:59:59Z") == expected


SPRING = ("2026-03-28T22:30Z", "2026-03-29T03:00Z")  # Paris skips 02:00 to 03:00 on 29 March, at 01:00 UTC
AUTUMN = (
    "2026-10-24T22:30Z",
    "2026-10-25T03:00Z",
)  # and repeats 02:00 to 03:00 on 25 October, from 01:00 UTC


@pytest.mark.parametrize(
    ("fields", "spring", "autumn"),
    [
        # A fixed time that is skipped fires when the gap ends; one that comes twice, the first time.
        ("30 2 * * *", ["03-29 01:00"], ["10-25 00:30"]),
        ("0 30 2 * * *", ["03-29 01:00"], ["10-25 00:30"]),
        ("0 2 * * *", ["03-29 01:00"], ["10-25 00:00"]),
        ("0 3 * * *", ["03-29 01:00"], ["10-25 02:00"]),
        # What falls together fires once.
        (
            "0,30 2,3 * * *",
            ["03-29 01:00", "03-29 01:30"],
            ["10-25 00:00", "10-25 00:30", "10-25 02:00", "10-25 02:30"],
        ),
        # Lines with a star in minutes or hours count real time.
        (
            "0 * * * *",
            ["03-28 23:00", "03-29 00:00", "03-29 01:00", "03-29 02:00", "03-29 03:00"],
            ["10-24 23:00", "10-25 00:00", "10-25 01:00", "10-25 02:00", "10-25 03:00"],
        ),
        (
            "*/30 * * * *",
            [f"03-28 23:{m}" for m in ("00", "30")]
            + [f"03-29 0{h}:{m}" for h in (0, 1, 2) for m in ("00", "30")]
            + ["03-29 03:00"],
            [f"10-24 23:{m}" for m in ("00", "30")]
            + [f"10-25 0{h}:{m}" for h in (0, 1, 2) for m in ("00", "30")]
            + ["10-25 03:00"],
        ),
        ("*/30 2 * * *", [], ["10-25 00:00", "10-25 00:30", "10-25 01:00", "10-25 01:30"]),
    ],
)
def test_daylight_saving_in_paris(fields: str, spring: list[str], autumn: list[str]) -> None:
    assert fired(f"TZ=Europe/Paris {fields}", *SPRING) == spring
    assert fired(f"TZ=Europe/Paris {fields}", *AUTUMN) == autumn


def test_from_within_the_repeated_hour_a_fixed_time_does_not_come_again() -> None:
    # 02:15 in Paris for the second time; 02:30 had its turn an hour ago.
    assert fired("TZ=Europe/Paris 30 2 * * *", "2026-10-25T01:15Z", "2026-10-26T12:00Z") == ["10-26 01:30"]


@pytest.mark.parametrize("zone", [zone for zone in ZONES if zone != "UTC"])
@pytest.mark.parametrize(
    "fields", ["*/15 * * * *", "20 * * * *", "*/10 0-2 * * *", "5 */2 * * *", "*/30 1 * * 5-7"]
)
def test_lines_that_count_real_time_fire_exactly_where_the_wall_clock_matches(zone: str, fields: str) -> None:
    """Compared with the definition, minute by minute over every change of the clocks in a year."""
    info = ZoneInfo(zone)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    changes = [
        day
        for day in (start + timedelta(days=n) for n in range(365))
        if day.astimezone(info).utcoffset() != (day + timedelta(days=1)).astimezone(info).utcoffset()
    ]
    assert changes
    plain = CronLine.parse(fields)
    cron = CronLine.parse(f"TZ={zone} {fields}")
    for day in changes:
        first, last = day - timedelta(hours=12), day + timedelta(hours=36)
        # The line matches a wall-clock time if, read as UTC, that time is a slot of it.
        margin_ms = DAY_MS
        matching, at = set(), round(first.timestamp() * 1000) - margin_ms
        while (at := plain.next_after_ms(at)) <= round(last.timestamp() * 1000) + margin_ms:
            matching.add(at)
        expected = []
        for minute_ms in range(round(first.timestamp() * 1000), round(last.timestamp() * 1000) + 1, 60_000):
            minute = datetime.fromtimestamp(minute_ms / 1000, info)
            if minute_ms + round((minute.utcoffset() or timedelta()).total_seconds() * 1000) in matching:
                expected.append(minute_ms)
        found, at = [], round(first.timestamp() * 1000) - 1
        while (at := cron.next_after_ms(at)) <= round(last.timestamp() * 1000):
            found.append(at)
        assert found == expected


@pytest.mark.parametrize("zone", [zone for zone in ZONES if zone != "UTC"])
@pytest.mark.parametrize("time", ["0 0", "30 0", "15 1", "0 2", "30 2", "45 2", "0 3"])
def test_a_daily_line_fires_once_for_every_day_of_the_year(zone: str, time: str) -> None:
    slots = CronLine.parse(f"TZ={zone} {time} * * *").slots_between(
        ms("2026-01-01T12:00Z"), ms("2026-12-31T12:00Z"), 400
    )
    days = [datetime.fromtimestamp(slot / 1000, ZoneInfo(zone)).date() for slot in slots]
    assert len(days) in (364, 365)
    assert all(later - earlier == timedelta(days=1) for earlier, later in pairwise(days))


@given(lines(), INSTANTS)
@settings(deadline=None)
def test_the_next_slot_is_later_and_the_same_from_anywhere_before_it(line: str, at: int) -> None:
    cron = CronLine.parse(line)
    slot = cron.next_after_ms(at)
    assert slot > at
    assert slot % 1000 == 0
    for between in {at, at + (slot - at) // 3, at + (slot - at) // 2, slot - 1}:
        assert cron.next_after_ms(between) == slot
    assert cron.next_after_ms(slot) > slot


@given(lines(), INSTANTS, st.integers(0, 400 * DAY_MS), st.integers(1, 20))
@settings(deadline=None, max_examples=50)
def test_missed_slots_are_the_last_ones_in_order(line: str, after: int, span: int, limit: int) -> None:
    cron = CronLine.parse(line)
    slots = cron.slots_between(after, after + span, limit)
    assert len(slots) <= limit
    assert all(after < slot <= after + span for slot in slots)
    # Nothing lies between them, nor after the last; fewer than the limit means all.
    edges = [*slots] if len(slots) == limit else [after, *slots]
    for earlier, later in pairwise(edges):
        assert cron.next_after_ms(earlier) == later
    assert cron.next_after_ms(edges[-1]) > after + span


def test_missed_slots_of_a_busy_line_cost_no_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten years of seconds, and a burst of seconds on one day of a year."""
    calls = 0
    one_by_one = CronLine.next_after_ms

    def counted(self: CronLine, at_ms: int) -> int:
        nonlocal calls
        calls += 1
        return one_by_one(self, at_ms)

    monkeypatch.setattr(CronLine, "next_after_ms", counted)
    until = ms("2030-12-31T00:00Z")
    assert CronLine.parse("* * * * * *").slots_between(0, until, 3) == (until - 2000, until - 1000, until)
    burst = CronLine.parse("* * * 1 1 *").slots_between(0, until, 3)
    assert burst == tuple(ms(f"2030-01-01T23:59:5{second}Z") for second in (7, 8, 9))
    assert calls < 1000


def test_no_slots_lie_in_an_empty_span() -> None:
    cron = CronLine.parse("* * * * *")
    assert cron.slots_between(60_000, 60_000, 10) == ()
    assert cron.slots_between(0, 60_000, 0) == ()
    assert cron.slots_between(0, 60_000, 10) == (60_000,)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("* * *", "has 3 fields, a cron line has five"),
        ("", "has 0 fields"),
        ("TZ=Europe/Paris", "has 0 fields"),
        ("0 0 0 1 1 * 2026", "has 7 fields"),
        ("@daily", "instead of @daily write the fields, for example 0 0 * * *"),
        ("TZ=Europe/Paris @hourly", "instead of @hourly write the fields, for example 0 * * * *"),
        ("@every 5m", "'@every 5m' is not accepted"),
        ("60 * * * *", "'60' is no minute; write 0 to 59"),
        ("* 24 * * *", "'24' is no hour"),
        ("* * 0 * *", "'0' is no day of month"),
        ("* * * 13 *", "'13' is no month"),
        ("* * * * 8", "'8' is no day of week"),
        ("* * * * MUN", "'MUN' is no day of week"),
        ("61 * * * * *", "'61' is no second"),
        ("*/0 * * * *", "'*/0' is no minute"),
        ("5-1 * * * *", "'5-1' is no minute"),
        ("? * * * *", "'?' is no minute"),
        ("0 0 30 2 *", "never fires"),
        ("0 0 31 4,6 *", "never fires"),
        ("TZ=Mars/Olympus 0 0 * * *", "no time zone 'Mars/Olympus'"),
        ("TZ=Europe 0 0 * * *", "no time zone 'Europe'"),
        ("TZ=../etc/passwd 0 0 * * *", "no time zone '../etc/passwd'"),
        ("TZ= 0 0 * * *", "no time zone ''"),
        ("0 " + "0," * 130 + "0 * * *", "255 characters at most"),
        ("cron.5_minutes", "has 1 field,"),
    ],
)
def test_what_is_no_cron_line_says_what_would_be(line: str, says: str) -> None:
    with pytest.raises(CronError) as raised:
        CronLine.parse(line)
    assert says in str(raised.value)


@given(st.one_of(st.text(max_size=40), st.text(alphabet="0123456789*/-,#LW? TZ=", max_size=40)))
def test_any_text_is_a_cron_line_or_a_cron_error(text: str) -> None:
    try:
        line = CronLine.parse(text)
    except CronError:
        return
    assert line.next_after_ms(0) > 0


def test_the_29th_of_february_is_waited_for() -> None:
    assert CronLine.parse("0 0 29 2 *").next_after_ms(ms("2024-03-01T00:00Z")) == ms("2028-02-29T00:00Z")


def test_an_instant_beyond_the_calendar_is_a_cron_error() -> None:
    for line in ("0 0 * * *", "TZ=Europe/Paris 0 0 * * *", "TZ=Europe/Paris * * * * *"):
        with pytest.raises(CronError, match="no slot"):
            CronLine.parse(line).next_after_ms(ms("9999-12-31T23:59:59+00:00"))


@given(st.text(max_size=20), INSTANTS, st.integers(0, 300_000))
def test_jitter_is_within_its_bound_and_always_the_same(slug: str, slot: int, bound: int) -> None:
    assert 0 <= jitter_ms(slug, slot, bound) <= bound
    assert jitter_ms(slug, slot, bound) == jitter_ms(slug, slot, bound)


def test_jitter_spreads_functions_and_slots() -> None:
    assert len({jitter_ms("app-fn", slot * 60_000, 10_000) for slot in range(100)}) > 90
    assert len({jitter_ms(f"app-{n}", 0, 10_000) for n in range(100)}) > 90
    assert jitter_ms("app-fn", 0, 0) == 0
