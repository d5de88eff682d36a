"""A server that forks in C, without a word to Python: uWSGI with its defaults.

For the night: uWSGI is built from its source, once for a checkout and a Python.  That takes gcc,
Python's headers and a minute or two.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.processes import die_with_parent, until

VERSION = "2.0.31"
CACHE = Path(__file__).resolve().parents[2] / ".cache"

SITE = """
import os
from streamq import App

app = App("site", url=os.environ["STREAMQ_URL"])

@app.task(name="note")
def note(number):
    return number

note.enqueue("loading")

def application(environ, start_response):
    many = environ["PATH_INFO"] == "/many"
    number = int(environ["QUERY_STRING"])
    results = app.enqueue_many([note.s(number)]) if many else [note.enqueue(number)]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {results[0].id}".encode()]
"""


@pytest.fixture(scope="session")
def uwsgi():
    """The program, built if that was not done yet."""
    name = f"uwsgi-{VERSION}-python{sys.version_info.major}.{sys.version_info.minor}"
    program = CACHE / name / "bin" / "uwsgi"
    if not program.exists():
        draft = CACHE / f"{name}.{os.getpid()}"
        command = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(draft)]
        done = subprocess.run([*command, f"uwsgi=={VERSION}"], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"uWSGI cannot be built here: {done.stderr[-300:]}")
        if not program.exists():
            draft.rename(program.parents[1])
    return program


class Visitor(http.client.HTTPConnection):
    """Asks a server on a unix socket."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.host)


def ask(place, path):
    visitor = Visitor(str(place), timeout=30)
    try:
        visitor.request("GET", path)
        answer = visitor.getresponse()
        return answer.status, answer.read().decode()
    finally:
        visitor.close()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", ["/one", "/many"])
def test_all_that_is_answered_with_200_is_there(uwsgi, server, tmp_path, path):
    (tmp_path / "shop.py").write_text(SITE)
    place = tmp_path / "http"
    options = ["--master", "--processes", "4", "--http-socket", place, "--wsgi-file", "shop.py"]
    folders = [folder for folder in sys.path if folder and Path(folder).is_dir()]
    log = tmp_path / "log"
    with log.open("w") as said:
        serving = subprocess.Popen(
            [uwsgi, *options],
            cwd=tmp_path,
            env={**os.environ, "STREAMQ_URL": server.url, "PYTHONPATH": ":".join(folders)},
            stdout=said,
            stderr=said,
            preexec_fn=die_with_parent,
        )
    try:
        until(place.exists, "uWSGI listens", seconds=60)
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda n: ask(place, f"{path}?{n}"), range(40)))
    finally:
        serving.send_signal(signal.SIGINT)  # SIGTERM begins it anew
        serving.wait(30)

    assert [status for status, _ in answers] == [200] * 40, log.read_text()
    pids, ids = zip(*(text.split() for _, text in answers), strict=True)
    assert len(set(pids)) > 1, "several children have answered"
    entries = server.client.xrange("{streamq}:queue:default")
    sent = {fields["id"]: json.loads(fields["args"])[0] for _, fields in entries}
    assert len(entries) == len(sent) == 41
    assert sorted(sent[id] for id in ids) == list(range(40))
