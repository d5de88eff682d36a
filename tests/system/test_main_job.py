"""The main job: a call goes through an exchange to a worker, and its result comes back."""

import threading

import pytest

import streamq
from streamq.errors import QueueFull, ResultTimeout, TaskError

CELERY_ARTICLE = """
import os
import streamq
from streamq import App, Exchange, Queue

app = App("celery_demo", url=os.environ["STREAMQ_URL"])
app.conf.task_serializer = "pickle"
app.conf.accept_content = ["json", "pickle"]
demo_exchange = Exchange("ex_demo", type="direct")
app.queues = [Queue("demo", demo_exchange, routing_key="demo")]


@app.task(acks_late=True)
def add(x, y):
    return x + y
"""

CELERY_PROGRAM = """
from celery_demo import add
print(add.delay(4, 4).get(timeout=20))
routed = {"exchange": "ex_demo", "routing_key": "demo"}
print(add.apply_async((4, 5), acks_late=True, **routed).get(timeout=20))
"""


BASIC = """
@app.task
def add(x, y):
    return x + y

@app.task(bind=True)
def asks_itself(self):
    request = self.request
    return [request.queue, request.exchange, request.routing_key, request.deliveries, request.id]

@app.task
def fail(kind):
    if kind == "key":
        raise KeyError("lost")
    if kind == "own":
        raise type("Odd", (Exception,), {})("hm")
    if kind == "exit":
        sys.exit(3)
    if kind == "interrupt":
        raise KeyboardInterrupt
    if kind == "reject":
        raise streamq.Reject("no use")
    if kind == "ignore":
        raise streamq.Ignore()
    if kind == "bare":
        raise BaseException("bare")

@app.task(ignore_result=True)
def quiet(word):
    note(word)

@app.task(bind=True)
def progress(self):
    self.update_state(meta={"done": 7})
    while not (HERE / "go").exists():
        time.sleep(0.01)
    return "done"

@app.task
def nap(seconds, word="napped"):
    note(f"begin {word}")
    time.sleep(seconds)
    note(f"end {word}")
    return word

@app.task
def pid(number=0):
    return os.getpid()
"""


@pytest.fixture
def basic(site):
    site.write(BASIC)
    return site


def test_many_threads_wait_for_results_on_few_connections(basic):
    basic.worker("-c", 2)
    results = basic.send_many("pid", 60)
    slow = basic.send("nap", 0.3)
    found = []

    def wait_for(result):
        found.append(result.get(timeout=20))

    threads = [threading.Thread(target=wait_for, args=[each]) for each in [*results, *[slow] * 8]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(found) == 68
    assert found.count("napped") == 8
    waiting = [c for c in basic.redis.client_list() if c["name"] == "streamq:waiting"]
    assert len(waiting) == 1


def test_as_completed_gives_the_first_first(basic):
    basic.worker("-c", 3)
    naps = {word: basic.send("nap", s, word) for word, s in [("c", 0.9), ("a", 0.1), ("b", 0.5)]}

    words = [each.get() for each in streamq.as_completed(naps.values(), timeout=20)]

    assert words == ["a", "b", "c"]


@pytest.mark.parametrize("kind", ["exit", "interrupt", "bare"])
def test_no_exception_of_a_task_ends_its_runner(basic, kind):
    worker = basic.worker("-c", 1)
    runners = worker.runners()

    with pytest.raises(TaskError):
        basic.send("fail", kind).get(timeout=10)

    assert worker.runners() == runners
    assert basic.send("pid").get(timeout=10) == runners[0]
    basic.at_rest()


def test_a_rejected_message_becomes_a_dead_letter(basic):
    basic.worker("-c", 1)
    result = basic.send("fail", "reject")

    with pytest.raises(streamq.Reject):
        result.get(timeout=10)

    letter = basic.redis.hgetall(f"{{streamq}}:dead:default:{result.id}")
    assert (letter["dead_reason"], letter["task"]) == ("rejected", "tasks.fail")
    basic.at_rest()


def test_a_message_rejected_for_another_try_runs_again_uncharged(site):
    site.write(
        """
        @app.task(bind=True)
        def again(self):
            note("ran")
            time.sleep(0.1)
            if len((HERE / "notes").read_text().split()) < 3:
                raise streamq.Reject(requeue=True)
            return self.request.deliveries
        """
    )
    site.worker("-c", 1)

    assert site.send("again").get(timeout=10) == 1
    assert site.notes() == ["ran"] * 3
    site.at_rest()


def test_an_ignored_task_leaves_a_record_that_expires(basic):
    basic.worker("-c", 1)
    result = basic.send("fail", "ignore")

    basic.until(lambda: basic.held() == 0, "the message is settled")
    assert basic.redis.ttl(f"{{streamq}}:task:{result.id}") > 0
    basic.at_rest()


def test_a_task_whose_result_is_ignored_writes_nothing(basic):
    basic.worker("-c", 1)

    results = [basic.send("quiet", "psst", ignore_result=True) for _ in range(20)]

    basic.until(lambda: len(basic.notes()) == 20 and basic.held() == 0)
    assert [each.get() for each in results] == [None] * 20
    assert basic.redis.keys("{streamq}:task:*") == []
    basic.at_rest()


def test_progress_is_visible_while_the_task_runs(basic):
    basic.worker("-c", 1)
    result = basic.send("progress")

    basic.until(lambda: result.state == "PROGRESS")
    assert result.info == {"done": 7}
    (basic.folder / "go").touch()

    assert result.get(timeout=10) == "done"
    assert result.state == "SUCCESS"
    basic.at_rest()


def test_a_forgotten_task_ends_the_wait_for_it(basic):
    basic.app.declare([])
    result = basic.send("add", 1, 2)
    raised = []

    def wait():
        try:
            result.get(timeout=20)
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    basic.until(lambda: basic.redis.hget(f"{{streamq}}:task:{result.id}", "waiters"))
    basic.app.result(result.id).forget()
    thread.join(5)

    assert [type(error) for error in raised] == [ResultTimeout]
    assert basic.app.result(result.id).state == "UNKNOWN"


def test_several_queues_are_served_and_priority_goes_first(site):
    site.write(
        """
        app.queues = [Queue("ranked", max_priority=9), Queue("other")]

        @app.task
        def say(word):
            note(word)
        """
    )
    prepare = site.python("from tasks import app; app.declare()")
    assert prepare.communicate(timeout=20)[1] == b""
    order = [0, 9, 3, 5, 0, 9, 1]
    results = [site.send("say", rank, queue="ranked", priority=rank) for rank in order]

    site.worker("-c", 1, "-Q", "ranked,other")
    for result in results:
        result.get(timeout=10)
    site.send("say", "elsewhere", queue="other").get(timeout=10)

    assert site.notes() == ["9", "9", "5", "3", "1", "0", "0", "elsewhere"]
    site.at_rest()


def test_a_full_queue_refuses_and_takes_again_when_there_is_room(site):
    site.write(
        """
        app.queues = [Queue("narrow", max_length=3)]

        @app.task
        def take(number):
            return number
        """
    )
    prepare = site.python("from tasks import app; app.declare()")
    assert prepare.communicate(timeout=20)[1] == b""
    results = [site.send("take", number, queue="narrow") for number in range(3)]
    with pytest.raises(QueueFull):
        site.send("take", 3, queue="narrow")

    site.worker("-c", 1, "-Q", "narrow")

    assert [each.get(timeout=10) for each in results] == [0, 1, 2]
    assert site.send("take", 4, queue="narrow").get(timeout=10) == 4
    site.at_rest()


def test_runners_are_replaced_after_so_many_tasks_and_nothing_is_lost(basic):
    basic.worker("-c", 2, "--max-tasks-per-child", 7)
    results = basic.send_many("pid", 100)

    ran = [each.get(timeout=20) for each in results]

    assert max(ran.count(pid) for pid in ran) <= 7
    basic.at_rest()


def test_a_worker_tells_what_it_is_until_it_is_gone(basic):
    worker = basic.worker("-c", 2, "-n", "w@%h")
    (key,) = basic.redis.keys("{streamq}:worker:w@*")

    about = basic.redis.hgetall(key)
    assert (about["pid"], about["queues"]) == (str(worker.pid), "default")
    assert {f"runner:{pid}" for pid in worker.runners()} <= set(about)
    assert 0 < basic.redis.ttl(key) <= 60

    assert worker.stop() == 0
    assert not basic.redis.exists(key)
    assert basic.redis.zcard("{streamq}:leases") == 0


@pytest.mark.parametrize("late", [True, False], ids=["late", "early"])
def test_a_worker_tells_what_it_runs_however_that_is_acknowledged(basic, late):
    basic.env["STREAMQ_LEASE"] = "1s"
    worker = basic.worker("-c", 1)
    (key,) = basic.redis.keys("{streamq}:worker:*")
    (runner,) = worker.runners()

    result = basic.send("progress", acks_late=late)

    told = f"tasks.progress[{result.id}] "
    basic.until(lambda: told in (basic.redis.hget(key, f"runner:{runner}") or ""), told)
    for mark in basic.redis.keys("{streamq}:started:*"):
        (place,) = basic.redis.hkeys(mark)
        basic.redis.hset(mark, place, "junk")
    basic.until(lambda: late or "a task " in basic.redis.hget(key, f"runner:{runner}"), "junk")
    (basic.folder / "go").touch()
    assert result.get(timeout=10) == "done"
