"""P1 and P2: a call goes through an exchange to a worker, and its result comes back."""

import pytest

from streamq.errors import TaskError
from tests.system.test_main_job import (
    CELERY_ARTICLE,
    CELERY_PROGRAM,
    basic,  # noqa: F401 - a fixture
)


def test_the_program_of_the_celery_article_works(site):
    site.write(CELERY_ARTICLE, name="celery_demo", header="")
    flags = ["-l", "info", "-Q", "demo", "--concurrency=3", "-n", "worker1@%h", "--autoscale=3,1"]
    worker = site.worker(*flags, app="celery_demo")
    assert len(worker.runners()) == 3

    program = site.python(CELERY_PROGRAM)
    out, err = program.communicate(timeout=30)

    assert (out.split(), err) == ([b"8", b"9"], b"")
    assert site.redis.keys("{streamq}:worker:worker1@*")
    assert worker.stop() == 0
    site.at_rest()


def test_hand_typed_messages_run(basic):
    basic.worker("-c", 1)
    add = basic.redis.execute_command
    with_args = add("XADD", "{streamq}:queue:default", "*", "task", "tasks.add", "args", "[1,2]")
    without = add("XADD", "{streamq}:queue:default", "*", "task", "tasks.asks_itself")

    assert basic.app.result(f"default-{with_args}").get(timeout=10) == 3
    asked = basic.app.result(f"default-{without}").get(timeout=10)
    assert asked == ["default", "", "default", 1, f"default-{without}"]
    basic.at_rest()


def test_a_result_is_read_in_another_process(basic):
    basic.worker("-c", 1)
    result = basic.send("add", 1, 2)

    reader = basic.python(
        f"from tasks import app; print(app.result({result.id!r}).get(timeout=10))"
    )

    out, err = reader.communicate(timeout=30)
    assert (out, err) == (b"3\n", b"")


def test_an_exception_comes_back_as_itself_only_if_its_class_is_loaded(basic):
    basic.worker("-c", 1)

    with pytest.raises(KeyError) as known:
        basic.send("fail", "key").get(timeout=10)
    with pytest.raises(TaskError) as unknown:
        basic.send("fail", "own").get(timeout=10)

    assert known.value.args == ("lost",)
    assert "KeyError: 'lost'" in str(known.value.__cause__)
    assert "Odd" in str(unknown.value)
    basic.at_rest()


def test_what_goes_to_several_queues_comes_back_by_queue(site):
    site.write(
        """
        news = Exchange("news", type="fanout")
        app.queues = [Queue("left", news), Queue("right", news)]

        @app.task(bind=True)
        def where(self, fails=""):
            if self.request.queue == fails:
                raise ValueError(fails)
            return self.request.queue
        """
    )
    site.worker("-c", 2)
    well, badly = site.send("where", exchange="news"), site.send("where", "right", exchange="news")

    assert well.get(timeout=10) == {"left": "left", "right": "right"}
    assert well.state == "SUCCESS"
    assert {queue: each.get() for queue, each in well.copies.items()} == well.get()
    with pytest.raises(ValueError, match="right"):
        badly.get(timeout=10)
    assert badly.state == "FAILURE"
    assert site.app.result(well.id).get(timeout=10) == well.get()
    site.at_rest()


def test_a_burst_ends_when_nothing_waits(basic):
    results = basic.send_many("pid", 300)

    worker = basic.worker("-c", 2, "--burst", ready=False)

    assert worker.wait() == 0
    assert all(each.get(timeout=1) for each in results)
    basic.at_rest()
