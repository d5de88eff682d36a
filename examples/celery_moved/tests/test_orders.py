"""Orders: tasks that run where they are sent, and services that are down."""

from datetime import timedelta
from unittest import mock

import pytest
from celery.exceptions import MaxRetriesExceededError, Retry
from django.core import mail
from django.test import TestCase, override_settings
from django.utils import timezone

from audit.models import Entry
from catalog.models import Product
from orders import payment, tasks
from orders.models import Order


def test_an_order_is_charged_confirmed_and_shipped(eager, order, tea):
    result = tasks.place_order.delay(order.pk)

    assert result.successful()
    assert result.get() == order.pk
    order.refresh_from_db()
    tea.refresh_from_db()
    assert order.status == Order.Status.SHIPPED
    assert order.receipt.startswith("R-")
    assert tea.stock == 8
    assert [message.subject for message in mail.outbox] == [f"Your order {order.pk}"]
    assert mail.outbox[0].body == "2 × Tea: 9.00 €"


def test_an_order_of_too_much_fails(eager, settings, order):
    settings.CELERY_TASK_EAGER_PROPAGATES = False
    Product.objects.update(stock=1)

    result = tasks.reserve_stock.delay(order.pk)

    assert result.state == "FAILURE"
    assert isinstance(result.result, tasks.OutOfStock)
    with pytest.raises(tasks.OutOfStock, match="fewer than 2 are left"):
        result.get()


@override_settings(CELERY_TASK_ALWAYS_EAGER=True)
class Payments(TestCase):
    """What happens when the payment service is down, or refuses."""

    def setUp(self):
        tea = Product.objects.create(name="Tea", price="4.50", stock=10)
        self.order = Order.objects.create(email="ada@example.com", product=tea, quantity=2)
        patch = mock.patch("shop.celery_app.send_task")  # it is never eager
        self.send_task = patch.start()
        self.addCleanup(patch.stop)

    def test_a_service_that_was_down_is_asked_again(self):
        answers = [payment.ServiceDown("503"), payment.ServiceDown("503"), "R-1"]
        with mock.patch("orders.payment.charge", side_effect=answers) as charge:
            assert tasks.charge_card.delay(self.order.pk).get() == "R-1"
        self.assertEqual(charge.call_count, 3)
        self.assertEqual(Entry.objects.filter(event="retried").count(), 2)

    def test_an_order_is_cancelled_when_the_service_stays_down(self):
        with (
            mock.patch("orders.payment.charge", side_effect=payment.ServiceDown("503")) as charge,
            mock.patch("orders.tasks.cancel_order.delay") as cancel,
            self.assertRaises(MaxRetriesExceededError),
        ):
            tasks.charge_card.delay(self.order.pk).get()
        self.assertEqual(charge.call_count, 4)
        cancel.assert_called_once_with(self.order.pk, reason="503")

    def test_a_refused_card_fails_and_is_not_tried_again(self):
        Order.objects.update(email="declined@example.com")
        result = tasks.charge_card.delay(self.order.pk)
        self.assertIsInstance(result.info, payment.CardDeclined)
        failed = Entry.objects.get(event="failed")
        self.assertEqual(failed.task, "orders.tasks.charge_card")
        self.assertEqual(failed.detail, "CardDeclined: declined@example.com")
        self.send_task.assert_called_once_with(
            "mail.admins", args=("orders.tasks.charge_card failed", "declined@example.com")
        )

    @override_settings(CELERY_TASK_EAGER_PROPAGATES=True)
    def test_a_refused_card_is_an_error_where_it_was_sent(self):
        Order.objects.update(email="declined@example.com")
        with self.assertRaises(payment.CardDeclined):
            tasks.charge_card.delay(self.order.pk)


def test_the_retry_is_asked_for_with_growing_pauses(order):
    with (
        mock.patch("orders.payment.charge", side_effect=payment.ServiceDown("503")),
        mock.patch("orders.tasks.charge_card.retry", side_effect=Retry()) as retry,
        pytest.raises(Retry),
    ):
        tasks.charge_card(order.pk)
    retry.assert_called_once_with(countdown=0.1)


def test_a_refund_is_tried_again_by_itself(eager, order):
    answers = [payment.ServiceDown("503"), True]
    with mock.patch("orders.payment.refund", side_effect=answers):
        assert tasks.refund_order.delay(order.pk).get() == 2
    order.refresh_from_db()
    assert order.status == Order.Status.REFUNDED


def test_a_refund_ends_with_the_error_of_the_last_attempt(eager, order):
    with mock.patch("orders.payment.refund", side_effect=payment.ServiceDown("503")) as refund:
        result = tasks.refund_order.apply((order.pk,))
    assert refund.call_count == 5
    assert result.failed()
    assert isinstance(result.result, payment.ServiceDown)


def test_unpaid_orders_are_cancelled_and_go_back_to_the_stock(eager, order, tea):
    before = timezone.now() + timedelta(seconds=1)
    assert tasks.expire_unpaid_orders.delay(before=before).get() is None
    order.refresh_from_db()
    tea.refresh_from_db()
    assert order.status == Order.Status.CANCELLED
    assert tea.stock == 12


def test_the_page_sends_the_task_after_the_commit(client, tea, django_capture_on_commit_callbacks):
    given = {"email": "ada@example.com", "product": tea.pk}
    with (
        mock.patch("orders.tasks.place_order.delay") as delay,
        django_capture_on_commit_callbacks(execute=True),
    ):
        answer = client.post("/orders/", given, "application/json")
        delay.assert_not_called()
    assert answer.status_code == 201
    delay.assert_called_once_with(answer.json()["id"])


def test_a_task_is_a_function_too(order):
    assert tasks.ship_order(order.pk) is False
    assert tasks.ship_order.name == "orders.tasks.ship_order"
    assert tasks.ship_order.acks_late is True
    assert tasks.charge_card.max_retries == 3
