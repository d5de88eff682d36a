"""The words of routing: what may be declared, and what the server is told."""

import pytest

from streamq.errors import ConfigError
from streamq.routing import Binding, Exchange, Queue, canonical, check_name, exchanges_of


@pytest.mark.parametrize("name", ["a", "shop.orders-1", "größe", "x" * 200, "a b", "p/q*#"])
def test_a_usable_name_comes_back(name):
    assert check_name(name, "queue name") == name


@pytest.mark.parametrize(
    "name", ["", "a@b", "a:b", "{a", "a}", "a\nb", "a\x7f", "\0", "x" * 201, "ö" * 101]
)
def test_a_name_that_would_be_ambiguous_in_a_key_is_refused(name):
    with pytest.raises(ConfigError, match="cannot be used"):
        check_name(name, "queue name")


def test_a_name_that_is_no_text_is_refused():
    with pytest.raises(ConfigError, match="queue name must be text, not int"):
        Queue(3)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "i:1"),
        (True, "b:true"),
        (False, "b:false"),
        (1.0, "f:1.0"),
        ("1", "s:1"),
        ("", "s:"),
        (None, "v:"),
        (2**70, f"i:{2**70}"),
        ([1, "a"], 'j:[1,"a"]'),
    ],
)
def test_a_header_value_keeps_its_type_as_text(value, text):
    assert canonical(value) == text


def test_an_exchange_is_direct_unless_said_otherwise():
    assert Exchange("orders").type == "direct"


def test_an_unknown_exchange_type_is_refused_with_the_nearest():
    with pytest.raises(ConfigError) as refused:
        Exchange("orders", type="tpic")

    assert "unknown type 'tpic'" in str(refused.value)
    assert "did you mean 'topic'?" in str(refused.value)


def test_an_unknown_x_match_is_refused():
    with pytest.raises(ConfigError, match="unknown x-match 'some'"):
        Binding("orders", arguments={"x-match": "some"})


def test_a_queue_with_an_exchange_is_bound_by_its_key_else_by_its_name():
    exchange = Exchange("orders")

    with_key = Queue("mail", exchange, routing_key="send").every_binding()
    without = Queue("mail", exchange).every_binding()

    assert with_key == [Binding(exchange, "send")]
    assert without == [Binding(exchange, "mail")]


def test_an_empty_routing_key_is_a_key():
    assert Queue("mail", "orders", routing_key="").every_binding() == [Binding("orders", "")]


def test_further_bindings_come_after():
    more = Binding("logs", "#")

    assert Queue("mail", "orders", bindings=[more]).every_binding()[1:] == [more]


def test_a_routing_key_without_an_exchange_is_refused():
    with pytest.raises(ConfigError, match="routing_key but no exchange"):
        Queue("mail", routing_key="send")


def test_what_becomes_of_old_and_dead_messages_is_kept_in_the_servers_units():
    queue = Queue(
        "mail",
        message_ttl="1m",
        dead_letter_exchange=Exchange("dlx", "topic"),
        dead_letter_routing_key="dead.mail",
    )

    assert queue.settings() == {
        "message_ttl": 60_000,
        "dead_letter_exchange": "dlx",
        "dead_letter_routing_key": "dead.mail",
    }
    assert [exchange.name for exchange in exchanges_of([queue])] == ["dlx"]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"message_ttl": "soon"}, "message_ttl is not a duration"),
        ({"dead_letter_exchange": "a:b"}, "dead-letter exchange"),
        ({"dead_letter_routing_key": "k"}, "no dead_letter_exchange"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings, problem):
    with pytest.raises(ConfigError, match=problem):
        Queue("mail", **settings)


@pytest.mark.parametrize(
    "limits", [{"max_priority": 0}, {"max_priority": 10}, {"max_length": 0}, {"max_length": True}]
)
def test_limits_out_of_range_are_refused(limits):
    with pytest.raises(ConfigError, match=f"{next(iter(limits))} must be 1 to"):
        Queue("mail", **limits)


def test_the_server_keeps_only_what_was_set():
    assert Queue("mail").settings() == {}
    assert Queue("mail", max_priority=3, max_length=7).settings() == {
        "max_priority": 3,
        "max_length": 7,
    }


def test_every_exchange_that_leads_to_a_queue_is_found_once():
    root = Exchange("root", type="topic")
    middle = Exchange("middle", bindings=[Binding(root, "a.#")])
    queues = [Queue("one", middle), Queue("two", middle), Queue("three", "by-name")]

    assert {exchange.name for exchange in exchanges_of(queues)} == {"root", "middle"}
    assert len(exchanges_of(queues)) == 2
