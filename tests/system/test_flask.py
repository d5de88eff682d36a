"""Flask: workers of every pool run tasks in the context of the application; the example works."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "flask_factory"

SHOP = """
import os
from pathlib import Path
from flask import Flask, current_app, g
from streamq.contrib.flask import Streamq

queue = Streamq()


@queue.task
def count():
    g.runs = g.get("runs", 0) + 1
    return [current_app.config["GREETING"], g.runs]


def create_app(greeting="hello"):
    app = Flask(__name__)
    app.config["GREETING"] = greeting
    app.config["STREAMQ"] = {"url": os.environ["STREAMQ_URL"]}
    with open(Path(__file__).parent / "made", "a") as file:
        file.write(f"{os.getpid()}\\n")

    @app.teardown_appcontext
    def note(error):
        with open(Path(__file__).parent / "ended", "a") as file:
            file.write("x")

    queue.init_app(app)
    return app
"""

POOLS = [["-P", "prefork", "-c", "1"], ["-P", "solo"], ["-P", "gevent", "--processes", "1"]]


def flask_worker(site, *flags):
    """Start ``flask streamq worker``; return the process."""
    words = [sys.executable, "-m", "flask", "--app", "shop", "streamq", "worker", *flags]
    with open(site.folder / "flask.log", "wb") as log:
        process = subprocess.Popen(words, cwd=site.folder, env=site.env, stdout=log, stderr=log)
    site.helpers.append(process)
    return process


@pytest.mark.parametrize("flags", POOLS, ids=lambda flags: flags[1])
def test_each_run_of_flask_streamq_worker_has_a_context_of_its_own(site, flags):
    site.write(SHOP, name="shop", header="")
    process = flask_worker(site, *flags)

    calls = [site.app.enqueue("shop.count") for _ in range(5)]
    try:
        assert [call.get(timeout=30) for call in calls] == [["hello", 1]] * 5
    finally:
        process.terminate()
    assert process.wait(30) == 0
    assert len((site.folder / "ended").read_text()) >= 5
    log = (site.folder / "flask.log").read_text()
    assert "app shop:create_app() (flask)" in log
    made = (site.folder / "made").read_text().split()
    assert len(made) == len(set(made)), "the factory is called once in a process"


@pytest.mark.parametrize("flags", POOLS, ids=lambda flags: flags[1])
def test_a_worker_finds_the_extension_of_what_a_factory_returns(site, flags):
    site.write(SHOP, name="shop", header="")
    site.worker(*flags, app="shop:create_app()")

    assert site.app.enqueue("shop.count").get(timeout=30) == ["hello", 1]


def test_a_worker_without_the_flask_application_says_what_to_name(site):
    site.write(SHOP, name="shop", header="")
    worker = site.worker(app="shop", ready=False)

    assert worker.wait() == 78
    assert "no Flask application yet" in worker.said
    assert '-A "shop:create_app()"' in worker.said


def test_the_example_passes_its_tests_and_counts_words_in_a_worker(tmp_path, server_url, redis):
    folder = tmp_path / "example"
    shutil.copytree(EXAMPLE, folder)
    env = {name: value for name, value in os.environ.items() if not name.startswith("STREAMQ_")}
    env |= {"PYTHONPATH": str(EXAMPLE.parents[1]), "FLASK_STREAMQ__url": server_url}

    def python(*words):
        done = subprocess.run(
            [sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "2 passed" in python("-m", "pytest", "-q", "-p", "no:cacheprovider")

    ask = "from texts import create_app; client = create_app().test_client(); "
    python("-c", ask + "client.post('/texts', json={'body': 'to be or not to be'})")
    python("-m", "flask", "--app", "texts", "streamq", "worker", "--burst")
    shown = python("-c", ask + "print(client.get('/texts/1').json['words'])")
    assert shown.strip() == "6"
