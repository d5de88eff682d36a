"""The checker of ticks finds each kind of wrong history."""

from dataclasses import replace

import pytest

from tests.ticks import History, Rule, Sent, faults_of, id_of

START = 1_800_000_000_000
RULE = Rule("poll", lambda moment: moment % 2000 == 0)


def sent(seconds, missed=0):
    moment = START + 1000 * seconds
    return Sent(id_of("poll", moment), moment, missed, moment + 3)


GOOD = History(
    [sent(0), sent(2), sent(8, missed=2), sent(10)],
    missed=2,
    due=START + 12_000,
    ended=START + 11_000,
    since=START,
)


def with_last(**changes):
    return replace(GOOD, sent=[*GOOD.sent[:-1], replace(GOOD.sent[-1], **changes)])


def test_a_right_history_has_no_faults():
    assert faults_of(RULE, GOOD) == []
    assert id_of("poll", START) == "poll-20270115T080000Z"


def test_what_is_given_up_is_counted_by_the_schedule_alone():
    given_up = replace(GOOD, sent=[sent(0), sent(2), sent(8), sent(10)])

    assert faults_of(replace(RULE, deadline=True), given_up) == []
    assert "2 left out" in faults_of(RULE, given_up)[0]


def test_what_was_given_up_before_the_first_message_counts():
    history = replace(GOOD, missed=3, since=START - 2000)

    assert faults_of(replace(RULE, deadline=True), history) == []
    assert faults_of(RULE, replace(GOOD, since=START + 2000)) == []


@pytest.mark.parametrize(
    ("history", "words"),
    [
        (replace(GOOD, sent=[*GOOD.sent, GOOD.sent[-1]]), "twice"),
        (replace(GOOD, sent=[]), "nothing was sent"),
        (with_last(moment=START + 11_000), "is none of its moments"),
        (with_last(id="poll-x"), "has the id poll-x"),
        (with_last(at=START + 9_999), "early"),
        (replace(GOOD, sent=[GOOD.sent[1], GOOD.sent[0]]), "after"),
        (with_last(missed=1), "0 left out before"),
        (replace(GOOD, sent=[GOOD.sent[0], *GOOD.sent[2:]]), "3 left out before"),
        (replace(GOOD, missed=1), "6 moments, and 5 sent or missed"),
        (replace(GOOD, due=START + 14_000), "7 moments, and 6 sent or missed"),
        (replace(GOOD, ended=START + 20_000), "is still to be sent"),
    ],
)
def test_a_wrong_one_has(history, words):
    assert any(words in fault for fault in faults_of(RULE, history))
