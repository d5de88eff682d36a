"""A queue that is out of ids: senders hear it by name, the doctor says it, people repair it."""

import asyncio
import os
import subprocess
import threading

import pytest

from streamq import Exchange, OutOfIds, PartlyPublished, Queue
from streamq.admin.doctor.checks import diagnose
from streamq.admin.doctor.gather import GatherFacts
from streamq.admin.repair import Repair, StillHeld
from tests.edits import CHECKOUT
from tests.zygote import start

LAST = f"{2**64 - 1}-{2**64 - 1}"


@pytest.fixture
def mail(make_app):
    """An app with the queue `mail`, one with priorities, and an exchange in front of both."""
    app = make_app()
    events = Exchange("events", type="fanout")
    app.queues = [Queue("mail", events), Queue("ranked", events, max_priority=9)]
    app.ran = []

    @app.task(name="tasks.note")
    def note(number):
        app.ran.append(number)

    app.declare()
    return app


@pytest.fixture
def spend(mail, redis):
    """``spend(stream)`` does what a user that may publish can do by hand."""
    return lambda stream="mail", **options: redis.xadd(
        mail.broker.keys.queue(stream), {"task": "tasks.note", "args": "[-1]"}, id=LAST, **options
    )


def call(app, number=1, **options):
    return app.signature("tasks.note", (number,), **options)


def send_one(app):
    app.enqueue(call(app, queue="mail"))


def send_with_an_id(app):
    app.enqueue(call(app, queue="mail", task_id="chosen"))


def send_many(app):
    with pytest.raises(PartlyPublished) as stopped:
        app.enqueue_many(call(app, number, queue="mail") for number in range(3))
    assert (len(stopped.value.accepted), len(stopped.value.remaining)) == (0, 3)
    raise stopped.value.__cause__


def send_to_all(app):
    app.enqueue(call(app, exchange="events"))


def send_from_asyncio(app):
    async def send():
        try:
            await app.aenqueue(call(app, queue="mail"))
        finally:
            await app.aclose()

    asyncio.run(send())


@pytest.mark.parametrize(
    "send", [send_one, send_with_an_id, send_many, send_to_all, send_from_asyncio]
)
def test_every_way_to_send_names_the_queue_and_writes_nothing(send, mail, spend, redis):
    spend()
    root = mail.broker.keys.root

    with pytest.raises(
        OutOfIds, match=r"queue 'mail' is out of ids[^$]*streamq queues repair mail"
    ):
        send(mail)

    assert redis.keys(f"{root}:task:*") == redis.keys(f"{root}:dedup:*") == []
    assert redis.xlen(mail.broker.keys.queue("mail")) == 1
    assert redis.xlen(mail.broker.keys.queue("ranked")) == 0


def test_after_the_repair_everything_runs_once_in_its_order(mail, spend, drain, redis, monkeypatch):
    for number in range(4):
        mail.enqueue(call(mail, number, queue="mail"))
    spend()
    monkeypatch.setattr("streamq.admin.repair.AT_ONCE", 2)

    done = Repair(mail.broker.client, mail.broker.keys, "mail").run(0)

    assert (done.streams, done.moved, done.kept) == (["mail"], 4, 1)
    send_many_more(mail)
    drain(mail)
    assert mail.ran == [0, 1, 2, 3, -1, 7, 8]


def send_many_more(app):
    assert len(app.enqueue_many(call(app, number, queue="mail") for number in (7, 8))) == 2


def test_a_worker_that_waits_goes_on_after_the_repair(mail, spend, working, eventually):
    """Its blocked read meets a stream that is replaced under it."""
    with working(mail):
        mail.enqueue(call(mail, 1, queue="mail"))
        assert eventually(lambda: mail.ran == [1])
        spend()
        assert eventually(lambda: mail.ran == [1, -1])
        assert eventually(lambda: repaired(mail))
        mail.enqueue(call(mail, 2, queue="mail"))
        assert eventually(lambda: mail.ran == [1, -1, 2])


def repaired(app):
    return Repair(app.broker.client, app.broker.keys, "mail").run(1).streams == ["mail"]


def test_what_runs_during_the_repair_is_settled_once(make_app, working, redis, eventually):
    app, going, starts = make_app(), threading.Event(), []
    app.queues = [Queue("mail")]

    @app.task(name="tasks.hold")
    def hold():
        starts.append(1)
        assert going.wait(10)
        return 5

    with working(app):
        result = app.enqueue(app.signature("tasks.hold", queue="mail"))
        assert eventually(lambda: starts)
        redis.xadd(app.broker.keys.queue("mail"), {"task": "tasks.nothing"}, id=LAST)
        Repair(app.broker.client, app.broker.keys, "mail").run(1)
        going.set()
        assert result.get(timeout=10) == 5
    assert starts == [1]


def test_who_holds_a_message_with_the_last_id_is_waited_for_and_named(mail, spend, redis):
    spend()
    keys = mail.broker.keys
    redis.xreadgroup("workers", "w:1:a", {keys.queue("mail"): ">"})
    redis.zadd(keys.leases, {"w:1:a": 9e15})

    with pytest.raises(StillHeld, match=r"'mail' is not repaired[^$]*w:1:a"):
        Repair(mail.broker.client, keys, "mail").run(0)

    redis.xack(keys.queue("mail"), "workers", LAST)
    redis.xdel(keys.queue("mail"), LAST)
    assert Repair(mail.broker.client, keys, "mail").run(0).streams == ["mail"]


def test_all_streams_of_a_queue_are_repaired(mail, spend, redis):
    streams = ["ranked:returned", "ranked:quarantine", "ranked:p9", "ranked:p3", "ranked"]
    for stream in streams:
        spend(stream)

    done = Repair(mail.broker.client, mail.broker.keys, "ranked").run(0)

    assert (done.streams, done.kept) == (streams, 5)


def test_the_doctor_and_the_command_line_know_it(mail, spend, tmp_path):
    env = {**os.environ, "STREAMQ_URL": mail.url, "STREAMQ_NAMESPACE": mail.conf.namespace}
    told = {"cwd": tmp_path, "env": {**env, "PYTHONPATH": str(CHECKOUT)}, "text": True}

    def repair(queue):
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with start("streamq", ["queues", "repair", queue], **told, **streams) as process:
            return process.communicate(timeout=20)[0], process.returncode

    assert ids_of(mail) == [("ok", "")]
    spend("ranked:p9")
    spend("mail", maxlen=0, approximate=False)

    assert ids_of(mail) == [
        ("problem", "streamq queues repair mail"), ("problem", "streamq queues repair ranked")
    ]  # fmt: skip
    assert repair("mail") == ("fresh: mail with 0 messages\n", 0)
    assert repair("ranked") == ("fresh: ranked:p9 with 1 message\n", 0)
    assert ids_of(mail) == [("ok", "")]
    assert "nothing was to be repaired" in repair("ranked")[0]
    assert repair("nowhere")[1] != 0


def ids_of(app):
    """What a doctor says of the ids of queues."""
    findings = diagnose(GatherFacts(app.broker.client, app.broker.keys).facts())
    return [(each.level, each.advice) for each in findings if each.check == "ids"]
