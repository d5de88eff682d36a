"""What is done outside of requests."""

from datetime import timedelta

from django.core.mail import send_mail
from django.utils import timezone

import streamq
from orders.models import Order

logger = streamq.get_task_logger(__name__)


@streamq.task(bind=True, autoretry_for=(OSError,), retry_backoff=True)
def confirm(self, pk: int) -> str:
    """Confirm an order by mail; a mail server that is away is tried again later."""
    order = Order.objects.get(pk=pk)
    if order.confirmed:  # the message came twice: the first run was lost behind its mail
        return "was confirmed already"
    self.update_state(meta={"doing": "writing the mail"})
    send_mail("Your order", f"We have your order {pk}.", "shop@example.org", [order.customer])
    order.confirmed = timezone.now()
    order.save(update_fields=["confirmed"])
    logger.info("order %d is confirmed", pk)
    return f"mail to {order.customer}"


@streamq.task
def forget_unconfirmed(days: int = 30) -> int:
    """Delete old orders that were never confirmed; return how many."""
    limit = timezone.now() - timedelta(days=days)
    deleted, _ = Order.objects.filter(confirmed=None, placed__lt=limit).delete()
    return deleted
