"""Reports take a while; a page shows how far they are."""

import time
from collections import Counter
from datetime import timedelta

from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded
from celery.utils.log import get_task_logger
from django.utils import timezone

from orders.models import Order

from .models import Report

logger = get_task_logger(__name__)


@shared_task(bind=True)
def sales_report(self, since=None):
    """Add up what was sold of each product, and say how far it has come."""
    orders = Order.objects.select_related("product").order_by("pk")
    if since is not None:
        orders = orders.filter(created_at__gte=since)
    if not (total := orders.count()):
        raise ValueError("there are no orders to report")
    sold = Counter()
    for done, order in enumerate(orders, 1):
        sold[order.product.name] += order.quantity
        self.update_state(state="PROGRESS", meta={"done": done, "total": total})
    text = "\n".join(f"{name}: {number}" for name, number in sorted(sold.items()))
    report = Report.objects.create(title="Sales", text=text)
    return {"report": report.pk, "orders": total, "sold": dict(sold)}


@shared_task(soft_time_limit=1, time_limit=10)
def forecast(days, seconds_a_day=0.0):
    """Extrapolate the sales, day by day, for as long as there is time."""
    done = 0
    try:
        for _ in range(days):
            time.sleep(seconds_a_day)
            done += 1
    except SoftTimeLimitExceeded:
        logger.warning("the forecast ends after %d of %d days", done, days)
    return {"days": done, "complete": done == days}


@shared_task(ignore_result=True)
def delete_old_reports(days=30):
    """Delete reports of former months."""
    Report.objects.filter(created_at__lt=timezone.now() - timedelta(days=days)).delete()
