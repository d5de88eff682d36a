"""The project: its settings, its URLs, and the app that runs its tasks."""

from .celery import app as celery_app

__all__ = ("celery_app",)
