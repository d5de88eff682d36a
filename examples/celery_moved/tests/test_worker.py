"""Tasks that a worker runs: in a thread of the test, by way of Redis."""

import time
from datetime import timedelta
from decimal import Decimal
from unittest import mock

import pytest
from celery.result import AsyncResult
from django.core import mail
from django.utils import timezone

from audit.models import Entry
from catalog.tasks import set_price, update_search_index
from orders.models import Order
from orders.tasks import charge_card, place_order
from reports.tasks import sales_report

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("celery_worker")]


def wait_for(condition, seconds=20):
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def test_an_order_goes_its_way(order):
    result = place_order.delay(order.pk)
    assert result.get(timeout=20) == order.pk
    wait_for(lambda: Order.objects.get().status == Order.Status.SHIPPED)
    wait_for(lambda: mail.outbox)
    assert mail.outbox[0].to == ["ada@example.com"]
    assert Entry.objects.filter(task="orders.tasks.place_order", task_id=result.id).exists()


def test_what_a_request_sends_is_done_for_its_user(client, tea):
    given = {"email": "ada@example.com", "product": tea.pk}
    made = client.post("/orders/", given, "application/json", headers={"X-User": "ada"}).json()
    wait_for(lambda: client.get(f"/orders/{made['id']}/").json()["status"] == "shipped")
    wait_for(lambda: Entry.objects.filter(task="orders.tasks.ship_order").exists())
    assert set(Entry.objects.exclude(task="").values_list("user", flat=True)) == {"ada"}


def test_dates_and_decimals_arrive_as_what_they_are(tea):
    moment = timezone.now() - timedelta(minutes=1)
    changed = set_price.delay(tea.pk, Decimal("5.25"), valid_from=moment).get(timeout=20)
    assert changed["old"] == Decimal("4.50")
    assert 60 < changed["late_by"] < 120


def test_the_page_follows_a_report_to_its_end(client, order):
    started = client.post("/reports/sales/")
    assert started.status_code == 202
    page = started.json()["status_url"]
    wait_for(lambda: client.get(page).json()["ready"])
    answer = client.get(page).json()
    assert answer["state"] == "SUCCESS"
    assert answer["result"]["sold"] == {"Tea": 2}
    assert answer["done_at"].startswith("20")


def test_the_page_shows_why_a_report_failed(client, db):
    task_id = client.post("/reports/sales/").json()["id"]
    page = f"/reports/status/{task_id}/"
    wait_for(lambda: client.get(page).json()["ready"])
    answer = client.get(page).json()
    assert answer["state"] == "FAILURE"
    assert answer["error"] == "ValueError: there are no orders to report"
    assert "sales_report" in answer["traceback"]


def test_an_unknown_report_is_pending(client):
    answer = client.get("/reports/status/nobody-knows-this/").json()
    assert answer == {
        "id": "nobody-knows-this",
        "state": "PENDING",
        "ready": False,
        "note": "waiting, or not known",
    }


def test_progress_is_seen_while_the_task_runs(order):
    seen = []

    def look(*args, **kwargs):
        seen.append(AsyncResult(result.id).state)
        return mock.DEFAULT

    with mock.patch("reports.tasks.Report.objects.create", side_effect=look) as create:
        create.return_value.pk = 7
        result = sales_report.apply_async()
        assert result.get(timeout=20)["report"] == 7
    assert seen == ["PROGRESS"]


def test_a_task_that_ignores_itself_keeps_its_state(db):
    result = update_search_index.delay()
    wait_for(lambda: result.state == "SKIPPED")
    assert result.info == {"previous": "SUCCESS"}


def test_a_mock_is_seen_by_the_worker_and_the_hooks_run(order):
    with mock.patch("orders.payment.charge", return_value="R-mock"):
        assert charge_card.delay(order.pk).get(timeout=20) == "R-mock"
    assert charge_card.runs >= 1
    ended = {"event": "ended", "task": charge_card.name, "detail": "SUCCESS"}
    wait_for(lambda: Entry.objects.filter(**ended).exists())
