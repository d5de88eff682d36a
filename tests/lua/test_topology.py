"""Declaring, binding and deleting, straight at Redis."""

import pytest
from redis.exceptions import ResponseError

from streamq.transport.scripts import refusal


def refused(run, *argv):
    """What a script refuses, as words."""
    with pytest.raises(ResponseError) as caught:
        run(*argv)
    return refusal(caught.value.args[0])


def test_an_exchange_keeps_its_type(scripts, redis, keys):
    assert scripts("declare_exchange", "orders", "topic", "") == [1]
    assert scripts("declare_exchange", "orders", "topic", "") == [0]

    asked = refused(scripts, "declare_exchange", "orders", "direct", "")

    assert asked == ["EXCHANGETYPE", "orders", "topic", "direct"]
    assert redis.hgetall(keys.exchanges) == {"orders": "topic"}


def test_the_newest_alternate_counts_and_the_old_one_is_told(scripts, redis, keys):
    scripts("declare_exchange", "orders", "topic", "rest")

    assert scripts("declare_exchange", "orders", "topic", "other") == [0, "rest"]
    assert redis.hgetall(keys.alternates) == {"orders": "other"}

    assert scripts("declare_exchange", "orders", "topic", "") == [0, "other"]
    assert not redis.exists(keys.alternates)


def test_an_unknown_type_is_refused(scripts, redis):
    assert refused(scripts, "declare_exchange", "x", "random", "") == ["BADTYPE", "x", "random"]
    assert redis.keys() == []


@pytest.mark.parametrize("name", ["", "a:b", "a@b", "{a", "a\nb", "a\0b", "x" * 201])
def test_a_name_that_would_spoil_keys_is_refused(scripts, redis, name):
    assert refused(scripts, "declare_queue", name, "{}")[0] == "BADNAME"
    assert refused(scripts, "declare_exchange", name, "topic", "")[0] == "BADNAME"
    assert redis.keys() == []


def test_a_new_queue_can_be_read_at_once_on_every_stream_it_has(scripts, redis, keys):
    assert scripts("declare_queue", "mail", '{"max_priority":2}') == [1]

    streams = [keys.queue("mail"), keys.queue("mail", 1), keys.queue("mail", 2)]
    for stream in [*streams, keys.returned("mail")]:
        [group] = redis.xinfo_groups(stream)
        assert (group["name"], group["last-delivered-id"]) == ("workers", "0-0")
    assert not redis.exists(keys.queue("mail", 3))


def test_redeclaring_a_queue_changes_its_settings_and_keeps_its_messages(scripts, redis, keys):
    scripts("declare_queue", "mail", '{"max_length":5}')
    redis.xadd(keys.queue("mail"), {"task": "t"})

    assert scripts("declare_queue", "mail", '{"max_length":5}') == [0]
    assert scripts("declare_queue", "mail", "{}") == [0, '{"max_length":5}']
    assert redis.hget(keys.queues, "mail") == "{}"
    assert redis.xlen(keys.queue("mail")) == 1


@pytest.mark.parametrize(
    "settings", ["", "{", "7", '{"max_priority":10}', '{"max_length":1.5}', '{"max_length":"9"}']
)
def test_settings_that_publishing_could_not_read_are_refused(scripts, redis, settings):
    assert refused(scripts, "declare_queue", "mail", settings) == ["BADSETTINGS", "mail"]
    assert redis.keys() == []


@pytest.fixture
def bound(scripts):
    """A topic exchange, a headers exchange and a queue, not yet bound."""
    scripts("declare_exchange", "t", "topic", "")
    scripts("declare_exchange", "h", "headers", "")
    scripts("declare_queue", "q", "{}")
    return scripts


def test_binding_twice_is_one_binding(bound, redis, keys):
    assert bound("bind", "t", "queue", "q", "a.#") == 1
    assert bound("bind", "t", "queue", "q", "a.#") == 0

    assert redis.hgetall(keys.bindings("t")) == {"queue:q:a.#": ""}
    assert redis.hgetall(keys.routes("t")) == {"": "1", ".a": "1#", ".a.#": "0\nqueue:q"}

    assert bound("unbind", "t", "queue", "q", "a.#") == 1
    assert bound("unbind", "t", "queue", "q", "a.#") == 0
    assert not redis.exists(keys.bindings("t"), keys.routes("t"))


def test_headers_bindings_differ_by_their_arguments_whatever_order_they_are_given_in(
    bound, redis, keys
):
    assert bound("bind", "h", "queue", "q", "", "x-match", "s:any", "a", "i:1") == 1
    assert bound("bind", "h", "queue", "q", "", "a", "i:1", "x-match", "s:any") == 0
    assert bound("bind", "h", "queue", "q", "", "a", "i:1") == 1

    assert redis.hgetall(keys.bindings("h")) == {
        "queue:q:?a=i:1&x-match=s:any": "a=i:1&x-match=s:any",
        "queue:q:?a=i:1": "a=i:1",
    }
    assert redis.hgetall(keys.routes("h")) == {
        "all": "1",
        "all&a=i:1": "0\nqueue:q",
        "any&a=i:1": "queue:q",
    }


def test_two_bindings_that_say_the_same_keep_the_way_open_until_both_are_gone(bound, redis, keys):
    bound("bind", "h", "queue", "q", "", "a", "i:1")
    bound("bind", "h", "queue", "q", "", "a", "i:1", "x-match", "s:all")
    assert redis.hget(keys.routes("h"), "all&a=i:1") == "0\nqueue:q:2"

    bound("unbind", "h", "queue", "q", "", "a", "i:1")
    assert redis.hget(keys.routes("h"), "all&a=i:1") == "0\nqueue:q"

    bound("unbind", "h", "queue", "q", "", "a", "i:1", "x-match", "s:all")
    assert not redis.exists(keys.routes("h"))


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("", "queue", "q", "q"), ["DEFAULTEXCHANGE"]),
        (("t", "exchange", "", "q"), ["DEFAULTEXCHANGE"]),
        (("no such", "queue", "q", "k"), ["NOEXCHANGE", "no such"]),
        (("t", "queue", "né", "k"), ["NOQUEUE", "né"]),
        (("t", "exchange", "q", "k"), ["NOEXCHANGE", "q"]),
        (("t", "queue", "q", "k", "a", "i:1"), ["ARGUMENTS", "t", "topic"]),
        (("h", "queue", "q", "", "x-match", "s:most"), ["XMATCH", "h", "s:most"]),
        (("h", "queue", "q", "", "x-match", "v:"), ["XMATCH", "h", "v:"]),
    ],
)
def test_a_binding_that_means_nothing_is_refused(bound, redis, keys, argv, words):
    assert refused(bound, "bind", *argv) == words
    assert not redis.exists(keys.bindings("t"), keys.bindings("h"), keys.routes("t"))


def test_a_deleted_queue_takes_its_bindings_along_everywhere(bound, redis, keys):
    bound("declare_queue", "q2", "{}")
    bound("bind", "t", "queue", "q", "a.b")
    bound("bind", "t", "queue", "q2", "a.b")
    bound("bind", "h", "queue", "q", "", "x-match", "s:any", "a", "i:1")

    assert bound("delete_queue", "q") == 2

    assert redis.hgetall(keys.bindings("t")) == {"queue:q2:a.b": ""}
    assert redis.hget(keys.routes("t"), ".a.b") == "0\nqueue:q2"
    assert not redis.exists(keys.bindings("h"), keys.routes("h"), *keys.streams("q"))
    assert redis.hkeys(keys.queues) == ["q2"]
    assert bound("delete_queue", "q") == -1


@pytest.mark.parametrize("stream", ["base", "level", "returned"])
def test_a_queue_that_holds_messages_is_not_deleted(bound, redis, keys, stream):
    bound("bind", "t", "queue", "q", "a.b")
    of = {"base": keys.queue("q"), "level": keys.queue("q", 9), "returned": keys.returned("q")}
    redis.xadd(of[stream], {"task": "t"})

    assert refused(bound, "delete_queue", "q") == ["NOTEMPTY", "q", "1"]

    assert redis.hkeys(keys.queues) == ["q"]
    assert redis.hgetall(keys.bindings("t")) == {"queue:q:a.b": ""}
    assert redis.xlen(of[stream]) == 1


def test_a_deleted_exchange_takes_the_bindings_from_it_and_to_it_along(bound, redis, keys):
    bound("declare_exchange", "t", "topic", "h")
    bound("bind", "t", "queue", "q", "a")
    bound("bind", "t", "exchange", "t", "#")
    bound("bind", "h", "exchange", "t", "")
    bound("bind", "h", "queue", "q", "")

    assert bound("delete_exchange", "t") == 3

    assert redis.hgetall(keys.exchanges) == {"h": "headers"}
    assert redis.hgetall(keys.bindings("h")) == {"queue:q:?": ""}
    assert redis.hgetall(keys.routes("h")) == {"all": "0\nqueue:q"}
    assert not redis.exists(keys.bindings("t"), keys.routes("t"), keys.alternates)
    assert bound("delete_exchange", "t") == -1


def test_a_route_is_explained_step_by_step(bound):
    bound("declare_exchange", "t", "topic", "h")
    bound("bind", "t", "queue", "q", "a.*")
    bound("bind", "t", "queue", "q", "a.#")
    bound("bind", "t", "queue", "q", "b")
    bound("bind", "h", "queue", "q", "", "a", "i:1")

    assert bound("explain_route", "t", "a.x") == [
        "q",
        ["t", "topic", "binding", "queue:q", "a.#", ""],
        ["t", "topic", "binding", "queue:q", "a.*", ""],
    ]
    assert bound("explain_route", "t", "c", "a", "i:1") == [
        "q",
        ["t", "topic", "alternate", "exchange:h", "", ""],
        ["h", "headers", "binding", "queue:q", "", "a=i:1"],
    ]
    assert bound("explain_route", "", "q") == ["q", ["", "direct", "default", "queue:q", "q", ""]]
    assert bound("explain_route", "", "r") == [""]
    assert refused(bound, "explain_route", "no such", "") == ["NOEXCHANGE", "no such"]
