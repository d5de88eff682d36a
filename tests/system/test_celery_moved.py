"""The Celery project of the examples, its imports rewritten: what has changed, and its own tests.

The second test costs ten seconds: it is the whole test suite of a Django project.
``tests/nightly/test_celery_moved.py`` runs it on Celery too, and compares the two.
"""

import os
import re
import sys

from tests.edits import CHECKOUT
from tests.moved_project import Project, copied, moved


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
    assert int(passed[1]) >= 35
