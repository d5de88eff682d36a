"""All time zones against a reckoning by minutes; patterns, zones and moments at random."""

import zoneinfo
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from streamq.core.cron import FIELDS as RANGES
from streamq.core.cron import cron_pattern
from streamq.errors import ConfigError
from streamq.schedule import crontab
from tests.calendars import HOUR, MINUTE, PATTERNS, SECOND, changes, differences, offset

NAMES = sorted(zoneinfo.available_timezones())
BEGIN = datetime(2026, 12, 1, tzinfo=UTC)

#: Changes that were unlike others: days that never were, changes of odd lengths, four in a year.
ODD = [
    ("Pacific/Apia", "2011-12-01", 1),
    ("Pacific/Kwajalein", "1993-08-01", 1),
    ("Pacific/Kiritimati", "1994-12-01", 1),
    ("Pacific/Fakaofo", "2011-12-01", 1),
    ("Africa/Casablanca", "2012-01-01", 8),
    ("Africa/Cairo", "2010-01-01", 4),
    ("Africa/Cairo", "2014-01-01", 4),
    ("Asia/Pyongyang", "2015-08-01", 1),
    ("Asia/Pyongyang", "2018-05-01", 1),
    ("America/Caracas", "2007-12-01", 1),
    ("America/Caracas", "2016-04-01", 1),
    ("Asia/Kathmandu", "1985-12-01", 1),
    ("Antarctica/Casey", "2009-10-01", 2),
    ("Australia/Lord_Howe", "1981-02-01", 4),
    ("Asia/Gaza", "2010-01-01", 4),
    ("Africa/Juba", "2021-01-01", 1),
]


@pytest.mark.parametrize("name", NAMES)
def test_the_next_two_changes_of_every_zone(name):
    zone = zoneinfo.ZoneInfo(name)

    for change in list(changes(zone, BEGIN, 2)) or [BEGIN]:
        for text, pattern in PATTERNS.items():
            wrong = differences(pattern, zone, change, 4 * HOUR)
            assert not wrong, f"{text} around {change}"


@pytest.mark.parametrize(("name", "begin", "count"), ODD)
def test_changes_that_were_odd(name, begin, count):
    zone = zoneinfo.ZoneInfo(name)
    found = list(changes(zone, datetime.fromisoformat(begin).replace(tzinfo=UTC), count))

    assert len(found) == count
    for change in found:
        for text, pattern in PATTERNS.items():
            wrong = differences(pattern, zone, change, 30 * HOUR)
            assert not wrong, f"{text} around {change}"


# At random


def elements(first, last):
    """Elements of a field: a number, a range, a range with steps."""
    numbers = st.integers(first, last)
    ranges = st.tuples(numbers, numbers).map(lambda ends: "{}-{}".format(*sorted(ends)))
    stepped = st.tuples(ranges, st.integers(1, 7)).map(lambda parts: "{}/{}".format(*parts))
    return st.one_of(numbers.map(str), ranges, stepped)


def fields(first, last):
    """Fields of a pattern: all, each so many, some."""
    listed = st.lists(elements(first, last), min_size=1, max_size=3).map(",".join)
    steps = st.integers(2, last - first).map("*/{}".format)
    return st.one_of(st.just("*"), steps, listed)


TIMES = [fields(0, 59), fields(0, 23)]
DAYS = [
    st.just("*") | fields(1, 31), st.just("*") | fields(1, 12), st.just("*") | fields(0, 6)
]  # fmt: skip
FIVE = st.tuples(*TIMES, *DAYS).map(" ".join)
SIX = st.tuples(fields(0, 59), *TIMES, *DAYS).map(" ".join)
CRONTABS = st.fixed_dictionaries({name: fields(*range_[:2]) for name, range_ in RANGES.items()})

#: What each example of a zone and a moment is compared for: it is walked through once.
SEVERAL = {"min_size": 4, "max_size": 8}
SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much]


@st.composite
def moments(draw):
    """A zone, and a moment: mostly at a change of its clocks, to the minute."""
    zone = zoneinfo.ZoneInfo(draw(st.sampled_from(NAMES)))
    begin = datetime(1900, 1, 1, tzinfo=UTC) + timedelta(days=draw(st.integers(0, 145 * 365)))
    moment = next(changes(zone, begin, 1), begin)
    return zone, moment + draw(st.just(0) | st.integers(-3000, 3000)) * MINUTE


def pattern_of(fields):
    """The pattern of a cron text, or of a crontab; None if it never matches."""
    try:
        return cron_pattern(fields) if isinstance(fields, str) else crontab(**fields).pattern
    except ConfigError:
        return None


@settings(max_examples=1000, deadline=None, suppress_health_check=SLOW)
@given(moments(), st.lists(FIVE | CRONTABS, **SEVERAL))
def test_patterns_at_random(where, many):
    zone, moment = where
    assume(all(not offset(moment + hours * HOUR, zone) % MINUTE for hours in range(-60, 31, 6)))

    for each in many:
        pattern = pattern_of(each)
        wrong = pattern and differences(pattern, zone, moment, 4 * HOUR)
        assert not wrong, f"{each} in {zone} around {moment}"


@settings(max_examples=200, deadline=None, suppress_health_check=SLOW)
@given(moments(), st.lists(SIX, **SEVERAL))
def test_patterns_of_seconds_at_random(where, many):
    """Also of zones whose time was local mean time, to the second."""
    zone, moment = where

    for each in many:
        pattern = pattern_of(each)
        wrong = pattern and differences(pattern, zone, moment, HOUR, SECOND)
        assert not wrong, f"{each} in {zone} around {moment}"
