"""Follow-ups, as follow.lua is told of them: the words, and that every kind has some."""

from typing import get_args

import pytest

from streamq.broker.followups import words_of
from streamq.core.delivery import Delivery
from streamq.core.outcome import (
    Expire,
    FollowUp,
    OfferElsewhere,
    Outcome,
    RemoveRevocation,
    RunLater,
    SendToDeadLetters,
)

DEAD = SendToDeadLetters(b"unknown task", b"no such task")

WORDS = [
    (None, ()),
    (RunLater(), (b"later", b"+0", b"")),
    (
        RunLater(pause=1.5, changes={b"retries": b"2", b"args": b"[1]"}),
        (b"later", b"+1500", b"", b"retries", b"2", b"args", b"[1]"),
    ),
    (RunLater(moment=1893456000000), (b"later", b"1893456000000", b"")),
    (RunLater(queue=b"slow"), (b"later", b"+0", b"slow")),
    (RunLater(queue=b"slow", declare=True), (b"later", b"+0", b":slow")),
    (OfferElsewhere(pause=0.5, refusals=1), (b"later", b"+500", b"", b"refusals", b"1")),
    (
        OfferElsewhere(pause=10, refusals=7, otherwise=DEAD),
        (b"offer", b"+10000", b"7", b"unknown task", b"no such task"),
    ),
    (DEAD, (b"dead_letter", b"unknown task", b"no such task")),
    (Expire(), (b"expire", b"expired", b"it expired")),
    (RemoveRevocation(), (b"revoked",)),
]


@pytest.mark.parametrize(("then", "words"), WORDS)
def test_a_follow_up_has_the_words_of_the_script(then, words):
    assert words_of(then) == words


def test_every_kind_of_follow_up_has_its_words():
    assert {type(then) for then, _ in WORDS if then is not None} == set(get_args(FollowUp))


def test_an_outcome_tells_the_reason_and_the_pause_of_its_follow_up():
    def told(then, **more):
        outcome = Outcome(Delivery("mail", b"1-1", {}), b"", (), then=then, **more)
        return outcome.reason, outcome.pause

    assert told(None) == (b"", None)
    assert told(RunLater(pause=3)) == (b"", 3)
    assert told(RunLater(moment=5)) == (b"", None)
    assert told(OfferElsewhere(pause=2, refusals=1)) == (b"", 2)
    assert told(OfferElsewhere(pause=2, refusals=1, otherwise=DEAD)) == (b"unknown task", None)
    assert told(DEAD) == (b"unknown task", None)
    assert told(None, release=True) == (b"", 0.0)
