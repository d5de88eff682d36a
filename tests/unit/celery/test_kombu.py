"""Queues, exchanges and serializers by kombu's names."""

import pytest

from streamq.celery.kombu import Connection, Exchange, Queue, binding, serialization
from streamq.celery.kombu.common import Broadcast
from streamq.context import NotInThisVersion
from streamq.routing import Binding
from streamq.serialization.codec import SERIALIZERS, decode, encode


def test_a_queue_of_kombu_is_one_of_streamq():
    media = Exchange("media", "topic", durable=True)
    queue = Queue(
        "images", media, routing_key="image.#", durable=True,
        queue_arguments={"x-max-priority": 10, "x-message-ttl": 5000, "x-queue-type": "quorum"},
    )  # fmt: skip

    assert queue.every_binding() == [Binding(media, "image.#")]
    assert queue.settings() == {"max_priority": 9, "message_ttl": 5000}
    assert Queue("celery").every_binding() == []
    assert Queue("celery", routing_key="celery").every_binding() == []
    assert Queue("celery", Exchange("", "direct"), "celery").every_binding() == []
    assert Queue("a", "tasks").every_binding() == [Binding("tasks", "a")]


def test_bindings_of_kombu_are_those_of_streamq():
    queue = Queue("a", bindings=[binding(Exchange("e"), "x"), binding(Exchange("e"), "y")])

    assert [each.routing_key for each in queue.every_binding()] == ["x", "y"]


def test_a_serializer_is_registered_with_text_for_its_decoder():
    serialization.register("upper", str.upper, str.lower, "application/x-upper", "utf-8")
    try:
        assert encode("abc", "upper") == b"ABC"
        assert decode(b"ABC", "application/x-upper") == "abc"
    finally:
        for key in ("upper", "application/x-upper"):
            del SERIALIZERS[key]


@pytest.mark.parametrize("kind", [Connection, Broadcast])
def test_what_streamq_does_not_have_is_refused_where_it_is_made(kind):
    with pytest.raises(NotInThisVersion, match="not in this version: kombu's"):
        kind("redis://localhost")
