"""Writes down what happens to tasks, and for whom."""

import os

from celery.signals import (
    before_task_publish,
    task_failure,
    task_postrun,
    task_prerun,
    task_retry,
    worker_process_init,
)

from .middleware import current_user
from .models import Entry


def keep(event, task, task_id, detail=""):
    user = getattr(task.request, "requested_by", None) or ""
    Entry.objects.create(event=event, task=task.name, task_id=task_id, user=user, detail=detail)


@before_task_publish.connect
def add_user(headers=None, **kwargs):
    """Send the name of the user with the task."""
    if user := current_user.get():
        headers["requested_by"] = user


@task_prerun.connect
def restore_user(task=None, **kwargs):
    """Let tasks that this one sends have the same user."""
    if user := getattr(task.request, "requested_by", None):
        current_user.set(user)


@task_postrun.connect
def note_end(task_id=None, task=None, state=None, **kwargs):
    current_user.set("")
    keep("ended", task, task_id, detail=state or "")


@task_retry.connect
def note_retry(request=None, reason=None, sender=None, **kwargs):
    keep("retried", sender, request.id, detail=str(reason))


@task_failure.connect(dispatch_uid="audit-failure")
def note_failure(task_id=None, exception=None, sender=None, **kwargs):
    keep("failed", sender, task_id, detail=f"{type(exception).__name__}: {exception}")


@worker_process_init.connect(weak=False)
def note_process(**kwargs):
    Entry.objects.create(event="process", task="", task_id="", detail=str(os.getpid()))
