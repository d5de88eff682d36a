"""The steps of a publish, done by hand: no server, and time stands still."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from streamq.broker import publish_steps
from streamq.broker.confirmation import Confirmation
from streamq.broker.protocol import PROTOCOL
from streamq.broker.publish_retry import FirstContact, PublishRetry, Refusal
from streamq.broker.publish_steps import CallFunction, PublishSteps, Reconnect, Send, Sleep
from streamq.broker.publisher_channel import Channel, full
from streamq.core.message import MessageOptions, MessageTemplate
from streamq.errors import ConfigError, PublishUnknown, Unroutable
from streamq.transport.connection import lost
from streamq.transport.keys import Keys
from streamq.transport.replies import Disconnected, Refused

KEYS = Keys()
STALE, NOWHERE = Refused("STALE 1 2"), Refused("UNROUTABLE 0 ex key")


@dataclass(eq=False)
class OpenConnection:
    """A connection that is always open."""

    session: str = "s"
    link: Any = field(default_factory=object)


@pytest.fixture(autouse=True)
def _time_stands_still(monkeypatch):
    monkeypatch.setattr(publish_steps, "monotonic", lambda: 0.0)


@pytest.fixture
def contact():
    contact = FirstContact("redis://h")
    contact.made = contact.protocol_checked = True
    return contact


@pytest.fixture
def channel():
    template = MessageTemplate(MessageOptions(task="t", exchange="", routing_key="mail"))
    channel = Channel(OpenConnection())
    channel.script, channel.load = full([template.publication("A", b"[]", b"{}", given=False)])
    return channel


@pytest.fixture
def play(channel, contact):
    """``play(*replies)`` does the steps: replies are sent back, errors thrown in.

    Returns the steps as they were made, and the answer, if the replies led to one.
    """

    def play(*replies, **options):
        retry = PublishRetry(10, contact, now=0.0)
        steps = PublishSteps(channel, retry, KEYS, **options).run()
        done, step = [], next(steps)
        for reply in replies:
            commands = list(step.commands) if isinstance(step, Send) else []
            done.append(commands[0] if commands else step)
            try:
                raises = isinstance(reply, Disconnected)
                step = steps.throw(reply) if raises else steps.send(reply)
            except StopIteration as answered:
                return done, answered.value
        return done, None

    return play


def test_a_lost_answer_is_asked_for_with_the_same_call(play):
    (first, pause, second), answer = play(lost("gone"), None, [[b"mail"]])

    assert answer == [b"mail"]
    assert first == second
    assert pause == Sleep(0.05)


def test_the_protocol_is_asked_once_and_before_anything_is_sent(play, contact):
    contact.protocol_checked = False

    (question, first), _ = play([PROTOCOL.encode()], [[b"mail"]])
    (second,), _ = play([[b"mail"]])

    assert question == ("HGET", "{streamq}:script:publish", "protocol")
    assert first[0] == second[0] == "EVALSHA"


def test_a_lost_answer_about_the_protocol_leaves_no_doubt_about_the_message(play, contact):
    contact.protocol_checked = False

    with pytest.raises(ConfigError, match="used with protocol 2"):
        play(lost("gone"), None, [b"2"])

    assert not contact.protocol_checked


def test_a_call_that_leads_nowhere_is_declared_and_sent_once_more(play):
    asked = []

    (first, call, second), answer = play(
        [NOWHERE], True, [[b"key"]], declare=lambda refusal: asked.append(refusal) or True
    )

    assert answer == [b"key"]
    assert isinstance(call, CallFunction)
    assert call.act()
    assert isinstance(asked[0].error(), Unroutable)
    assert first[4:6] == ("s", 1)
    assert second[4:6] == ("s", 2)
    with pytest.raises(Refusal, match="UNROUTABLE"):
        play([NOWHERE], True, [NOWHERE], declare=lambda refusal: True)


def test_a_name_that_another_process_has_used_is_replaced_once(play, channel):
    (_, step, second), answer = play([STALE], None, [[b"mail"]])

    assert (step, answer) == (Reconnect(), [b"mail"])
    assert second[5] == 2
    with pytest.raises(Refusal, match="STALE"):
        play([STALE], None, [STALE])


def test_after_a_lost_answer_the_records_tell_or_nobody_can(play):
    record = [b"queue", b"mail"]

    done, answer = play(lost("gone"), None, [STALE], [record])
    assert answer == ["mail"]
    assert done[-1] == ("HGETALL", "{streamq}:task:A")

    with pytest.raises(PublishUnknown):
        play(lost("gone"), None, [STALE], [Refused("ERR odd")])


def test_a_confirmation_of_another_connection_is_worth_nothing(play, channel):
    channel.confirm = (Confirmation("replica", 1, 5.0),)

    done, answer = play([[b"mail"]], [1])
    assert (done[1], answer) == (("WAIT", 1, 5000), [b"mail"])

    retry = PublishRetry(10, FirstContact("redis://h"), now=0.0)
    retry.first_contact.protocol_checked = True
    channel.argv = None
    steps = PublishSteps(channel, retry, KEYS).run()
    list(next(steps).commands)
    wait = steps.send([[b"mail"]])
    channel.connection.link = object()
    with pytest.raises(Disconnected, match="before the message was confirmed") as broken:
        list(wait.commands)
    assert broken.value.sent
