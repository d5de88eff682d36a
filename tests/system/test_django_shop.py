"""The example for Django does what its README says, from an empty environment.

It takes seconds: a worker, a web server and a bundled server are started, as a reader would.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.processes import until

if find_spec("django") is None:  # it is not imported here: other tests have a Django of their own
    pytest.skip("Django is not installed", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[2]
#: All that the commands get from the environment of the tests.
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def shop(tmp_path):
    folder = tmp_path / "django_shop"
    shutil.copytree(ROOT / "examples" / "django_shop", folder)
    yield folder
    manage(folder, "streamq", "server", "stop", "--yes")


def manage(folder: Path, *words: str) -> str:
    """Run ``manage.py``; return what it says."""
    done = subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=folder,
        env={**ENVIRONMENT, "HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@contextmanager
def running(folder: Path, *words: str) -> Iterator[None]:
    """A ``manage.py`` that runs until the end of the block."""
    with open(folder / f"{words[0]}.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", *words],
            cwd=folder,
            env={**ENVIRONMENT, "HOME": str(folder)},
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def ask(url: str, **form: str) -> dict[str, str]:
    """The JSON of a page; with a form, what the page answers to that."""
    data = urllib.parse.urlencode(form).encode() if form else None
    with urllib.request.urlopen(url, data, timeout=10) as answer:
        found: dict[str, str] = json.load(answer)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def test_the_shop_confirms_an_order_that_is_placed_on_its_page(shop):
    manage(shop, "migrate")
    address = f"http://localhost:{free_port()}"
    port = address.rpartition(":")[2]
    worker = running(shop, "streamq", "worker", "-c", "1")
    with worker, running(shop, "runserver", "--noreload", port):

        def place() -> dict[str, str]:
            try:
                return ask(f"{address}/orders/", customer="ana@example.org")
            except urllib.error.URLError:
                return {}

        order = until(place, "the page answers", seconds=30)["order"]
        shown = until(
            lambda: (page := ask(address + order))["confirmed"] and page, "the order is confirmed"
        )

    assert shown["customer"] == "ana@example.org"
    (mail,) = (shop / "mails").iterdir()
    assert "We have your order 1." in mail.read_text()
    assert "order 1 is confirmed" in (shop / "streamq.log").read_text()


def test_the_tests_and_checks_of_the_shop_pass(shop):
    assert "\nOK" in manage(shop, "test")
    assert "no issues" in manage(shop, "check")
    assert "No changes detected" in manage(shop, "makemigrations", "--check", "--dry-run")
