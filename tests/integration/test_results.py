"""What a result tells: values, exceptions made again, states, copies, and nothing at all."""

import asyncio
import os
import re
import threading
import time

import pytest

import streamq
from streamq import Exchange, Queue, Result, TaskError
from streamq.broker import waiter as waiting
from streamq.cli.enqueue import ending
from streamq.errors import ConfigError, ContentDisallowed, ResultTimeout, TaskNotFound


class Refused(Exception):
    """Needs more to be made than it keeps."""

    def __init__(self, code, *, why):
        super().__init__(code)
        self.why = why


class Mute(Exception):
    """Breaks whoever wants to show it."""

    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class Leaves(BaseException):
    pass


@pytest.fixture
def run(app, drain):
    """Sends a call of a function, runs it, and returns its result."""

    def send_and_run(function, *args, **options):
        result = app.task(name="t", **options)(function).enqueue(*args)
        drain(app)
        return result

    return send_and_run


def test_the_command_line_shows_an_error_that_cannot_be_shown(run, capsys):
    def boom():
        raise Mute

    said = ending(run(boom), 5.0, quiet=False)

    assert said["error"] == "Mute: <Mute; its __str__ raised RuntimeError>"
    assert said["error"] in capsys.readouterr().err


def fails(error):
    def task():
        raise error

    return task


# values and states


def test_a_value_comes_back(run):
    result = run(lambda: {"a": [1, 2.5, None]})

    assert result.get(timeout=1) == {"a": [1, 2.5, None]}
    assert (result.state, result.ready(), result.successful(), result.failed()) == (
        *("SUCCESS", True, True),
        False,
    )
    assert result.info == {"a": [1, 2.5, None]}
    assert result.traceback is None


def test_nothing_is_a_value(run):
    assert run(lambda: None).get(timeout=1) is None


@pytest.mark.parametrize("size", [4000, 5000, 500_000])
def test_big_values_come_back(run, size):
    assert run(lambda: "x" * size).get(timeout=1) == "x" * size


def test_a_result_is_found_by_its_id_elsewhere(run, make_app):
    result = run(lambda: 5)

    other = make_app().result(result.id)

    assert other == result
    assert hash(other) == hash(result)
    assert other.get(timeout=1) == 5
    assert isinstance(other, Result)


def test_the_record_is_readable_and_expires(run, redis, app):
    result = run(lambda: {"a": 1}, result_expires=60)

    record = redis.hgetall(app.broker.keys.task(result.id))
    assert record["state"] == "SUCCESS"
    assert record["result"] == '{"a":1}'
    assert record["worker"].startswith("worker@test:")
    assert 50_000 < redis.pttl(app.broker.keys.task(result.id)) <= 60_000


def test_an_id_without_a_record_is_unknown(app):
    result = app.result("nobody-sent-this")

    assert (result.state, result.ready(), result.info, result.traceback) == (
        *("UNKNOWN", False),
        *(None, None),
    )
    assert result.copies == {}


def numbers():
    yield 1


@pytest.mark.parametrize(
    "value",
    [numbers(), threading.Lock(), lambda: 1, float("nan"), {1: 2}, {"a": [object()]}, "\ud800"],
    ids=["generator", "lock", "function", "nan", "key", "nested", "surrogate"],
)
def test_whatever_cannot_be_written_fails_its_task_and_no_other(run, app, redis, value):
    with pytest.raises(streamq.EncodeError):
        run(lambda: value).get(timeout=1)

    assert redis.xlen(app.broker.keys.queue("default")) == 0
    assert app.result("x").state == "UNKNOWN"


def test_a_result_that_expired_before_it_was_read_ends_the_wait(
    app, drain, eventually, redis, monkeypatch
):
    monkeypatch.setattr(waiting, "RECHECK", 0.2)
    monkeypatch.setattr(waiting, "LONGEST_BLOCK", 0.1)
    result = app.task(name="t", result_expires=0.05)(lambda: 1).enqueue()
    drain(app)
    eventually(lambda: not redis.exists(app.broker.keys.task(result.id)))

    began = time.monotonic()
    with pytest.raises(ResultTimeout, match="no such task is known"):
        result.get(timeout=6)

    assert time.monotonic() - began < 5
    assert app.result(result.id).state == "UNKNOWN"


def test_a_forgotten_result_is_unknown(run, app, redis):
    result = run(lambda: 5)

    result.forget()

    assert result.state == app.result(result.id).state == "UNKNOWN"
    assert result.info is None
    assert not redis.exists(app.broker.keys.task(result.id))


# exceptions


@pytest.mark.parametrize("error", [ValueError("bad", 1), KeyError("k"), ZeroDivisionError()])
def test_what_the_task_raised_is_raised(run, error):
    with pytest.raises(type(error)) as raised:
        run(fails(error)).get(timeout=1)

    assert type(raised.value) is type(error)
    assert raised.value.args == error.args
    assert "in task" in str(raised.value.__cause__)


def test_a_failed_result_tells_what_happened(run):
    result = run(fails(ValueError("bad")))

    assert (result.state, result.failed(), result.successful()) == ("FAILURE", True, False)
    assert isinstance(result.info, ValueError)
    assert "ValueError: bad" in result.traceback


def test_an_os_error_comes_back_as_its_subclass(run):
    with pytest.raises(FileNotFoundError) as raised:
        run(lambda: os.stat("/no/such/file")).get(timeout=1)

    assert raised.value.errno == 2


def test_an_exception_with_an_init_of_its_own_comes_back(run):
    with pytest.raises(Refused) as raised:
        run(fails(Refused(7, why="odd"))).get(timeout=1)

    assert raised.value.args == (7,)
    assert not hasattr(raised.value, "why")


def test_an_exception_that_cannot_be_written_keeps_its_text(run):
    with pytest.raises(ValueError, match="<object object"):
        run(fails(ValueError(object()))).get(timeout=1)


def test_a_class_that_is_not_loaded_is_a_task_error(run):
    local = type("Local", (Exception,), {"__module__": "not.loaded.here"})

    with pytest.raises(TaskError, match=r"not\.loaded\.here\.Local: text") as raised:
        run(fails(local("text"))).get(timeout=1)

    assert raised.value.type == "not.loaded.here.Local"
    assert raised.value.message == "text"
    assert "Local: text" in raised.value.traceback


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_what_would_end_this_process_is_never_raised_in_it(run, error):
    with pytest.raises(TaskError, match=type(error).__name__):
        run(fails(error)).get(timeout=1)


def test_an_unknown_task_says_so(make_app, drain):
    app = make_app(unknown_task_patience=0)
    result = app.enqueue("no.such.task")
    drain(app)

    with pytest.raises(TaskNotFound, match=r"no task named 'no\.such\.task'"):
        result.get(timeout=1)


def test_a_value_that_cannot_be_written_fails_its_task(run):
    with pytest.raises(streamq.EncodeError):
        run(lambda: object()).get(timeout=1)


def test_a_result_over_the_limit_fails_its_task(make_app, drain):
    app = make_app(result_limit="1KiB")
    result = app.task(name="t")(lambda: "x" * 2000).enqueue()
    drain(app)

    with pytest.raises(streamq.EncodeError, match="over the limit"):
        result.get(timeout=1)


def test_a_result_of_a_type_that_is_not_accepted_is_not_decoded(make_app, drain):
    worker = make_app(result_serializer="pickle", accept_content=["json", "pickle"])
    result = worker.task(name="t")(lambda: 1).enqueue()
    drain(worker)

    assert worker.result(result.id).get(timeout=1) == 1
    with pytest.raises(ContentDisallowed):
        make_app().result(result.id).get(timeout=1)


# no result


def test_an_ignored_result_is_none_at_once_and_leaves_nothing(app, drain, redis):
    result = app.task(name="t", ignore_result=True)(lambda: 5).enqueue()

    assert result.get(timeout=0) is None
    assert not redis.keys(app.broker.keys.task("*"))
    assert drain(app) == 1
    assert not redis.keys(app.broker.keys.task("*"))


# copies


@pytest.fixture
def fanout(app):
    exchange = Exchange("ex", type="fanout")
    app.queues = [Queue("one", exchange), Queue("two", exchange)]
    app.declare()
    return app


def where():
    return streamq.current_task().request.queue


def test_a_message_for_several_queues_has_a_result_for_each(fanout, drain):
    result = fanout.task(name="t", exchange="ex")(where).enqueue()

    assert {queue: copy.id for queue, copy in result.copies.items()} == {
        "one": f"{result.id}@one",
        "two": f"{result.id}@two",
    }
    assert result.state == "QUEUED"
    drain(fanout)
    assert result.state == "SUCCESS"
    assert result.successful()
    assert result.get(timeout=1) == {"one": "one", "two": "two"}
    assert result.copies["two"].get(timeout=1) == "two"


def test_copies_are_known_from_the_id_alone(fanout, drain, make_app):
    result = fanout.task(name="t", exchange="ex")(where).enqueue()
    drain(fanout)

    other = make_app().result(result.id)

    assert set(other.copies) == {"one", "two"}
    assert (other.state, other.ready()) == ("SUCCESS", True)
    assert other.get(timeout=1) == {"one": "one", "two": "two"}


def test_the_first_failure_is_raised(fanout, drain):
    def fail_in_two():
        if where() == "two":
            raise ValueError("two")
        return "fine"

    result = fanout.task(name="t", exchange="ex")(fail_in_two).enqueue()
    drain(fanout)

    assert result.state == "FAILURE"
    assert result.failed()
    with pytest.raises(ValueError, match="two"):
        result.get(timeout=1)


def test_a_forgotten_fan_out_is_forgotten_whole(fanout, drain, redis):
    result = fanout.task(name="t", exchange="ex")(where).enqueue()
    drain(fanout)
    assert result.successful()

    result.forget()

    assert result.state == "UNKNOWN"
    assert not redis.keys(fanout.broker.keys.task("*"))


def test_one_queue_has_no_copies(run):
    assert run(lambda: 1).copies == {}


# inside a task


def test_a_task_may_tell_where_it_stands(app, working):
    @app.task(bind=True)
    def work(self):
        self.update_state("HALF", {"done": 1})
        seen = app.result(self.request.id)
        return [seen.state, seen.info, seen.ready()]

    with working(app):
        assert work.enqueue().get(timeout=5) == ["HALF", {"done": 1}, False]


def test_meta_may_have_the_encoding_of_results(make_app, working):
    app = make_app(result_serializer="msgpack", accept_content=["json", "msgpack"])

    @app.task(bind=True)
    def work(self):
        self.update_state("HALF", {"done": b"\0"})
        return app.result(self.request.id).info

    with working(app):
        assert work.enqueue().get(timeout=5) == {"done": b"\0"}


@pytest.mark.parametrize("state", ["SUCCESS", "STARTED", "UNKNOWN"])
def test_a_task_may_not_give_itself_our_states(run, state):
    with pytest.raises(ConfigError, match=f"update_state cannot set {state}"):
        run(lambda: streamq.current_task().update_state(state)).get(timeout=1)


def test_waiting_inside_a_task_is_refused_unless_asked_for(app, drain):
    done = app.task(name="done")(lambda: 5).enqueue()
    drain(app)
    waits = app.task(name="waits")(lambda join: app.result(done.id).get(1, allow_join=join))
    refused, allowed = waits.enqueue(False), waits.enqueue(True)
    drain(app)

    with pytest.raises(RuntimeError, match="allow_join=True"):
        refused.get(timeout=1)
    assert allowed.get(timeout=1) == 5


# what is not there yet, or late


def test_a_timeout_says_where_the_task_is(app):
    result = app.enqueue("shop.add")

    with pytest.raises(ResultTimeout) as late:
        result.get(timeout=0.05)

    text = str(late.value)
    assert text.startswith(f"no result of {result.id} within 0.05 s\n")
    assert re.search(r"state +QUEUED", text)
    assert re.search(r"task +shop\.add", text)
    assert re.search(r"queue +default", text)
    assert "no worker reads default: streamq worker -Q default" in text
    assert isinstance(late.value, TimeoutError)


@pytest.mark.parametrize(
    ("queues", "up_for", "said"),
    [
        ("mail", 60, "is a worker running?"),
        ("other mail", 60, "is a worker running?"),
        ("other", 60, "no worker reads mail: streamq worker -Q mail"),
        ("mailbox", 60, "no worker reads mail: streamq worker -Q mail"),
        ("mail", -60, "no worker reads mail: streamq worker -Q mail"),
    ],
)
def test_a_timeout_says_if_no_living_worker_reads_the_queue(app, redis, queues, up_for, said):
    keys = app.broker.keys
    redis.zadd(keys.workers, {"w@h": (time.time() + up_for) * 1000})
    redis.hset(keys.worker("w@h"), "queues", queues)
    result = app.enqueue(app.signature("shop.add", queue="mail"))

    with pytest.raises(ResultTimeout, match=re.escape(said)):
        result.get(timeout=0.05)
    with pytest.raises(ResultTimeout, match=re.escape(said)):
        asyncio.run(awaited(app, result))


async def awaited(app, result):
    try:
        return await result.aget(timeout=0.05)
    finally:
        await app.aclose()


def test_who_may_not_know_the_workers_is_told_nothing_of_them(app, redis):
    redis.set(app.broker.keys.workers, "not ours")

    with pytest.raises(ResultTimeout, match=r"is a worker running\?"):
        app.enqueue("shop.add").get(timeout=0.05)


def test_a_timeout_for_an_unknown_id_says_that(app):
    with pytest.raises(ResultTimeout, match="no such task is known"):
        app.result("nobody-sent-this").get(timeout=0.05)
