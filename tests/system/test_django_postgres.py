"""Workers of a Django project on PostgreSQL: how many connections they hold, and a restart.

The database is set up as Django's documentation advises for long-lived processes: persistent
connections with health checks.  Each test takes seconds: 2 000 tasks that wait for the database.
"""

import json
import shutil
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.postgres import program, running_postgres

if find_spec("django") is None:  # it is not imported here: other tests have a Django of their own
    pytest.skip("Django is not installed", allow_module_level=True)
pytest.importorskip("psycopg", reason="psycopg is not installed")
if program("postgres") is None:
    pytest.skip("PostgreSQL is not installed: apt install postgresql", allow_module_level=True)

PROJECT = Path(__file__).parents[1] / "integration" / "django_project"


@pytest.fixture(scope="module")
def postgres():
    with running_postgres() as server:
        server.ask("CREATE DATABASE shop")
        yield server


@pytest.fixture
def shop(site, postgres):
    """A site with the project on PostgreSQL: ``shop(CONN_HEALTH_CHECKS=False)`` changes it."""
    shutil.copytree(PROJECT, site.folder, dirs_exist_ok=True)

    def configure(**options):
        database = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "shop",
            "USER": "streamq",
            "HOST": str(postgres.folder),
            "CONN_MAX_AGE": 600,
            "CONN_HEALTH_CHECKS": True,
            **options,
        }
        site.env["DJANGO_SETTINGS_MODULE"] = "project"
        site.env["DATABASES"] = json.dumps({"default": database})
        return site

    return configure


def run_all(site, postgres, count):
    """Run so many tasks; return their values, and the most connections seen meanwhile."""
    calls = (site.app.signature("shop.tasks.backend") for _ in range(count))
    results, most = site.app.enqueue_many(calls), 0
    while not site.is_empty():
        most = max(most, postgres.connections("shop"))
        time.sleep(0.02)
    return [result.get(timeout=10) for result in results], most


POOLS = {
    "prefork": (("-P", "prefork", "-c", "4"), 4),
    "gevent": (("-P", "gevent", "-c", "10", "--processes", "2"), 20),
}


@pytest.mark.parametrize("options", [{}, {"CONN_MAX_AGE": 0}], ids=["kept", "closed"])
@pytest.mark.parametrize(("flags", "most"), POOLS.values(), ids=POOLS)
def test_workers_hold_no_more_connections_than_tasks_run(shop, postgres, flags, most, options):
    if "gevent" in flags:
        pytest.importorskip("gevent", reason="gevent is not installed")
    site = shop(**options)
    site.worker(*flags, app="streamq.contrib.django")

    backends, held = run_all(site, postgres, 2000)

    assert 1 <= held <= most
    if "prefork" in flags and not options:
        assert len(set(backends)) <= most  # each process kept its connection
    if "gevent" in flags or options:
        site.until(lambda: postgres.connections("shop") == 0, "all are closed")


@pytest.mark.parametrize("checks", [True, False])
@pytest.mark.parametrize(("flags", "runners"), [(("-c", "2"), 2), (("-P", "solo"), 1)])
def test_a_restarted_server_costs_a_failed_task_a_runner_at_most(
    shop, postgres, flags, runners, checks
):
    site = shop(CONN_HEALTH_CHECKS=checks)
    site.worker(*flags, app="streamq.contrib.django")
    run_all(site, postgres, 20)
    assert 1 <= postgres.connections("shop") <= runners

    postgres.restart()
    results = [site.app.enqueue("shop.tasks.backend") for _ in range(20)]
    site.drained()

    failed = [result.id for result in results if result.state == "FAILURE"]
    assert len(failed) <= (0 if checks else runners)
    assert all(result.state == "SUCCESS" for result in results if result.id not in failed)


def test_a_child_that_a_task_forks_leaves_the_connection_alone(shop, postgres):
    site = shop(CONN_MAX_AGE=0)  # else nothing is closed after the run
    site.worker("-c", "1", app="streamq.contrib.django")

    assert site.app.enqueue("shop.tasks.fork").get(timeout=10) is True


@pytest.mark.parametrize(("pool", "processes"), [("prefork", 4), ("gevent", 2)])
def test_a_pool_of_connections_is_kept_within_its_bounds(shop, postgres, pool, processes):
    if pool == "gevent":
        pytest.importorskip("gevent", reason="gevent is not installed")
    pytest.importorskip("psycopg_pool", reason="psycopg has no pool here")
    bounds = {"min_size": 1, "max_size": 3, "timeout": 60}
    site = shop(CONN_MAX_AGE=0, OPTIONS={"pool": bounds})
    site.worker(*POOLS[pool][0], app="streamq.contrib.django")

    backends, held = run_all(site, postgres, 300)

    assert held <= processes * bounds["max_size"]
    assert len(set(backends)) <= 300 / 10  # they are used again
