"""Options: which there are, what they accept, and which layer wins."""

import math
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from streamq.core.options import CHECKS, LATER, backoff, checked, expiry, merged
from streamq.core.units import ahead, limit, seconds
from streamq.errors import ConfigError
from streamq.routing import Exchange, Queue

#: Every option that users were told of.
PROMISED = set(
    """
    name bind queue exchange routing_key headers priority serializer compression acks_late
    ignore_result result_expires track_started max_retries default_retry_delay autoretry_for
    dont_autoretry_for retry_backoff retry_backoff_max retry_jitter time_limit soft_time_limit
    expires countdown eta max_deliveries task_id shadow typing confirm
    """.split()  # noqa: SIM905
)


def refusal(**options):
    with pytest.raises(ConfigError) as refused:
        checked(options)
    return str(refused.value)


def test_every_promised_option_is_known_now_or_refused_by_name():
    assert set(CHECKS) | LATER >= PROMISED
    assert not set(CHECKS) & LATER


def test_an_unknown_option_names_the_nearest():
    assert "unknown option 'qeue'" in refusal(qeue="mail")
    assert "did you mean 'queue'?" in refusal(qeue="mail")


@pytest.mark.parametrize("name", sorted(LATER))
def test_an_option_of_a_later_version_is_refused_by_name(name):
    assert refusal(**{name: 5}) == f"not in this version: {name}"


def test_an_unknown_option_without_a_neighbour_is_just_unknown():
    assert refusal(zzzzzz=1) == "unknown option 'zzzzzz'"


def test_values_come_back_in_our_units():
    found = checked({"result_expires": "5m", "queue": Queue("mail"), "priority": 9})

    assert found == {"result_expires": 300.0, "queue": "mail", "priority": 9}
    assert checked({"result_expires": timedelta(seconds=2)})["result_expires"] == 2.0
    assert checked({"exchange": Exchange("ex"), "routing_key": "k"})["exchange"] == "ex"


def test_none_means_not_given():
    assert checked({"queue": None, "acks_late": None}) == {}


@pytest.mark.parametrize(
    "options",
    [
        {"acks_late": "yes"},
        {"acks_late": 1},
        {"priority": 10},
        {"priority": -1},
        {"priority": True},
        {"priority": "5"},
        {"queue": "a:b"},
        {"task_id": ""},
        {"task_id": "a@b"},
        {"routing_key": 5},
        {"headers": [1]},
        {"headers": {1: "a"}},
        {"max_deliveries": 0},
        {"result_expires": "soon"},
        {"result_expires": 0},
        {"result_expires": timedelta(0)},
        {"result_expires": "0s"},
        {"serializer": 5},
        {"time_limit": 0.0005},
        {"soft_time_limit": timedelta(microseconds=1)},
    ],
)
def test_a_value_that_does_not_fit_is_refused(options):
    with pytest.raises(ConfigError):
        checked(options)


SECONDS = [
    name for name, check in CHECKS.items() if check in (ahead, backoff, expiry, limit, seconds)
]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "nan", "inf", Decimal("nan")])
@pytest.mark.parametrize("name", SECONDS)
def test_what_is_no_number_of_seconds_is_refused_under_the_name_of_the_option(name, value):
    assert refusal(**{name: value}).startswith(f"{name} is not a duration: ")


@pytest.mark.parametrize("value", [0.0009, "0.5ms", timedelta(microseconds=999)])
@pytest.mark.parametrize("name", ["time_limit", "soft_time_limit"])
def test_a_limit_below_a_millisecond_is_refused_as_it_would_be_none(name, value):
    assert refusal(**{name: value}).startswith(f"{name} is shorter than a millisecond")
    assert checked({name: 0.001}) == {name: 0.001}
    assert checked({name: 0}) == {name: 0}


@pytest.mark.parametrize("name", ["countdown", "expires"])
def test_what_was_before_now_is_now(name):
    assert checked({name: -5}) == checked({name: timedelta(days=-1)}) == {name: 0}
    assert "less than 0 is now" in refusal(**{name: "soon"})
    assert "at least 0" not in refusal(**{name: "soon"})


def test_queue_and_exchange_exclude_each_other():
    assert "exclude each other" in refusal(queue="a", exchange="b")
    assert "exclude each other" in refusal(queue="a", routing_key="b")


def test_what_belongs_to_the_decorator_is_refused_in_a_call_and_the_other_way_round():
    assert refusal(bind=True) == "option bind belongs to the decorator"
    with pytest.raises(ConfigError, match="option task_id belongs to the call"):
        checked({"task_id": "a"}, decorator=True)
    assert checked({"bind": True, "name": "a.b"}, decorator=True)["bind"] is True


def test_the_first_layer_wins():
    call, task, route = {"priority": 1}, {"priority": 2, "shadow": "x"}, {"acks_late": False}

    assert merged(call, task, route) == {"priority": 1, "shadow": "x", "acks_late": False}


def test_where_a_message_goes_is_decided_by_one_layer():
    by_queue, by_exchange = {"queue": "mail"}, {"exchange": "ex", "routing_key": "k"}

    assert merged(by_queue, by_exchange) == by_queue
    assert merged(by_exchange, by_queue) == by_exchange
    assert merged({"routing_key": "k"}, by_queue) == {"routing_key": "k"}
    assert merged({"routing_key": "k"}, {"exchange": "ex"}) == {
        "routing_key": "k",
        "exchange": "ex",
    }


def test_when_a_message_is_due_is_decided_by_one_layer():
    in_a_while, at_noon = {"countdown": 5.0}, {"eta": datetime(2026, 12, 24, 12)}

    assert merged(in_a_while, at_noon) == in_a_while
    assert merged(at_noon, in_a_while) == at_noon
