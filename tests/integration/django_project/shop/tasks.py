"""The tasks of the shop."""

import os

from django.db import connection, transaction

import streamq
from shop.models import Order


@streamq.task
def add(x, y):
    return x + y


@streamq.task(on_commit=True)
def ship(order):
    """Raises DoesNotExist if it runs before the commit."""
    return Order.objects.get(pk=order).note


@streamq.task
def choose(using):
    return using


@streamq.task
def sees_open_connection():
    """Return whether a connection was open before this task used it."""
    was_open = connection.connection is not None
    connection.ensure_connection()
    return was_open


@streamq.task
def backend():
    """The backend of PostgreSQL that serves this run."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid(), pg_sleep(0.005)")
        return cursor.fetchone()[0]


@streamq.task
def fork():
    """Ask the database before and after a child of this process has left the task."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        before = cursor.fetchone()
    if (child := os.fork()) == 0:
        return None
    os.waitpid(child, 0)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return before == cursor.fetchone()
