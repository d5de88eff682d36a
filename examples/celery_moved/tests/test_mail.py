"""Mail: one connection for many messages, and servers that do not answer."""

from smtplib import SMTPServerDisconnected
from unittest import mock

import pytest
from django.core import mail

from mail import tasks
from mail.models import Subscriber


@pytest.fixture
def subscribers(db):
    for name in ("ada", "bob", "eve"):
        Subscriber.objects.create(email=f"{name}@example.com")


def test_a_newsletter_is_a_task_for_each_subscriber(subscribers):
    with mock.patch("mail.tasks.send_mail.apply_async") as apply_async:
        assert tasks.send_newsletter("News", "Tea is here.") == 3
    apply_async.assert_called_with(
        ("eve@example.com", "News", "Tea is here."), priority=9, expires=86_400
    )


def test_all_messages_of_a_process_use_one_connection(eager, subscribers):
    tasks.send_mail.after_return("FAILURE", None, "", (), {}, None)  # begin with a new one
    with mock.patch("django.core.mail.get_connection", wraps=mail.get_connection) as connect:
        tasks.send_newsletter.delay("News", "Tea is here.")
    assert connect.call_count == 1
    assert len(mail.outbox) == 3


def test_a_message_is_sent_again_when_the_server_hung_up(eager, db):
    answers = [SMTPServerDisconnected("bye"), 1]
    with mock.patch("django.core.mail.EmailMessage.send", side_effect=answers) as send:
        result = tasks.send_mail.delay("ada@example.com", "News", "Tea is here.")
    assert result.get() == "News"
    assert send.call_count == 2


def test_a_task_has_a_name_that_was_chosen_for_it(eager, db):
    assert tasks.mail_admins.name == "mail.admins"
    tasks.mail_admins.delay("Look", "at this")
    assert mail.outbox[0].to == ["admin@example.com"]
