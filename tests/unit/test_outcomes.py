"""How a run ends: what the record says, and what follows the message."""

import copy
import os
import pickle
import random
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from streamq.config.config import Config
from streamq.core.delivery import Delivery
from streamq.core.options import checked
from streamq.core.outcome import Expire, RemoveRevocation, RunLater, SendToDeadLetters
from streamq.errors import (
    ConfigError,
    MaxRetriesExceeded,
    Overdue,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
    Terminated,
    TimeLimitExceeded,
)
from streamq.execution.executor import Executor
from streamq.execution.outcomes import Outcomes
from streamq.producer.registry import Registry
from streamq.serialization.payload import Payloads
from streamq.serialization.signing import make_signer, read_keys
from streamq.tasks import Task

ANYTHING = {"autoretry_for": (Exception,)}

SEAL = make_signer("required", read_keys({"k": "s" * 32}, "keys"), None, "streamq")


def ending(error, *, options=None, signer=None, chance=lambda: 0.999999, **fields):
    """How a task with these options ends that raised this, for a message with these fields."""
    conf = Config.load({}, None, {}, Path("/nowhere/at/all"))
    tasks = Registry()
    tasks.add(Task(lambda: None, "t", None, checked(options or {}, decorator=True)))
    payloads = Payloads(accept=("json",), limit=10_000, decompressed_limit=10**6, ratio=100)
    told = {name.encode(): value for name, value in fields.items()}
    delivery = Delivery("mail", b"1-1", {b"id": b"ID", b"task": b"t", **told})
    outcomes = Outcomes(
        tasks, payloads, conf, signer=signer, **({"chance": chance} if chance else {})
    )
    Executor(outcomes, hostname="h", report=lambda *said: None).admit(delivery)
    return outcomes.raised(delivery, error, 0.1)


def record(outcome):
    return dict(zip(outcome.fields[::2], outcome.fields[1::2], strict=True))


def test_a_retry_keeps_the_message_and_counts():
    outcome = ending(Retry(exc=ValueError("no"), countdown="5s"), retries=b"1")

    assert outcome.state == b"RETRY"
    assert outcome.then == RunLater(pause=5, changes={b"retries": b"2"})
    assert outcome.pause == 5.0
    told = record(outcome)
    assert (told[b"error_type"], told[b"error"], told[b"retries"]) == (b"ValueError", b"no", b"2")


def test_without_a_pause_of_its_own_a_retry_waits_as_its_task_says():
    assert ending(Retry()).pause == 180
    assert ending(Retry(), options={"default_retry_delay": 2}).pause == 2
    assert ending(Retry(), default_retry_delay=b"7000").pause == 7


def test_an_eta_is_a_moment_of_the_server():
    moment = datetime(2030, 1, 1, tzinfo=UTC)

    assert ending(Retry(eta=moment)).then.moment == moment.timestamp() * 1000
    assert ending(Retry(eta=moment.replace(tzinfo=None))).then.moment == 1893456000000
    assert ending(Retry(eta=moment)).pause is None


@pytest.mark.parametrize(
    ("options", "fields", "last"),
    [({}, {}, 3), ({"max_retries": 1}, {}, 1), ({}, {"max_retries": b"0"}, 0)],
    ids=["the default", "of the task", "of the call"],
)
def test_a_task_is_tried_again_so_often_and_then_fails(options, fields, last):
    tries = [
        ending(Retry(exc=ValueError("no")), options=options, retries=b"%d" % n, **fields).state
        for n in range(last + 1)
    ]
    assert tries == [b"RETRY"] * last + [b"FAILURE"]


def test_for_ever_is_for_ever():
    assert ending(Retry(), options={"max_retries": None}, retries=b"100000").state == b"RETRY"
    assert ending(Retry(), max_retries=b"none", retries=b"100000").state == b"RETRY"
    assert ending(Retry(max_retries=None), retries=b"100000").state == b"RETRY"


@pytest.mark.parametrize(
    "handed_on", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))]
)
def test_a_retry_may_come_from_another_process(handed_on):
    asked = handed_on(Retry(countdown=4, priority=7))

    assert (ending(asked).pause, ending(asked).state) == (4, b"RETRY")
    assert b"priority" in ending(asked).then.changes
    assert ending(handed_on(Retry()), retries=b"3").state == b"FAILURE"


def test_what_was_given_is_raised_in_the_end_else_that_it_was_tried_too_often():
    given = ending(Retry(exc=KeyError("x")), retries=b"3")
    handled = Retry(exc=KeyError("x"))
    handled.final = None

    assert record(given)[b"error_type"] == b"KeyError"
    assert record(ending(handled, retries=b"3"))[b"error_type"].endswith(
        MaxRetriesExceeded.__name__.encode()
    )
    assert b"'x'" in record(ending(handled, retries=b"3"))[b"error"]


def test_an_exception_may_be_tried_again_by_itself():
    options = {"autoretry_for": (OSError,), "retry_backoff": 2, "retry_jitter": False}

    assert ending(TimeoutError("slow"), options=options, retries=b"2").pause == 8
    assert ending(ValueError("no"), options=options).state == b"FAILURE"
    assert record(ending(OSError("x"), options=options, retries=b"3"))[b"error_type"] == b"OSError"


def test_a_call_may_say_what_is_tried_again():
    outcome = ending(OSError("x"), autoretry_for=b"OSError ValueError", retry_backoff=b"4000")

    assert outcome.pause == 4.0


@pytest.mark.parametrize("odd", [b"many", b"", b"-1", b"1e3", "½".encode()])
def test_what_makes_no_sense_in_a_message_is_passed_over(odd):
    fields = dict.fromkeys(("max_retries", "default_retry_delay", "retries"), odd)

    outcome = ending(Retry(), **fields)

    assert (outcome.state, outcome.pause) == (b"RETRY", 180)


def test_a_retry_may_change_its_message():
    outcome = ending(Retry(args=(1,), kwargs={"x": 2}, priority=7, expires=9, queue="slow"))

    assert (outcome.then.queue, outcome.then.declare) == (b"slow", True)
    assert outcome.then.changes == {
        b"retries": b"1",
        b"args": b"[1]",
        b"kwargs": b'{"x":2}',
        b"priority": b"7",
        b"expires": b"+9000",
    }


def test_a_retry_that_is_raised_again_asks_for_the_same():
    again = Retry(queue="slow", args=(1,))

    assert [ending(again).then.queue for _ in range(2)] == [b"slow"] * 2
    assert ending(again).then.changes == {b"retries": b"1", b"args": b"[1]"}


def test_a_retry_cannot_ask_for_what_it_cannot_have():
    with pytest.raises(TypeError, match="Retry cannot change foo, headers"):
        Retry(headers={"x": 1}, foo=1)
    with pytest.raises(ConfigError, match="countdown and eta exclude each other"):
        Retry(countdown=1, eta=datetime(2030, 1, 1, tzinfo=UTC))


def test_a_retry_that_cannot_be_sent_fails_the_task():
    outcome = ending(Retry(args=(object(),)))

    assert outcome.state == b"FAILURE"
    assert record(outcome)[b"error_type"].endswith(b"EncodeError")


def test_a_signed_message_that_is_changed_is_signed_anew():
    fields = {b"id": b"ID", b"task": b"t", b"args": b"[1]"}
    signature = SEAL.signature(b"ID", b"mail", fields)

    outcome = ending(Retry(args=(2,)), signer=SEAL, args=b"[1]", signature=signature)
    same = ending(Retry(), signer=SEAL, args=b"[1]", signature=signature)

    assert SEAL.check(b"ID", b"mail", {**fields, **outcome.then.changes})
    assert b"signature" not in same.then.changes
    odd = ending(Retry(expires=5), signer=SEAL, args=b"[1]", signature=signature)
    assert b"give the moment" in record(odd)[b"error"]


def test_no_result_is_kept_where_none_is_wanted():
    outcome = ending(Retry(), ignore_result=b"1")

    assert (outcome.state, type(outcome.then)) == (b"", RunLater)


def test_a_rejected_message_goes_to_the_dead_letters_or_back():
    assert ending(Reject("odd")).then == SendToDeadLetters(b"rejected", b"odd")
    assert ending(Reject(requeue=True)).release


def test_a_task_that_was_stopped_was_revoked():
    outcome = ending(Terminated())

    assert (outcome.state, outcome.then) == (b"REVOKED", RemoveRevocation())
    assert record(outcome) == {b"reason": b"terminated"}


def test_a_task_over_its_limit_fails_and_is_tried_again_if_that_was_asked_for():
    failed = ending(Overdue(), time_limit=b"2000")
    asked = ending(Overdue(), options={"autoretry_for": (TimeoutError, TimeLimitExceeded)})
    of_another = ending(TimeLimitExceeded("told by a result"), options=ANYTHING)

    assert record(failed)[b"error_type"].endswith(b"TimeLimitExceeded")
    assert b"2 s" in record(failed)[b"error"]
    assert asked.state == b"RETRY"
    assert of_another.state == b"RETRY"


def test_a_hard_limit_is_not_tried_again_with_everything_else():
    assert ending(Overdue(), options=ANYTHING, time_limit=b"2000").state == b"FAILURE"
    assert ending(Overdue(), autoretry_for=b"Exception", time_limit=b"2000").state == b"FAILURE"


def test_a_soft_limit_is_an_exception_like_others():
    outcome = ending(SoftTimeLimitExceeded("late"))

    assert record(outcome)[b"error_type"].endswith(b"SoftTimeLimitExceeded")


def test_what_expired_follows_the_dead_letter_exchange_alone():
    conf = Config.load({}, None, {}, Path("/nowhere/at/all"))
    payloads = Payloads(accept=("json",), limit=10_000, decompressed_limit=10**6, ratio=100)
    outcomes = Outcomes(Registry(), payloads, conf)

    outcome = outcomes.revoked(Delivery("mail", b"1-1", {}), b"expired")

    assert (outcome.state, outcome.then) == (b"REVOKED", Expire())


def pauses():
    """The pauses of a few tasks that are tried again by themselves, none chosen by the test."""
    options = {**ANYTHING, "retry_backoff": 600}
    return [ending(OSError(), options=options, chance=None).pause for _ in range(8)]


def test_pauses_are_not_those_that_a_seed_of_the_tasks_gives():
    def seeded():
        random.seed(42)
        return pauses()

    assert seeded() != seeded()


def test_pauses_of_processes_that_were_forked_together_are_not_the_same():
    def forked():
        with tempfile.TemporaryFile("w+") as file:
            child = os.fork()
            if not child:
                os.write(file.fileno(), repr(pauses()).encode())
                os._exit(0)
            os.waitpid(child, 0)
            file.seek(0)
            return file.read()

    assert "," in (one := forked())
    assert one != forked()


def test_who_rejects_again_and_again_is_paused_for_longer_each_time():
    def pause(rejections):
        outcome = ending(Reject(requeue=True), **rejections)
        assert outcome.release
        return outcome.pause

    told = [pause({"rejections": b"%d" % number}) for number in range(1, 14)]
    assert pause({}) == 0
    assert told[:6] == [0, 0, 0.1, 0.2, 0.4, 0.8]
    assert told[-3:] == [25.6, 30, 30]
    assert pause({"rejections": b"9" * 15}) == 30
    assert pause({"rejections": b"odd"}) == 0
