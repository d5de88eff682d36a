"""Census, rows about signals."""

from streamq.celery import signals
from streamq.celery.contrib.testing.worker import start_worker
from streamq.celery.signals import (
    after_task_publish,
    before_task_publish,
    setup_logging,
    task_failure,
    task_postrun,
    task_prerun,
    task_retry,
    task_revoked,
    task_success,
    worker_process_init,
)

RUN = (task_prerun, task_success, task_failure, task_retry, task_revoked, task_postrun)


def test_row_14_signals_of_publishing_and_running(app):
    seen = []

    def note(signal, sender, **kwargs):
        seen.append((signal.name, getattr(sender, "name", sender)))

    for signal in (before_task_publish, after_task_publish, *RUN):
        signal.connect(note)

    @app.task(name="work")
    def work(fail):
        if fail:
            raise KeyError

    with start_worker(app):
        work.delay(False).get(timeout=5)
        work.delay(True).get(timeout=5, propagate=False)

    published = [("before_task_publish", "work"), ("after_task_publish", "work")]
    assert [each for each in seen if each in published] == published * 2
    assert [name for name, _ in seen if not name.endswith("publish")] == [
        "task_prerun", "task_success", "task_postrun",
        "task_prerun", "task_failure", "task_postrun",
    ]  # fmt: skip
    for signal in (before_task_publish, after_task_publish, *RUN):
        assert signal.disconnect(note)


def test_row_14_every_way_to_connect(app):
    seen = []
    task = app.task(lambda: None, name="mine")
    app.task(lambda: None, name="other")

    @task_prerun.connect
    def bare(sender=None, task_id=None, task=None, args=None, kwargs=None, **kw):
        seen.append("bare")

    @task_prerun.connect()
    def called(**kwargs):
        seen.append("called")

    @task_prerun.connect(sender=task, weak=False, dispatch_uid="one")
    def of_mine(sender, **kwargs):
        seen.append("of mine")

    @task_prerun.connect(sender="mine")
    def of_the_name(sender, **kwargs):
        seen.append("of the name")

    app.tasks["other"].apply()
    task.apply()
    for each in (bare, called, of_the_name):
        task_prerun.disconnect(each, sender="mine" if each is of_the_name else None)
    task_prerun.disconnect(sender=task, dispatch_uid="one")
    task.apply()

    assert seen == ["bare", "called", "bare", "called", "of mine", "of the name"]


def test_row_14_every_signal_of_celery_can_be_connected(monkeypatch):
    for name in signals.__all__:
        signal = getattr(signals, name)
        monkeypatch.setattr(signal, "warned", False, raising=False)

        @signal.connect(weak=True)
        def receiver(**kwargs):
            pass

        assert signal.disconnect(receiver)


def test_row_58_setup_logging(app):
    @setup_logging.connect
    def configure(loglevel=None, logfile=None, format=None, colorize=None, **kwargs):
        pass

    assert setup_logging.links
    assert setup_logging.disconnect(configure)


def test_row_70_worker_process_init():
    @worker_process_init.connect(weak=False)
    def init(*args, **kwargs):
        pass

    assert worker_process_init.disconnect(init)
