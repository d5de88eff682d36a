"""Mail: every message is a task of its own, so that one bad address holds nobody up."""

from smtplib import SMTPException

from celery import shared_task
from celery.utils.log import get_task_logger
from django.conf import settings
from django.core import mail

from orders.models import Order
from shop.base import ShopTask

from .models import Subscriber

logger = get_task_logger(__name__)


class MailTask(ShopTask):
    """Keeps a connection to the mail server, for all mail that this process sends."""

    abstract = True
    autoretry_for = (SMTPException, OSError)
    retry_kwargs = {"max_retries": 3}
    retry_backoff = 0.1
    retry_backoff_max = 60
    retry_jitter = False

    _connection = None

    @property
    def connection(self):
        if self._connection is None:
            self._connection = mail.get_connection()
        return self._connection

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        if status != "SUCCESS" and self._connection is not None:
            self._connection.close()
            self._connection = None


@shared_task(bind=True, base=MailTask)
def send_mail(self, to, subject, text):
    """Send a message; return its subject."""
    message = mail.EmailMessage(subject, text, to=[to], connection=self.connection)
    message.send()
    return subject


@shared_task
def confirm_order(order_id, placed_by=None):
    """Tell a customer that an order has come in."""
    order = Order.objects.select_related("product").get(pk=order_id)
    text = f"{order.quantity} × {order.product.name}: {order.total} €"
    return send_mail.delay(order.email, f"Your order {order.pk}", text).id


@shared_task
def send_newsletter(subject, text):
    """Send a message to each subscriber, after all other mail; return how many there are."""
    emails = Subscriber.objects.values_list("email", flat=True)
    for email in emails:
        send_mail.apply_async((email, subject, text), priority=9, expires=86_400)
    return len(emails)


@shared_task(name="mail.admins", ignore_result=True)
def mail_admins(subject, text):
    """Tell the administrators something.  Other programs send this task by its name."""
    mail.send_mail(subject, text, None, [settings.ADMIN_EMAIL])
