"""The class of the tasks of this project."""

import time

from celery import Task
from celery.utils.log import get_task_logger

logger = get_task_logger(__name__)


class ShopTask(Task):
    """Measures each run, and tells the administrators about failures that need a person."""

    abstract = True

    #: Set to True by tasks whose failure somebody has to look at.
    urgent = False

    #: Runs in this process, and the seconds that they took together.
    runs = 0
    busy = 0.0

    def __call__(self, *args, **kwargs):
        began = time.perf_counter()
        try:
            return self.run(*args, **kwargs)
        finally:
            self.runs += 1
            self.busy += time.perf_counter() - began

    def on_success(self, retval, task_id, args, kwargs):
        logger.debug("%s[%s] is done", self.name, task_id)

    def on_retry(self, exc, task_id, args, kwargs, einfo):
        logger.warning("%s[%s] is tried again: %s", self.name, task_id, exc)

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        logger.error("%s[%s] failed: %s", self.name, task_id, exc)
        if self.urgent:
            self.app.send_task("mail.admins", args=(f"{self.name} failed", str(exc)))
