"""What runs again and again: the settings and the app name it, and each of it can run."""

from datetime import timedelta

import pytest
from celery import current_app
from celery.schedules import crontab, maybe_schedule
from django.utils import timezone

from orders.models import Order
from reports.models import Report

NAMES = ["delete-old-reports", "expire-unpaid-orders", "index-products", "weekly-sales-report"]


@pytest.fixture
def entries():
    """The entries of beat_schedule, with what functions have added to the settings."""
    current_app.finalize()
    return current_app.conf.beat_schedule


def test_the_settings_and_the_app_name_what_runs(entries):
    assert sorted(entries) == NAMES
    assert entries["expire-unpaid-orders"]["schedule"] == crontab(minute="*/10")
    assert entries["weekly-sales-report"]["schedule"] == crontab(0, 8, day_of_week="mon")
    assert entries["index-products"]["schedule"] == timedelta(hours=6)
    assert entries["index-products"]["options"] == {"queue": "pictures", "priority": 9}


@pytest.mark.parametrize("name", NAMES)
def test_each_is_due_after_a_while_and_names_a_task(entries, name):
    schedule = maybe_schedule(entries[name]["schedule"])
    a_year = timedelta(days=365)

    assert schedule.is_due(timezone.now() - a_year).is_due
    assert 0 <= schedule.is_due(timezone.now() - a_year).next <= 7 * 86_400
    assert entries[name]["task"] in current_app.tasks


def test_what_is_due_does_its_work(eager, entries, order):
    def run(name):
        entry = entries[name]
        task = current_app.tasks[entry["task"]]
        return task.apply(entry.get("args") or (), entry.get("kwargs") or {})

    Order.objects.update(created_at=timezone.now() - timedelta(days=2))
    assert run("weekly-sales-report").result["sold"] == {"Tea": 2}
    Report.objects.update(created_at=timezone.now() - timedelta(days=31))
    for name in ("expire-unpaid-orders", "delete-old-reports"):
        assert run(name).successful()
    assert Order.objects.get().status == Order.Status.CANCELLED
    assert not Report.objects.exists()
