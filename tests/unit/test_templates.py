"""From a call to its envelope: where it goes, what it says, and that it is remembered."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from streamq.config.config import Config
from streamq.core.options import checked
from streamq.errors import ConfigError
from streamq.producer.templates import Templates
from streamq.routing import Queue
from streamq.tasks import Signature, Task


def function(x=0):
    return x


def task(**options):
    return Task(function, "shop.tasks.add", None, checked(options, decorator=True))


def signature(task=None, **options):
    return Signature("shop.tasks.add", (), {}, checked(options), task)


def templates(*queues, **settings):
    conf = Config.load(settings, None, {}, Path("/nowhere/at/all"))
    return Templates(conf, lambda: queues)


def goes_to(templates, signature):
    template = templates.template(signature)
    return template.exchange, template.routing_key


def said(template):
    """What the message says besides its arguments."""
    return dict(zip(template.extra[::2], template.extra[1::2], strict=True))


def test_a_call_without_a_place_goes_to_the_default_queue():
    assert goes_to(templates(), signature()) == ("", "default")
    assert goes_to(templates(Queue("a"), Queue("b")), signature()) == ("", "default")
    assert goes_to(templates(task_default_queue="main"), signature()) == ("", "main")


def test_the_only_declared_queue_is_the_default_unless_one_is_named():
    assert goes_to(templates(Queue("demo")), signature()) == ("", "demo")
    assert goes_to(templates(Queue("demo"), task_default_queue="main"), signature()) == ("", "main")


def test_the_call_wins_over_the_decorator_and_that_over_routes():
    routed = templates(task_routes={"shop.*": {"queue": "routed"}})

    assert goes_to(routed, signature()) == ("", "routed")
    assert goes_to(routed, signature(task(queue="own"))) == ("", "own")
    assert goes_to(routed, signature(task(queue="own"), queue="call")) == ("", "call")
    assert goes_to(routed, signature(task(queue="own"), exchange="ex", routing_key="k")) == (
        "ex",
        "k",
    )


@pytest.mark.parametrize(
    ("routes", "queue"),
    [
        ({"shop.tasks.add": {"queue": "exact"}, "shop.*": {"queue": "glob"}}, "exact"),
        ({"shop.*": {"queue": "first"}, "*": {"queue": "second"}}, "first"),
        ({"*.add": "text"}, "text"),
        ({"other.*": {"queue": "x"}}, "default"),
        ([{"other.*": "x"}, {"shop.*": "list"}], "list"),
        (lambda name, args, kwargs, options: {"queue": name.rpartition(".")[2]}, "add"),
        (lambda name, args, kwargs, options: None, "default"),
    ],
)
def test_routes_by_name_glob_list_and_callable(routes, queue):
    assert goes_to(templates(task_routes=routes), signature()) == ("", queue)


def test_a_route_with_an_unknown_option_is_refused():
    with pytest.raises(ConfigError, match="unknown option 'qeue'"):
        templates(task_routes={"shop.*": {"qeue": "x"}}).template(signature())


def test_only_what_differs_from_the_default_is_said():
    assert templates().template(signature()).extra == ()


def test_what_differs_is_said_readably():
    template = templates().template(
        signature(
            exchange="ex",
            routing_key="a.b",
            serializer="msgpack",
            compression="zlib",
            ignore_result=True,
            headers={"k": 1},
            priority=7,
            acks_late=False,
            result_expires="2s",
            max_deliveries=5,
            shadow="nice",
        )
    )

    assert said(template) == {
        "content_type": "application/x-msgpack",
        "compression": "zlib",
        "ignore_result": "1",
        "exchange": "ex",
        "routing_key": "a.b",
        "headers": b'{"k":1}',
        "priority": "7",
        "acks_late": "0",
        "result_expires": "2000",
        "max_deliveries": "5",
        "shadow": "nice",
    }
    assert template.keep is False


def test_an_unknown_serializer_is_refused():
    with pytest.raises(ConfigError):
        templates().template(signature(serializer="jsn"))


def test_the_same_call_is_decided_once():
    known = templates()

    assert known.template(signature(queue="a")) is known.template(signature(queue="a"))
    assert known.template(signature(queue="a")) is not known.template(signature(queue="b"))


def test_a_changed_setting_is_noticed():
    conf = Config.load({}, None, {}, Path("/nowhere/at/all"))
    known = Templates(conf, list)
    before = goes_to(known, signature())

    conf.task_default_queue = "main"

    assert (before[1], goes_to(known, signature())[1]) == ("default", "main")


def test_options_that_differ_each_time_do_not_fill_the_memory():
    known = templates()
    for number in range(Templates.MOST + 50):
        known.template(signature(countdown=number))

    assert len(known.cached) <= Templates.MOST
    assert known.template(signature(queue="a")) is known.template(signature(queue="a"))


def test_calls_that_differ_in_their_id_or_their_moment_take_no_room():
    known = templates()
    for number in range(10):
        known.template(signature(queue="a", task_id=f"t{number}"))
        known.template(signature(expires=datetime.now(UTC) + timedelta(seconds=number)))

    assert len(known.cached) == 1


def test_options_that_cannot_be_remembered_still_work():
    template = templates().template(signature(headers={"k": [1]}))

    assert said(template) == {"headers": b'{"k":[1]}'}
