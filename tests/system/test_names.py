"""A program of the user's and its worker agree on what tasks and exceptions are called."""

import subprocess
import sys

import pytest

PROGRAM = """
class MyError(Exception):
    pass

@app.task(autoretry_for=(MyError,), max_retries=1, default_retry_delay=0)
def fail(text):
    note(text)
    raise MyError(text)

@app.task(max_retries=0)
def other(text):
    note(text)
    raise MyError(text)

if __name__ == "__main__":
    for call in (fail.s("decorator"), other.options(
        autoretry_for=(MyError,), max_retries=1, default_retry_delay=0
    ).s("call")):
        try:
            app.enqueue(call).get(timeout=20)
        except MyError as error:
            print("caught", error)
"""


@pytest.mark.parametrize(
    ("how", "module"),
    [
        ("mm.py", "mm"),
        ("-m cProfile mm.py", "mm"),
        ("-m shop.producer", "shop.producer"),
    ],
)
def test_a_program_and_its_worker_name_tasks_and_exceptions_alike(site, how, module):
    package = site.folder / "shop"
    package.mkdir()
    (package / "__init__.py").touch()
    site.write(PROGRAM, name=module.replace(".", "/"))
    site.worker("-c", "1", app=module)

    done = subprocess.run(
        [sys.executable, *how.split()],
        cwd=site.folder,
        env=site.env,
        capture_output=True,
        text=True,
        timeout=60,
    )

    said = [line for line in done.stdout.splitlines() if line.startswith("caught")]
    assert said == ["caught decorator", "caught call"], (done.stdout, done.stderr)
    (notes,) = site.folder.rglob("notes")
    assert sorted(notes.read_text().split()) == ["call", "call", "decorator", "decorator"]


def test_the_layout_of_celerys_first_steps_has_a_worker(site):
    package = site.folder / "proj"
    package.mkdir()
    files = {
        "__init__": "from .celery import app as celery_app\n",
        "celery": "import os\nfrom streamq import App\n"
        "app = App('proj', url=os.environ['STREAMQ_URL'])\napp.autodiscover_tasks(['proj'])\n",
        "tasks": "from proj import celery_app as app\n@app.task\ndef add(x, y): return x + y\n",
    }
    for name, text in files.items():
        (package / f"{name}.py").write_text(text)

    site.worker("-c", "1", app="proj")

    assert site.app.enqueue("proj.tasks.add", 2, 3).get(timeout=20) == 5
