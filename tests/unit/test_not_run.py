"""What receivers learn of messages whose tasks are not run."""

import pytest

from streamq.errors import DecodeError, TaskNotFound
from streamq.execution.not_run import send_revoked
from streamq.serialization.signing import KeyRing, Signer
from streamq.signals import task_rejected, task_revoked, task_unknown
from tests.unit.test_executor import executor, message, run


@pytest.fixture
def told():
    """What receivers of these signals were given."""
    told = []

    def note(signal, **given):
        told.append((signal.name, given))

    signals = (task_unknown, task_rejected, task_revoked)
    for each in signals:
        each.connect(note)
    yield told
    for each in signals:
        each.disconnect(note)


def test_an_unknown_task_is_told_with_its_message(told):
    run(executor(lambda: 1), message(1, task=b"new.task", content=b"\xff"))

    ((name, given),) = told
    assert name == "task_unknown"
    assert (given["sender"], given["name"], given["id"]) == ("here", "new.task", "ID")
    assert isinstance(given["exc"], TaskNotFound)
    assert given["message"] == {
        "id": "ID",
        "queue": "mail",
        "task": "new.task",
        "args": "[1]",
        "content": b"\xff",
    }


@pytest.mark.parametrize(
    "fields", [{"args": b"[1"}, {"args": b"{}"}, {"task": b""}, {"id": b"a:b"}], ids=str
)
def test_a_message_that_cannot_be_read_is_rejected_with_the_reason(told, fields):
    run(executor(lambda: 1), message(**fields))

    ((name, given),) = told
    assert name == "task_rejected"
    assert given["sender"] == "here"
    assert isinstance(given["exc"], DecodeError)
    assert str(given["exc"])


def test_a_message_that_runs_is_told_to_nobody(told):
    run(executor(lambda: 1), message())

    assert told == []


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (b"revoked", (False, None, False)),
        (b"expired", (False, None, True)),
        (b"terminated", (True, 15, False)),
    ],
)
def test_a_revoked_task_is_told_with_its_request(told, reason, expected):
    work, delivery = executor(lambda x: x), message(7)

    send_revoked(work, work.outcomes.revoked(delivery, reason))

    ((name, given),) = told
    assert name == "task_revoked"
    assert given["sender"] is work.tasks.tasks["t"]
    assert (given["request"].id, given["request"].args) == ("ID", (7,))
    assert (given["terminated"], given["signum"], given["expired"]) == expected


def test_no_other_outcome_is_told_as_revoked(told):
    work = executor(lambda x: x)

    send_revoked(work, run(work, message(1, 2, 3)))

    assert told == []


@pytest.mark.parametrize("fields", [{"args": b"[1"}, {"task": b"gone"}], ids=str)
def test_what_cannot_be_decoded_is_told_without_arguments(told, fields):
    work, delivery = executor(lambda x: x), message(7, **fields)

    send_revoked(work, work.outcomes.revoked(delivery, b"revoked"))

    assert told[0][1]["request"].args == ()


def test_what_is_not_signed_is_not_decoded(told):
    work, delivery = executor(lambda x: x), message(7)
    work.signer = Signer(KeyRing({"k": b"a" * 32}), "k", "streamq", required=True)

    send_revoked(work, work.outcomes.revoked(delivery, b"revoked"))

    assert told[0][1]["request"].args == ()
