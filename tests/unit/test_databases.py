"""Database connections around runs and before forks, with a stand-in for ``django.db``."""

from types import SimpleNamespace

import pytest

import streamq.runner.databases as databases
from tests.unit.test_executor import executor, message


class Connection:
    """A connection that notes what is closed; ``pool`` as in OPTIONS of Django."""

    def __init__(self, told, pool):
        self.told = told
        self.settings_dict = {"OPTIONS": {"pool": pool}} if pool else {}

    def close(self):
        self.told.append("close")

    def close_pool(self):
        self.told.append("close_pool")


@pytest.fixture
def told():
    return []


@pytest.fixture
def db(told, monkeypatch):
    """A stand-in for ``django.db`` that notes what is called, and is in use."""
    db = SimpleNamespace(
        reset_queries=lambda: told.append("reset"),
        close_old_connections=lambda: told.append("old"),
    )
    monkeypatch.setattr(databases, "database_in_use", lambda: db)
    return db


@pytest.fixture
def run(told, db):
    """``run(function)`` runs a task of this function."""

    def run(function):
        made = executor(function)
        made.__class__ = databases.executor_class()
        delivery = message()
        made.admit(delivery)
        return made.run(delivery)

    return run


def test_connections_are_looked_after_before_and_after_a_run(run, told):
    run(lambda: told.append("run"))

    assert told == ["reset", "old", "run", "reset", "old"]


def test_an_error_of_a_database_is_logged_and_the_task_runs(run, db, told, caplog):
    def fail():
        raise OSError("gone")

    db.close_old_connections = fail
    outcome = run(lambda: told.append("run"))

    assert outcome.state == b"SUCCESS"
    assert told == ["reset", "run", "reset"]
    assert caplog.text.count("closing old database connections failed") == 2


def test_a_child_that_a_task_has_forked_leaves_the_connections_alone(run, told, monkeypatch):
    monkeypatch.setattr(databases, "FORKS", SimpleNamespace(count=-1))
    run(lambda: told.append("run"))

    assert told == ["reset", "old", "run"]


@pytest.mark.parametrize(("pool", "closed"), [(None, ["close"]), (True, ["close", "close_pool"])])
def test_connections_are_closed_before_a_fork_and_their_pool_too(db, told, pool, closed):
    db.connections = SimpleNamespace(all=lambda initialized_only: [Connection(told, pool)])
    databases.close_before_fork()

    assert told == closed
