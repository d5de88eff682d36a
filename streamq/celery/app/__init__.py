"""Apps and tasks by Celery's names."""

from streamq.celery.current import app_or_default
from streamq.celery.shared import shared_task

__all__ = ["app_or_default", "shared_task"]
