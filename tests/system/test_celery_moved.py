"""The Celery project of the examples, its imports rewritten: what has changed, and its own tests.

The second test costs ten seconds: it is the whole test suite of a Django project.
``tests/nightly/test_celery_moved.py`` runs it on Celery too, and compares the two.
"""

import os
import re
import signal
import sys

from tests.edits import CHECKOUT
from tests.moved_project import Project, copied, moved
from tests.processes import until


def test_only_import_lines_differ(tmp_path):
    old, new = copied(tmp_path / "old"), moved(tmp_path / "new")
    files = [path.relative_to(old) for path in old.rglob("*") if path.is_file()]
    assert {path.relative_to(new) for path in new.rglob("*") if path.is_file()} == set(files)

    changed = []
    for file in files:
        before, after = ((each / file).read_text().splitlines() for each in (old, new))
        assert len(before) == len(after), file
        changed += [(a, b) for a, b in zip(before, after, strict=True) if a != b]

    assert len(changed) > 20
    for before, after in changed:
        assert re.match(r"\s*(from|import) celery\b", before), before
        assert after.replace("streamq.celery", "celery") == before


def test_its_tests_pass_on_streamq(tmp_path, server_url):
    kept = {name: text for name, text in os.environ.items() if not name.startswith("STREAMQ_")}
    env = {**kept, "REDIS_URL": server_url, "PYTHONPATH": str(CHECKOUT)}
    shop = Project(moved(tmp_path / "shop"), sys.executable, ["streamq", "celery"], env)

    said = shop.run("-m", "pytest", "-q", "-p", "no:cacheprovider")
    passed = re.search(r"^(\d+) passed", said, re.M)

    assert passed, said
    assert int(passed[1]) >= 41


def test_its_schedules_are_fired_by_a_worker(tmp_path, server_url, redis):
    """Five seconds: Django makes its database, and a worker starts."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("STREAMQ_")}
    env = {**kept, "REDIS_URL": server_url, "PYTHONPATH": str(CHECKOUT)}
    shop = Project(moved(tmp_path / "shop"), sys.executable, ["streamq", "celery"], env)
    shop.run("manage.py", "migrate")
    names = ["delete-old-reports", "expire-unpaid-orders", "index-products", "weekly-sales-report"]
    worker = shop.start()
    try:
        until(lambda: redis.zcard("{streamq}:schedules") == 4, "they are declared")
        moment = redis.time()[0] * 1000 - 50
        redis.zadd("{streamq}:schedules", dict.fromkeys(["delete-old-reports", names[2]], moment))
        redis.publish("{streamq}:notices", "schedules")
        tasks = ("reports.tasks.delete_old_reports[del", "catalog.tasks.update_search_index[index-")
        until(lambda: all(task in shop.log for task in tasks), "they run")
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=60) == 0, shop.log

    declared = {name: redis.hgetall(f"{{streamq}}:schedule:{name}") for name in names}
    assert {each["tz"] for each in declared.values() if "tz" in each} == {"Europe/Berlin"}
    assert declared["index-products"]["options"] == '{"priority": 9, "queue": "pictures"}'
    assert "Traceback" not in shop.log
