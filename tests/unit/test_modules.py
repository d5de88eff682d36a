"""Names of tasks and classes as another process knows them, however a program is run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamq.core.names import type_name
from streamq.core.retry import RetryPolicy, class_names
from streamq.host.modules import module_of, programs
from streamq.serialization.exceptions import loaded_class

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import functools
from streamq import App
app = App(url='redis://localhost:1')

def around(function):
    @functools.wraps(function)
    def inner(*args): return function(*args)
    return inner

class MyError(ValueError): pass
class Outer:
    class Inner(MyError): pass

@app.task(autoretry_for=(MyError,))
def add(x): raise Outer.Inner(x)

@app.task
@around
def wrapped(x): ...

def show():
    from streamq.serialization.exceptions import loaded_class, type_name
    names = [add.name, wrapped.name, type_name(MyError), type_name(Outer.Inner)]
    assert loaded_class(type_name(Outer.Inner)) is Outer.Inner
    assert [*add.own_options['autoretry_for']] == [type_name(MyError)]
    print(*names)
"""


@pytest.fixture
def run(tmp_path):
    """Runs Python in a folder with a package ``shop`` and a script ``mm.py``."""
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").touch()
    shown = f"{PROGRAM}\nif __name__ != 'shop.late': show()\n"
    for path in (package / "producer.py", package / "__main__.py", tmp_path / "mm.py"):
        path.write_text(shown)

    def run(*arguments, given=None):
        done = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            input=given,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    return run


def names(module):
    return f"{module}.add {module}.wrapped {module}.MyError {module}.Outer.Inner"


@pytest.mark.parametrize(
    ("how", "module"),
    [
        ("mm.py", "mm"),
        ("-m mm", "mm"),
        ("-m shop.producer", "shop.producer"),
        ("-m shop", "shop.__main__"),
        ("shop/producer.py", "producer"),
        ("-m cProfile mm.py", "mm"),
        ("-m cProfile -m shop.producer", "shop.producer"),
        ("-m trace --count -C /dev/null mm.py", "mm"),
        ("-m trace --count -C /dev/null --module shop.producer", "shop.producer"),
        ("-m pdb -c continue -c quit mm.py", "mm"),
        ("-m pdb -c continue -c quit -m shop.producer", "shop.producer"),
    ],
)
def test_a_program_names_what_it_defines_as_its_worker_would(run, how, module):
    out, _ = run(*how.split())

    assert names(module) in out.splitlines()


@pytest.mark.parametrize(
    ("call", "module"),
    [
        ("run_path('mm.py')", "mm"),
        ("run_module('shop.producer')", "shop.producer"),
        ("run_module('shop.producer', run_name='__main__', alter_sys=True)", "shop.producer"),
    ],
)
def test_what_runpy_runs_keeps_its_name(run, call, module):
    out, _ = run("-c", f"import runpy; runpy.{call}")

    assert names(module) in out.splitlines()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize(
    ("how", "module"), [("child.py", "child"), ("-m shop.child", "shop.child")]
)
def test_a_child_of_multiprocessing_has_the_names_of_its_program(
    run, tmp_path, method, how, module
):
    text = f"""{PROGRAM}
def work(): show()

if __name__ == '__main__':
    import multiprocessing
    child = multiprocessing.get_context({method!r}).Process(target=work)
    child.start()
    child.join()
    assert child.exitcode == 0
"""
    (tmp_path / "child.py").write_text(text)
    (tmp_path / "shop" / "child.py").write_text(text)

    out, _ = run(*how.split())

    assert out.splitlines() == [names(module)]


@pytest.mark.parametrize("how", ["-c", "-"])
def test_sending_what_no_worker_can_know_warns_once_and_is_sent(run, how):
    text = (
        "from streamq import App\napp = App(url='redis://localhost:1')\n"
        "app.publish_plain = lambda *args: 'default'\n"
        "@app.task\ndef add(x): return x\n\n"
        "assert add.apply((1,)).get() == 1\n"
        "print('NOW')\n"
        "print(len([add.enqueue(1).id, add.delay(2).id, app.enqueue(add, 3).id]))\n"
        "named = app.task(name='shop.named')(lambda x: x)\n"
        "_ = named.enqueue(1)\n"
    )

    out, err = run("-c", text) if how == "-c" else run(how, given=text)

    assert "3" in out.splitlines()[-1]
    assert err.count("__main__.add is sent, but no worker can know") == 1
    assert "shop.named" not in err


def test_a_task_of_a_file_is_sent_without_a_word(run, tmp_path):
    (tmp_path / "sender.py").write_text(
        f"{PROGRAM}\napp.publish_plain = lambda *args: 'default'\nadd.enqueue(1)\n"
    )

    _, err = run("sender.py")

    assert err == ""


@pytest.fixture
def main(monkeypatch):
    """Makes ``__main__`` the program ``mm.py``, and gives its names."""
    main = type(sys)("__main__")
    main.__file__ = "/srv/mm.py"
    monkeypatch.setitem(sys.modules, "__main__", main)
    yield main
    programs.clear()


@pytest.mark.parametrize(
    "file",
    [
        "<stdin>",
        "<input>",
        "<bpython-input-3>",
        "/tmp/ipykernel_12/34.py",
        "C:\\t\\ipykernel_1\\2.py",
    ],
)
def test_what_is_typed_at_a_prompt_of_a_program_is_not_in_its_file(main, file):
    exec(compile("def add(): ...", file, "exec"), vars(main))
    exec(compile("def own(): ...", "/srv/mm.py", "exec"), vars(main))

    assert module_of(main.add) is None
    assert module_of(main.own) == "mm"


def test_what_comes_from_standard_input_is_in_no_module(main):
    main.__file__ = "<stdin>"
    exec("class MyError(Exception): pass\ndef add(): ...", vars(main))

    assert module_of(main.add) is None
    assert type_name(main.MyError) == "__main__.MyError"


def test_a_class_of_a_program_is_known_by_its_real_name(main):
    exec("class MyError(Exception): pass", vars(main))
    error = main.MyError

    assert type_name(error) == "mm.MyError"
    assert loaded_class("mm.MyError") is error
    assert loaded_class("__main__.MyError") is error


def test_retries_know_a_class_of_a_program_from_both_sides(main):
    exec("class MyError(Exception): pass", vars(main))
    elsewhere = type("MyError", (Exception,), {"__module__": "mm"})

    for asked, raised in ((main.MyError, elsewhere), (elsewhere, main.MyError)):
        policy = RetryPolicy(autoretry_for=class_names([asked]))
        assert policy.wants(raised())
        assert not policy.wants(ValueError())


def test_a_class_of_the_module_that_is_loaded_too_is_found_where_the_program_has_none(main):
    other = type(sys)("mm")
    exec("class Other(Exception): pass", vars(other))
    sys.modules["mm"] = other
    try:
        assert loaded_class("mm.Other") is other.Other
    finally:
        del sys.modules["mm"]
