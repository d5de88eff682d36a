"""The name of a worker: taken once, and from one that is known to be gone."""

import pytest

NODE = "{streamq}:worker:w@web"


def claim(scripts, pid, place, gone=("", "")):
    return scripts("claim", "w@web", 10_000, "web", pid, place, *gone)


def test_a_free_name_is_taken_for_three_leases(consumer, scripts):
    assert claim(scripts, "7", "here") == []

    told = consumer.redis.hgetall(NODE)
    assert told.pop("seen").isdigit()
    assert told == {"host": "web", "pid": "7", "place": "here"}
    assert 10_000 < consumer.redis.pttl(NODE) <= 30_000


@pytest.mark.parametrize(("pid", "place"), [("8", "here"), ("7", "there")])
def test_a_name_that_is_taken_stays_with_who_has_it(consumer, scripts, pid, place):
    claim(scripts, "7", "here")
    before = consumer.redis.hgetall(NODE)

    assert claim(scripts, pid, place) == ["web", "7", "here"]
    assert claim(scripts, pid, place, gone=("7", "elsewhere")) == ["web", "7", "here"]
    assert consumer.redis.hgetall(NODE) == before


def test_it_is_taken_from_the_one_that_is_gone_and_from_no_other(consumer, scripts):
    claim(scripts, "7", "here")
    consumer.redis.hset(NODE, "runner:9", "idle")

    assert claim(scripts, "8", "here", gone=("7", "here")) == []
    assert claim(scripts, "9", "here", gone=("7", "here")) == ["web", "8", "here"]
    assert consumer.redis.hget(NODE, "runner:9") is None


def test_who_asks_again_gets_the_same_answer(consumer, scripts):
    assert claim(scripts, "7", "here") == claim(scripts, "7", "here") == []


def test_a_worker_that_does_not_say_its_place_has_its_name(consumer, scripts):
    consumer.redis.hset(NODE, mapping={"host": "web", "pid": "7"})

    assert claim(scripts, "7", "here") == ["web", "7", ""]


def test_what_somebody_else_has_written_there_is_replaced(consumer, scripts):
    consumer.redis.set(NODE, "mine")

    assert claim(scripts, "7", "here") == []
    assert consumer.redis.hget(NODE, "pid") == "7"
