"""Tests of the shop, without a worker and without Redis."""

from unittest.mock import patch

from django.core import mail
from django.test import TestCase, override_settings

from orders.models import Order
from orders.tasks import forget_unconfirmed


@override_settings(STREAMQ={"TASK_ALWAYS_EAGER": True, "TASK_EAGER_PROPAGATES": True})
class OrderTests(TestCase):
    """Orders whose tasks run in the test."""

    def place(self) -> str:
        """Place an order; return the address of its page."""
        with self.captureOnCommitCallbacks(execute=True):
            answer = self.client.post("/orders/", {"customer": "ana@example.org"})
        self.assertEqual(answer.status_code, 202)
        return answer.json()["order"]

    def test_an_order_is_confirmed_by_mail(self) -> None:
        order = self.client.get(self.place()).json()

        self.assertTrue(order["confirmed"])
        self.assertEqual(mail.outbox[0].to, ["ana@example.org"])

    def test_an_order_that_fails_sends_no_mail(self) -> None:
        with patch.object(Order, "save", side_effect=RuntimeError), self.assertRaises(RuntimeError):
            self.place()

        self.assertEqual(mail.outbox, [])

    def test_old_orders_are_forgotten(self) -> None:
        Order.objects.create(customer="ben@example.org")

        self.assertEqual(forget_unconfirmed(days=1), 0)
        self.assertEqual(forget_unconfirmed(days=-1), 1)
