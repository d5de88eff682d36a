"""Schedules as values: their next moments, also where clocks change, and mistakes."""

import zoneinfo
from datetime import UTC, datetime, timedelta

import pytest

from streamq.errors import ConfigError
from streamq.schedule import When, at, cron, crontab, every
from tests.calendars import PATTERNS, changes, differences

ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "America/Santiago",
    "Africa/Cairo",
    "Antarctica/Troll",
    "America/St_Johns",
    "Pacific/Chatham",
    "Asia/Jerusalem",
]
BEGIN = datetime(2026, 12, 1, tzinfo=UTC)


def moments(when, start, count):
    """The next moments of a schedule, as text."""
    found = []
    for _ in range(count):
        start = when.next_after(start)
        found.append(start.isoformat())
    return found


@pytest.mark.parametrize("name", ZONES)
def test_changes_of_clocks_agree_with_a_reckoning_by_minutes(name):
    zone = zoneinfo.ZoneInfo(name)
    for change in list(changes(zone, BEGIN, 2)) or [BEGIN]:  # Kathmandu has none
        for text, pattern in PATTERNS.items():
            wrong = differences(pattern, zone, change, timedelta(hours=4))
            assert not wrong, f"{text} in {name} around {change}"


def test_a_day_that_never_was():
    """Samoa had no 30 December 2011: what was to run on it runs right after the gap."""
    zone = zoneinfo.ZoneInfo("Pacific/Apia")
    (change,) = changes(zone, datetime(2011, 12, 1, tzinfo=UTC), 1)

    for text, pattern in PATTERNS.items():
        assert not differences(pattern, zone, change, timedelta(hours=30)), text

    when = cron("30 2 30 12 *", "Pacific/Apia")
    assert moments(when, datetime(2011, 12, 1, tzinfo=UTC), 1) == ["2011-12-31T00:00:00+14:00"]


def test_a_fixed_time_runs_after_the_gap_and_once_in_the_repeated_hour():
    when = cron("30 2 * * *", tz="Europe/Berlin")

    assert moments(when, datetime(2027, 3, 27, 12, tzinfo=UTC), 2) == [
        "2027-03-28T03:00:00+02:00",
        "2027-03-29T02:30:00+02:00",
    ]
    assert moments(when, datetime(2026, 10, 24, 12, tzinfo=UTC), 2) == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-26T02:30:00+01:00",
    ]


def test_half_an_hour_of_lord_howe():
    """Its clocks change by half an hour at 02:00, back from it and forward to it."""
    zone = "Australia/Lord_Howe"

    def local(when, start, count):
        return [each[11:16] + each[-6:] for each in moments(when, start, count)]

    spring, autumn = datetime(2027, 10, 2, 13, tzinfo=UTC), datetime(2027, 4, 3, 13, tzinfo=UTC)
    for when in (cron("0 */6 * * *", zone), crontab(0, "*/6", tz=zone)):
        assert local(when, spring, 3) == ["00:00+10:30", "06:00+11:00", "12:00+11:00"]
        assert local(when, autumn, 3) == ["06:00+10:30", "12:00+10:30", "18:00+10:30"]
    for when in (cron("*/10 3 * * *", zone), crontab("*/10", 3, tz=zone)):
        six = [f"03:{minute:02}" for minute in range(0, 60, 10)]
        assert local(when, spring, 6) == [f"{each}+11:00" for each in six]
        assert local(when, autumn, 6) == [f"{each}+10:30" for each in six]
    for when in (cron("15,45 1-2 * * *", zone), crontab("15,45", "1-2", tz=zone)):
        assert local(when, spring, 4) == [
            "01:15+10:30",
            "01:45+10:30",
            "02:30+11:00",
            "02:45+11:00",
        ]
        assert local(when, autumn, 5)[:4] == [
            *("01:15+11:00", "01:45+11:00", "02:15+10:30", "02:45+10:30"),
        ]


def test_a_wildcard_runs_in_real_time():
    when = crontab(minute="*/30", tz="Europe/Berlin")

    assert moments(when, datetime(2026, 10, 25, 0, 0, tzinfo=UTC), 4) == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-25T02:00:00+01:00",
        "2026-10-25T02:30:00+01:00",
        "2026-10-25T03:00:00+01:00",
    ]


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (cron("0 0 13 * fri"), ["2026-12-04", "2026-12-11", "2026-12-13"]),  # one of them
        (crontab(0, 0, day_of_month=13, day_of_week="fri"), ["2027-08-13", "2028-10-13"]),  # both
        (cron("0 0 L * *"), ["2026-12-31", "2027-01-31", "2027-02-28"]),
        (cron("0 0 29 2 *"), ["2028-02-29", "2032-02-29"]),
        (crontab(0, 0, day_of_week="sat-mon"), ["2026-12-05", "2026-12-06", "2026-12-07"]),
        (crontab(0, 0, day_of_month=29, month_of_year=2, day_of_week=1), ["2044-02-29"]),
        (cron("@monthly"), ["2027-01-01", "2027-02-01"]),
        (every(timedelta(days=7)), ["2026-12-03", "2026-12-10"]),
        (at("2027-01-01"), ["2027-01-01"]),
    ],
    ids=str,
)
def test_days(when, expected):
    assert isinstance(when, When)
    assert [each[:10] for each in moments(when, BEGIN, len(expected))] == expected


def test_seconds_minutes_and_hours():
    assert moments(cron("*/20 59 23 * * *"), BEGIN, 4)[1:] == [
        "2026-12-01T23:59:20+00:00",
        "2026-12-01T23:59:40+00:00",
        "2026-12-02T23:59:00+00:00",
    ]
    assert moments(crontab("0,30", {8, 20}), BEGIN, 3) == [
        "2026-12-01T08:00:00+00:00",
        "2026-12-01T08:30:00+00:00",
        "2026-12-01T20:00:00+00:00",
    ]
    assert moments(crontab(minute=0, hour="22-2/2"), BEGIN, 3)[:2] == [
        "2026-12-01T02:00:00+00:00",
        "2026-12-01T22:00:00+00:00",
    ]
    assert moments(every("250ms"), BEGIN, 1) == ["2026-12-01T00:00:00.250000+00:00"]


def test_a_moment_in_the_past_has_no_next():
    assert at("2020-01-01").next_after(BEGIN) is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: cron("0 0 30 2 *"), "never matches: there is no such date"),
        (lambda: cron("0 0 31 2,4 *"), "never matches: there is no such date"),
        (lambda: cron("0 0 32 2 *"), "cannot be read: day-of-month"),
        (lambda: crontab(day_of_month=31, month_of_year="2,4"), "never matches"),
        (lambda: cron("61 * * * *"), "cannot be read: minute"),
        (lambda: cron("* * *"), "has 3 fields, not 5 or 6"),
        (lambda: cron("@reboot"), "is no alias"),
        (lambda: cron("@hourl"), "did you mean @hourly"),
        (lambda: cron(5), "cron needs a text"),
        (lambda: crontab(second=5), "cron of six fields|of six fields"),
        (lambda: crontab(minuet=5), "did you mean minute"),
        (lambda: crontab(minute="70"), "minute='70'"),
        (lambda: crontab(hour="*/0"), "hour='\\*/0'"),
        (lambda: cron("* * * * *", tz="Europe/Berlim"), "did you mean Europe/Berlin"),
        (lambda: every("soon"), "every is not a duration"),
        (lambda: every(0.01), "too often"),
        (lambda: at("tomorrow"), "at: 'tomorrow' is no moment"),
        (lambda: at("2027-02-30"), "at: '2027-02-30' is no moment"),
        (lambda: at(20270230), "at: 20270230 is no moment"),
        (lambda: at("9999-12-31T23:59", "America/New_York"), "is no moment"),
    ],
)
def test_mistakes_are_named_when_a_schedule_is_made(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


@pytest.mark.parametrize("when", [every("30s"), cron("0 4 * * *"), crontab(minute=0)])
def test_nothing_comes_after_the_end_of_the_calendar(when):
    zone = zoneinfo.ZoneInfo("America/New_York")

    assert when.next_after(datetime.max.replace(tzinfo=zone)) is None
    assert when.next_after(datetime.max.replace(tzinfo=UTC)) is None


def test_equal_schedules_are_equal_and_say_what_they_are():
    assert cron("0  2 * * *") == cron("0 2 * * *") != cron("0 2 * * *", "Europe/Berlin")
    assert crontab(minute=5) == crontab(minute="5") != crontab(minute=6)
    assert every(90) == every("1m30s")
    assert repr(crontab(5, day_of_week="mon")) == "crontab(minute='5', day_of_week='mon')"


@pytest.mark.parametrize(
    ("when", "words"),
    [
        (every(90), "Every 1m30s"),
        (cron("30 2 * * *"), "At 02:30 every day"),
        (crontab(0, 8, "mon"), "At 08:00 on Monday"),
        (
            crontab(0, 8, "mon", 3),
            "At 08:00 on the third day of every month if it's on Monday",
        ),
        (crontab(0, 0, "sat-mon"), "At 00:00 on Sunday, Monday, and Saturday"),
        (
            crontab("*/15", "22-2", "fri-sun", "1-7"),
            "Every 15th minute past hours 0, 1, 2, 22, and 23 on every day of month from 1 "
            "through 7 if it's on Sunday, Friday, and Saturday",
        ),
    ],
)
def test_moments_can_be_said_in_words(when, words):
    assert when.words == words
