"""A real worker of an app of streamq.celery: shared tasks, classes, signals, late binding."""

PROJECT = '''
import os

from streamq.celery import Celery, Task, current_app, current_task, shared_task
from streamq.celery.signals import task_postrun, worker_process_init
from streamq.celery.utils.log import get_task_logger

logger = get_task_logger(__name__)


@shared_task(bind=True, max_retries=1)
def early(self, x):
    """Made before there is an app."""
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    logger.info("early %s", x)
    return x, self.request.retries, current_app.main, current_task.name


class Counting(Task):
    def __init__(self):
        self.count = 0


app = Celery("proj", broker=os.environ["STREAMQ_URL"])
app.conf.update(task_track_started=True, my_own="kept")


@app.task(base=Counting, bind=True)
def count(self):
    self.count += 1
    return self.count


@app.task(ignore_result=True)
def note(word):
    with open("notes", "a") as file:
        file.write(word)


@worker_process_init.connect
def begin(**kwargs):
    note.run("began ")


@task_postrun.connect(sender=early)
def after(sender, state, **kwargs):
    note(f"{sender.name} {state} ")
'''


def test_a_worker_runs_the_tasks_of_a_celery_project(site):
    """Starts a worker: two seconds."""
    site.write(PROJECT, header="")
    worker = site.worker("-c", 1, "--loglevel", "info")
    app = site.new_app(task_default_queue="celery")

    assert app.enqueue("tasks.early", 7).get(timeout=20) == [7, 1, "proj", "tasks.early"]
    assert [app.enqueue("tasks.count").get(timeout=20) for _ in range(2)] == [1, 2]
    assert worker.stop() == 0
    notes = site.folder.joinpath("notes").read_text()
    assert "tasks.early RETRY tasks.early SUCCESS " in notes
    assert "early 7" in worker.said
    assert "ack early (Celery's default; acks_late=True is streamq's)" in worker.said
