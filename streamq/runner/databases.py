"""Database connections of Django in a worker: closed around runs, with threads, and before forks.

Django closes connections that are old or broken when a request begins and ends; in a worker a run
is what a request is.  A process that has not set up Django has none of this.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from streamq.core.delivery import Delivery
from streamq.core.outcome import Outcome
from streamq.errors import SoftTimeLimitExceeded, Stopped
from streamq.execution.executor import Executor
from streamq.host.django import database_in_use
from streamq.host.forks import FORKS

logger = logging.getLogger("streamq.worker")


class DatabaseExecutor(Executor):
    """An executor that closes connections which are too old, or do not work, around each run.

    Signals and hooks of the run are inside.  Django leaves connections alone that are in a
    transaction.
    """

    def run(self, delivery: Delivery) -> Outcome:
        """Run a message between two cleanups, in the thread or greenlet of the task."""
        clean_up(database_in_use())
        try:
            return super().run(delivery)
        finally:
            if self.forks == FORKS.count:  # a child that the task forked has its parent's sockets
                self.clean_up_behind(delivery)

    def clean_up_behind(self, delivery: Delivery) -> None:
        """Clean up when the outcome is known: a limit of the task changes nothing any more."""
        try:
            clean_up(database_in_use())
        except (SoftTimeLimitExceeded, Stopped):
            logger.warning("%s: its time was up after it had ended", delivery.title)


def clean_up(db: Any) -> None:
    """Close what is unusable or too old; an error of a database is only logged."""
    try:
        db.reset_queries()  # which are kept with DEBUG
        db.close_old_connections()
    except SoftTimeLimitExceeded:  # of the task
        raise
    except Exception:
        logger.exception("closing old database connections failed")


def executor_class() -> type[Executor]:
    """The class of executors of this process."""
    return DatabaseExecutor if database_in_use() is not None else Executor


def close_of_thread() -> Callable[[], None] | None:
    """What a thread of the pool calls as it ends; None in a process without Django."""
    db = database_in_use()
    return partial(close_all, db) if db is not None else None


def close_all(db: Any) -> None:
    """Close all connections of this thread; an error of a database is only logged."""
    try:
        db.connections.close_all()
    except Exception:
        logger.exception("closing the database connections of a thread failed")


def close_before_fork() -> None:
    """Close this thread's connections: parent and child would share their sockets.

    A pool of connections is closed too, as its threads do not live in the child.
    """
    db = database_in_use()
    if db is None:
        return
    for connection in db.connections.all(initialized_only=True):
        connection.close()
        if connection.settings_dict.get("OPTIONS", {}).get("pool"):
            connection.close_pool()
