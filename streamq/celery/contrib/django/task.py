"""A class of tasks for Django by Celery's name.

Every task has ``delay_on_commit`` and ``apply_async_on_commit`` here; the class is for code that
names it as ``base`` or ``task_cls``.
"""

from streamq.celery.app.task import CeleryTask

__all__ = ["DjangoTask"]


class DjangoTask(CeleryTask):
    """A task that can be sent when a transaction is committed."""
