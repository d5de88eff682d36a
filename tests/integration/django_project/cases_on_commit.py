"""Calls that wait for a commit; Django's test runner runs these."""

import asyncio
import os
from unittest.mock import patch

from django.db import connection, transaction
from django.db.transaction import TransactionManagementError
from django.test import Client, TestCase, TransactionTestCase, override_settings
from django.utils.functional import SimpleLazyObject
from shop.models import Order
from shop.tasks import add, choose, ship

import streamq
from streamq.contrib.django import app
from streamq.signals import PUBLISH_SIGNALS


class CommitCases(TransactionTestCase):
    databases = ("default", "other")

    def sent(self, result):
        """Whether the call has been sent, by what Redis has."""
        return app.result(result.id).state == "QUEUED"

    def test_a_call_is_sent_when_its_transaction_commits(self):
        with transaction.atomic():
            result = add.enqueue_on_commit(1, 2)
            self.assertEqual(result.state, "UNKNOWN")
            self.assertFalse(self.sent(result))
        self.assertEqual(result.state, "QUEUED")
        self.assertTrue(self.sent(result))

    def test_every_way_to_ask_for_it(self):
        with transaction.atomic():
            results = [
                add.enqueue_on_commit(1, y=2),
                add.delay_on_commit(1, 2),
                add.apply_async_on_commit((1, 2)),
                add.apply_async_on_commit(kwargs={"x": 1, "y": 2}, queue="mail"),
                add.options(queue="mail").enqueue_on_commit(1, 2),
                add.options(on_commit=True).enqueue(1, 2),
                add.apply_async((1, 2), on_commit="default"),
                app.enqueue(app.signature("shop.tasks.add", (1, 2), on_commit=True)),
                ship.enqueue(1),
            ]
            self.assertFalse(any(map(self.sent, results)))
        self.assertTrue(all(map(self.sent, results)))

    def test_a_rollback_drops_the_call(self):
        with self.assertRaises(ZeroDivisionError), transaction.atomic():
            result = add.enqueue_on_commit(1, 2)
            _ = 1 / 0
        self.assertFalse(self.sent(result))
        with self.assertRaisesRegex(RuntimeError, "was not sent: its transaction was rolled back"):
            result.get(timeout=1)

    def test_get_inside_of_the_transaction_says_why_it_would_never_end(self):
        with transaction.atomic():
            result = add.enqueue_on_commit(1, 2)
            for wait in (result.get, result.wait):
                with self.assertRaisesRegex(RuntimeError, "is sent when the transaction commits"):
                    wait(timeout=1)
            with self.assertRaisesRegex(RuntimeError, "is sent when"):
                asyncio.run(result.aget(timeout=1))
            with self.assertRaisesRegex(RuntimeError, "is sent when"):
                list(streamq.as_completed([result], timeout=1))

    def test_a_call_that_is_revoked_before_its_commit_is_not_sent(self):
        with transaction.atomic():
            result = add.enqueue_on_commit(1, 2)
            result.forget()
            with self.assertRaises(streamq.ConfigError):
                result.revoke(terminate=True, signal="SIGNONE")
            result.revoke()
            self.assertEqual(result.state, "REVOKED")
        self.assertFalse(self.sent(result))
        self.assertEqual(list(streamq.as_completed([result], timeout=1)), [result])
        for _ in range(2):
            with self.assertRaises(streamq.Revoked):
                result.get(timeout=1)
        with self.assertRaises(streamq.Revoked):
            asyncio.run(result.aget(timeout=1))

    def test_a_savepoint_drops_its_own_calls_only(self):
        with transaction.atomic():
            outer = add.enqueue_on_commit(1, 2)
            try:
                with transaction.atomic():
                    inner = add.enqueue_on_commit(3, 4)
                    raise ZeroDivisionError
            except ZeroDivisionError:
                pass
            with transaction.atomic():
                kept = add.enqueue_on_commit(5, 6)
            self.assertFalse(self.sent(kept))
        self.assertEqual([self.sent(each) for each in (outer, inner, kept)], [True, False, True])

    def test_outside_of_a_transaction_it_is_sent_at_once(self):
        self.assertTrue(self.sent(add.enqueue_on_commit(1, 2)))
        self.assertTrue(self.sent(ship.enqueue(1)))

    def test_another_database_has_its_own_commit(self):
        with transaction.atomic(using="other"):
            first = add.enqueue_on_commit(1, 2, using="other")
            second = add.apply_async_on_commit((1, 2), using="other")
            at_once = add.enqueue_on_commit(1, 2)
            self.assertEqual([*map(self.sent, (first, second, at_once))], [False, False, True])
        self.assertTrue(self.sent(first) and self.sent(second))

    def test_a_parameter_of_the_task_named_using_stays_one(self):
        with transaction.atomic():
            result = choose.enqueue_on_commit(using="other")
        self.assertTrue(self.sent(result))

    def test_an_unknown_database_is_named(self):
        with self.assertRaisesRegex(streamq.ConfigError, "'elsewhere'.*\n.*default, other"):
            add.enqueue_on_commit(1, 2, using="elsewhere")

    def test_a_call_says_that_it_does_not_wait(self):
        with transaction.atomic():
            self.assertTrue(self.sent(ship.options(on_commit=False).enqueue(1)))

    def test_the_setting_makes_all_calls_wait(self):
        app.conf.on_commit = True
        self.addCleanup(app.conf.unset, ["on_commit"])
        with transaction.atomic():
            result = add.enqueue(1, 2)
            self.assertFalse(self.sent(result))
        self.assertTrue(self.sent(result))

    def test_many_calls_wait_together(self):
        with transaction.atomic():
            results = app.enqueue_many(
                [*(ship.s(number) for number in range(3)), add.s(1, 2)],
            )
            self.assertEqual([*map(self.sent, results)], [False, False, False, True])
        self.assertTrue(all(map(self.sent, results)))

    def test_wrong_arguments_are_refused_where_the_call_is_made(self):
        order = Order.objects.create()
        with transaction.atomic():
            with self.assertRaises(TypeError):
                add.enqueue_on_commit(1)
            with self.assertRaisesRegex(streamq.EncodeError, "send its pk"):
                add.enqueue_on_commit(1, order)

    def test_what_stands_for_a_model_or_its_rows_is_refused_with_its_pk(self):
        user = SimpleLazyObject(Order.objects.create)
        rows = Order.objects.raw("SELECT id FROM shop_order")
        for given, advice in ((user, "the pk of"), (Order.objects, "the pks"), (rows, "the pks")):
            with self.assertRaisesRegex(streamq.EncodeError, f"send {advice}"):
                add.enqueue(1, given)

    def test_later_changes_of_the_arguments_do_not_reach_the_task(self):
        with transaction.atomic():
            basket = [1]
            result = add.options(task_id="basket").enqueue_on_commit(basket, [2])
            basket.append(3)
        self.assertEqual(result.id, "basket")
        client, keys = app.broker.client, app.broker.keys
        (message,) = (
            dict(zip(fields[::2], fields[1::2], strict=True))
            for _, fields in client.ask("XRANGE", f"{keys.root}:queue:default", "-", "+")
            if b"basket" in fields
        )
        self.assertEqual(message[b"args"], b"[[1],[2]]")

    def test_layers_of_middleware_see_the_call_when_it_is_made(self):
        seen = []

        class Layer(streamq.Middleware):
            def publish(self, call, next):
                seen.append(connection.in_atomic_block)
                return next(call)

        app.middleware = [Layer()]
        self.addCleanup(setattr, app, "middleware", [])
        with transaction.atomic():
            result = add.enqueue_on_commit(1, 2)
        self.assertEqual(seen, [True])
        self.assertTrue(self.sent(result))

    def test_transactions_that_are_managed_by_hand_have_no_commit_to_wait_for(self):
        connection.ensure_connection()
        connection.set_autocommit(False)
        self.addCleanup(connection.set_autocommit, True)
        with self.assertRaises(TransactionManagementError):
            add.enqueue_on_commit(1, 2)

    def test_a_request_is_a_transaction(self):
        id, state = Client().get("/order?note=x").content.decode().split()
        self.assertEqual(state, "UNKNOWN")
        self.assertEqual(app.result(id).state, "QUEUED")
        with self.assertRaises(ValueError) as failed:
            Client().get("/order?note=x&fail=1")
        self.assertEqual(app.result(str(failed.exception)).state, "UNKNOWN")

    def test_from_asyncio_it_is_sent_at_once(self):
        result = asyncio.run(self.send_from_asyncio())
        self.assertTrue(self.sent(result))

    @patch.dict(os.environ, DJANGO_ALLOW_ASYNC_UNSAFE="1")
    def test_in_a_transaction_of_the_event_loop_it_waits(self):
        async def send():
            with transaction.atomic():
                result = await ship.aenqueue(1)
                state = result.state
            connection.close()
            await app.aclose()
            return state, result

        state, result = asyncio.run(send())
        self.assertEqual(state, "UNKNOWN")
        self.assertTrue(self.sent(result))

    def test_signals_of_sending_are_sent_at_the_commit_and_once(self):
        told = []

        def note(signal, headers, **kwargs):
            told.append((signal.name, headers["id"]))

        for signal in PUBLISH_SIGNALS.signals:
            signal.connect(note)
        with transaction.atomic():
            result = add.enqueue_on_commit(1, 2)
            self.assertEqual(told, [])
        names = ["before_task_publish", "after_task_publish"]
        self.assertEqual(told, [(name, result.id) for name in names])

    async def send_from_asyncio(self):
        result = await ship.aenqueue(1)
        await app.aclose()
        return result

    @override_settings(STREAMQ={"TASK_ALWAYS_EAGER": True})
    def test_an_eager_call_runs_at_the_commit(self):
        with transaction.atomic():
            order = Order.objects.create(note="soon")
            result = ship.enqueue(order.pk)
            self.assertEqual(result.state, "UNKNOWN")
        self.assertEqual((result.state, result.get()), ("SUCCESS", "soon"))
        self.assertEqual(ship.enqueue(order.pk).get(), "soon")


class CapturedCases(TestCase):
    """A test that is itself a transaction, which never commits."""

    def test_captured_hooks_send(self):
        with self.captureOnCommitCallbacks(execute=True) as hooks:
            result = add.enqueue_on_commit(1, 2)
        self.assertEqual(len(hooks), 1)
        self.assertEqual(app.result(result.id).state, "QUEUED")

    def test_hooks_that_are_not_run_send_nothing(self):
        with self.captureOnCommitCallbacks() as hooks:
            result = add.enqueue_on_commit(1, 2)
        self.assertEqual(app.result(result.id).state, "UNKNOWN")
        hooks[0]()
        self.assertEqual(result.state, "QUEUED")

    @override_settings(STREAMQ={"TASK_ALWAYS_EAGER": True, "TASK_EAGER_PROPAGATES": True})
    def test_eager_runs_leave_the_transaction_of_the_test_alone(self):
        Order.objects.create(note="here")
        with self.captureOnCommitCallbacks(execute=True):
            result = ship.enqueue(Order.objects.get().pk)
        self.assertEqual(result.get(), "here")
        self.assertEqual(
            ship.options(on_commit=False).enqueue(Order.objects.get().pk).get(), "here"
        )
        self.assertTrue(connection.in_atomic_block)
        self.assertEqual(Order.objects.count(), 1)

    @override_settings(STREAMQ={"TASK_ALWAYS_EAGER": True, "TASK_EAGER_PROPAGATES": True})
    async def test_an_eager_call_from_asyncio_may_use_the_database_of_the_test(self):
        order = await Order.objects.acreate(note="here")
        result = await ship.aenqueue(order.pk)
        self.assertEqual(result.get(), "here")
