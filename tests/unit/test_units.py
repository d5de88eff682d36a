"""Durations, sizes and the other things people write."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamq.core import text, units
from streamq.errors import ConfigError
from tests.faults import MALFORMED


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (30, 30.0),
        (0.25, 0.25),
        (0, 0.0),
        (timedelta(minutes=2), 120.0),
        ("30", 30.0),
        ("1.5", 1.5),
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h30m", 5_400.0),
        (" 1 h 30 m ", 5_400.0),
        ("2d", 172_800.0),
        ("1w", 604_800.0),
        ("250ms", 0.25),
        ("1100ms", 1.1),
        ("1.1s", 1.1),
        ("5M", 300.0),
    ],
)
def test_a_duration_may_be_written_in_many_ways(written, meant):
    assert units.seconds(written, "lease") == meant


@pytest.mark.parametrize(
    "written",
    [
        True,
        -1,
        -0.001,
        float("nan"),
        float("inf"),
        10**400,
        timedelta(seconds=-1),
        None,
        [],
        "",
        " ",
        "soon",
        "-5s",
        "5 parsecs",
        "30m1h",
        "1h30",
        "1e3",
        "٣s",
        "9" * 400 + "s",
    ],
)
def test_what_is_no_duration_is_refused_with_examples(written):
    with pytest.raises(ConfigError) as refused:
        units.seconds(written, "lease")

    assert str(refused.value).startswith("lease is not a duration: ")
    assert '"1h30m"' in str(refused.value)


@settings(max_examples=50)
@given(st.integers(0, 10**9))
def test_milliseconds_as_text_are_the_nearest_float(count):
    assert units.seconds(f"{count}ms", "lease") == count / 1000


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (1_048_576, 1_048_576),
        (0, 0),
        ("512", 512),
        ("512B", 512),
        ("16 KiB", 16_384),
        ("16kb", 16_384),
        ("1.5KB", 1_536),
        ("300MB", 314_572_800),
        ("1MiB", 1_048_576),
        ("2GB", 2_147_483_648),
        ("1TiB", 1_099_511_627_776),
    ],
)
def test_a_size_may_be_written_in_many_ways(written, meant):
    assert units.size(written, "message_limit") == meant


@pytest.mark.parametrize(
    "written", [True, -1, 1.5, None, "", "big", "-1MB", "1 iB", "10m", "1MBB", "9" * 500, 2**53 + 1]
)
def test_what_is_no_size_is_refused_with_examples(written):
    with pytest.raises(ConfigError, match="message_limit is not a size: ") as refused:
        units.size(written, "message_limit")

    assert '"300MB"' in str(refused.value)


def test_a_whole_number_keeps_to_its_bounds():
    assert units.whole(" 3 ", "concurrency", least=1) == 3
    assert units.whole(9, "priority", most=9) == 9

    with pytest.raises(ConfigError, match=r"priority must be a whole number, from 0 to 9: 10"):
        units.whole(10, "priority", most=9)
    with pytest.raises(ConfigError, match=r"concurrency must be a whole number, at least 1: '0'"):
        units.whole("0", "concurrency", least=1)


@pytest.mark.parametrize("written", [True, 3.0, "three", "3.0", "", None, "9" * 5_000])
def test_what_is_no_whole_number_is_refused(written):
    with pytest.raises(ConfigError, match="concurrency must be a whole number"):
        units.whole(written, "concurrency")


def test_truth_has_several_words():
    assert [units.truth(word, "x") for word in (True, "yes", "ON", "1", " true ")] == [True] * 5
    assert [units.truth(word, "x") for word in (False, "no", "Off", "0", "false")] == [False] * 5

    for written in (1, 0, "maybe", "", None):
        with pytest.raises(ConfigError, match="acks_late must be true or false"):
            units.truth(written, "acks_late")


def test_a_list_may_be_one_text_with_commas():
    assert units.texts("json, pickle,", "accept_content") == ("json", "pickle")
    assert units.texts(["json", "pickle"], "accept_content") == ("json", "pickle")
    assert units.texts({"pickle", "json"}, "accept_content") == ("json", "pickle")
    assert units.texts("", "accept_content") == ()

    for written in (3, None, ["json", 3], ["json", ""], b"json"):
        with pytest.raises(ConfigError, match="accept_content must be"):
            units.texts(written, "accept_content")


def test_a_misspelt_choice_gets_a_suggestion():
    assert units.choice(" INFO ", "log_level", ("debug", "info")) == "info"

    with pytest.raises(ConfigError, match=r"one of debug, info: 'inof'\n  → did you mean 'info'\?"):
        units.choice("inof", "log_level", ("debug", "info"))


def test_the_nearest_name_is_found_only_if_it_is_near():
    assert text.nearest("concurency", ["pool", "concurrency"]) == "concurrency"
    assert text.nearest("colour", ["pool", "concurrency"]) is None


def test_an_error_shows_a_value_in_one_line_whatever_it_is():
    class Rude:
        def __repr__(self):
            raise RuntimeError("no")

    assert text.shown("30 parsecs") == "'30 parsecs'"
    assert len(text.shown("x" * 10_000)) == 80
    assert text.shown(10**5_000) == "a value of type int"
    assert text.shown(Rude()) == "a value of type Rude"


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://:secret@host:6379/0", "redis://:***@host:6379/0"),
        ("redis://me:secret@host", "redis://me:***@host"),
        ("redis://me:se/c@r:et@host/1", "redis://me:***@host/1"),
        ("redis://me://secret@host", "redis://me:***@host"),
        ("me:secret@host:6379", "me:***@host:6379"),
        ("unix://me:secret@/run/redis.sock", "unix://me:***@/run/redis.sock"),
        ("unix:///run/redis.sock?password=secret&db=1", "unix:///run/redis.sock?password=***&db=1"),
        ("redis://host/0?pasword=secret&db=1", "redis://host/0?pasword=***&db=1"),
        ("redis://host?db=1&kennwort=secret", "redis://host?db=1&kennwort=***"),
        ("sentinel://a/shop?sentinel_paswd=secret", "sentinel://a/shop?sentinel_paswd=***"),
    ],
)
def test_a_password_in_a_url_is_masked(url, masked):
    assert text.mask_url(url) == masked


@pytest.mark.parametrize("url", MALFORMED)
def test_what_may_be_a_password_is_not_shown_of_what_is_no_url(url):
    masked = text.mask_url(url)

    assert "SECRET" not in masked
    assert "***" in masked
    assert text.mask_url(masked) == masked


@pytest.mark.parametrize(
    "url",
    [
        "redis://host:6379/0",
        "localhost:6379",
        "host:6379/0",
        "host",
        "redis//host:6379/0",
        "sentinel://h:26379,h2:26379/service/0",
        "redis://[::1]:6379/0",
        "unix:///run/r@2.sock",
        "redis://me@host",
        "redis://me:@host",
        "unix:///run/r.sock?db=1",
        "unix:///run/a=b/r.sock?username=me",
        "unix:///run/pw/auth.sock?db=1",
        "rediss://h/0?ssl_ca_certs=/ca.pem&socket_timeout=3&protocol=2",
        "",
    ],
)
def test_a_url_without_a_password_is_shown_as_it_is(url):
    assert text.mask_url(url) == url
