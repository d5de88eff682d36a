"""What happens to an order, from the click to the parcel."""

from datetime import timedelta

from celery import shared_task
from celery.exceptions import MaxRetriesExceededError
from celery.utils.log import get_task_logger
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from catalog.models import Product
from mail.tasks import confirm_order
from shop.base import ShopTask

from . import payment
from .models import Order

logger = get_task_logger(__name__)


class OutOfStock(Exception):
    """There is less of a product than was ordered."""


@shared_task(bind=True)
def place_order(self, order_id):
    """Reserve, then let the other tasks charge and confirm; they know which task sent them."""
    reserve_stock(order_id)
    charge_card.delay(order_id)
    confirm_order.apply_async(
        args=(order_id,), kwargs={"placed_by": self.request.id}, countdown=0.1, expires=3600
    )
    return order_id


@shared_task(throws=(OutOfStock,))
def reserve_stock(order_id):
    """Take the products of an order from the stock."""
    order = Order.objects.get(pk=order_id)
    with transaction.atomic():
        enough = Product.objects.filter(pk=order.product_id, stock__gte=order.quantity)
        if not enough.update(stock=F("stock") - order.quantity):
            raise OutOfStock(f"order {order_id}: fewer than {order.quantity} are left")


@shared_task(bind=True, base=ShopTask, urgent=True, max_retries=3, default_retry_delay=0.1)
def charge_card(self, order_id):
    """Charge the card.  A service that is down is asked again, a card that is refused is not."""
    order = Order.objects.get(pk=order_id)
    try:
        receipt = payment.charge(order.email, order.total)
    except payment.ServiceDown as error:
        logger.warning("attempt %d of %d", self.request.retries + 1, self.max_retries + 1)
        try:
            raise self.retry(countdown=0.1 * 2**self.request.retries)
        except MaxRetriesExceededError:
            cancel_order.delay(order_id, reason=str(error))
            raise
    Order.objects.filter(pk=order_id).update(status=Order.Status.PAID, receipt=receipt)
    ship_order.apply_async((order_id,), priority=5)
    return receipt


@shared_task(acks_late=True)
def ship_order(order_id):
    """Hand a paid order over to the parcel service; doing it twice changes nothing."""
    paid = Order.objects.filter(pk=order_id, status=Order.Status.PAID)
    return bool(paid.update(status=Order.Status.SHIPPED))


@shared_task(acks_late=True, ignore_result=True)
def cancel_order(order_id, reason=""):
    """Cancel an order, and put its products back."""
    with transaction.atomic():
        order = Order.objects.select_for_update().get(pk=order_id)
        if order.status in (Order.Status.NEW, Order.Status.PAID):
            Product.objects.filter(pk=order.product_id).update(stock=F("stock") + order.quantity)
            order.status = Order.Status.CANCELLED
            order.save(update_fields=["status"])
            logger.info("order %s is cancelled: %s", order_id, reason or "no reason given")


@shared_task(
    bind=True,
    autoretry_for=(payment.ServiceDown,),
    retry_kwargs={"max_retries": 4, "countdown": 0.1},
)
def refund_order(self, order_id):
    """Give the money back; return how many attempts it took."""
    order = Order.objects.get(pk=order_id)
    payment.refund(order.receipt)
    Order.objects.filter(pk=order_id).update(status=Order.Status.REFUNDED)
    return self.request.retries + 1


@shared_task(ignore_result=True)
def expire_unpaid_orders(before=None):
    """Cancel orders that nobody has paid for a day, or that are older than a moment."""
    before = before or timezone.now() - timedelta(days=1)
    for order in Order.objects.filter(status=Order.Status.NEW, created_at__lt=before):
        cancel_order.apply_async((order.pk,), {"reason": "not paid in time"}, priority=1)
