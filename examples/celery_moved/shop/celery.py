"""The app of the project.  Its settings are Django's that begin with CELERY_."""

import logging.config
import os

from celery import Celery
from celery.schedules import crontab
from celery.signals import setup_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

app = Celery("shop", task_cls="shop.base:ShopTask")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@app.on_after_configure.connect
def add_reports(sender, **kwargs):
    """Let a report be made every Monday, beside what the settings have."""
    monday = crontab(minute=0, hour=8, day_of_week="mon")
    report = sender.signature("reports.tasks.sales_report")
    sender.add_periodic_task(monday, report, name="weekly-sales-report")


@setup_logging.connect
def configure_logging(**kwargs):
    """Let workers log as the web server does."""
    from django.conf import settings

    logging.config.dictConfig(settings.LOGGING)


@app.task(bind=True, ignore_result=True)
def debug_task(self):
    """Print what a worker knows about the task that it runs."""
    print(f"Request: {self.request!r}")
