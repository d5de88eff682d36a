"""Two definitions of one name: defined again, or a mistake."""

import functools
import importlib
import logging
import sys
import threading

import pytest

from streamq import App
from streamq.errors import ConfigError


@pytest.fixture
def app():
    return App("twice", url="redis://localhost:1")


@pytest.fixture
def module(tmp_path, monkeypatch, app):
    """Writes a module that uses the app, and imports it, or loads it again."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr("streamq.app_of_this_test", app, raising=False)
    loaded = []

    def write(text, name="shop_again"):
        (tmp_path / f"{name}.py").write_text(f"from streamq import app_of_this_test as app\n{text}")
        importlib.invalidate_caches()
        known = sys.modules.get(name)
        loaded.append(name)
        return importlib.reload(known) if known else importlib.import_module(name)

    yield write
    for name in loaded:
        sys.modules.pop(name, None)


def plain(function):
    def inner(*args):
        return function(*args)

    return inner


def factory(app, number):
    @app.task
    def add(x):
        return x + number

    return add


DECORATOR = """
def plain(function):
    def inner(*args):
        return function(*args)
    return inner
"""

BOTH = {
    "one decorator without wraps": DECORATOR
    + "@app.task\n@plain\ndef blame(): pass\n\n@app.task\n@plain\ndef refund(): pass",
    "two closures of one factory": "def make(n):\n    @app.task\n    def add(x): return x + n\n"
    "    return add\none, two = make(1), make(2)",
    "closures in a loop": "def make(n):\n    return lambda x: x + n\n"
    "kept = []\nfor n in (1, 2):\n    kept.append(app.task(name='a')(make(n)))",
    "closures nobody keeps": "def make(n):\n    return lambda x: x + n\n"
    "for n in (1, 2):\n    app.task(name='a')(make(n))",
    "two lambdas on a line": "a = app.task(name='a')\none, two = a(lambda: 1), a(lambda: 2)",
    "two lambdas nobody keeps": "app.task(name='a')(lambda: 1); app.task(name='a')(lambda: 2)",
    "a name given twice": "@app.task(name='a')\ndef one(): pass\n@app.task(name='a')\n"
    "def two(): pass",
    "one name, two defs": "@app.task\ndef add(): return 1\n\n@app.task\ndef add(): return 2",
    "a def in a loop": "kept = []\nfor n in (1, 2):\n    @app.task\n    def add(): return n\n"
    "    kept.append(add)",
    "two methods": "class A:\n    @app.task\n    def run(): pass\n\n    @app.task\n"
    "    def run(): pass",
    "decorated and not kept": DECORATOR
    + "def blame(): pass\ndef refund(): pass\napp.task(plain(blame)); app.task(plain(refund))",
}


@pytest.mark.parametrize("text", BOTH.values(), ids=BOTH)
def test_two_that_are_there_to_be_called_are_refused(module, app, text):
    with pytest.raises(ConfigError, match="two tasks are named") as refused:
        module(text)

    places = [line for line in str(refused.value).splitlines() if "shop_again.py:" in line]
    assert len(places) == 2
    assert text.startswith(("one, two = app", "app.task")) or places[0].split() != places[1].split()
    assert len(app.tasks) == 1


def test_the_first_of_two_stays(app):
    first = factory(app, 1)

    with pytest.raises(ConfigError):
        factory(app, 2)

    assert app.tasks[first.name] is first


def test_a_factory_may_run_again_when_its_task_is_gone(app, caplog):
    factory(app, 1)

    second = factory(app, 2)

    assert app.tasks[second.name] is second
    assert "is defined again" in caplog.text


def test_functions_that_somebody_keeps_are_there_though_their_tasks_are_not(app):
    def make(number):
        return lambda: number

    kept = [make(1), make(2)]
    app.task(name="a")(kept[0])

    with pytest.raises(ConfigError, match="two tasks are named"):
        app.task(name="a")(kept[1])

    assert [task() for task in app.tasks.values()] == [1]


def test_a_program_may_make_again_what_it_has_dropped(app, caplog):
    text = """
def set_up(number):
    @app.task
    def add(x): return x + number
    return add(1)

for number in (1, 2):
    set_up(number)
"""
    exec(compile(text, "/srv/mm.py", "exec"), {"__name__": "__main__", "app": app})

    assert [task(1) for task in app.tasks.values()] == [3]
    assert "is defined again" in caplog.text


def test_a_function_that_calls_itself_may_be_made_again(app, caplog):
    def make(number):
        def count(n):
            return number if n == 0 else count(n - 1)

        app.task(count)

    make(1)
    make(2)

    assert [task(3) for task in app.tasks.values()] == [2]
    assert "is defined again" in caplog.text


def test_what_has_no_name_is_asked_for_one(app):
    with pytest.raises(ConfigError, match="needs a name that workers know it by, and functools"):
        app.task(functools.partial(print, 1))

    assert app.task(name="said")(functools.partial(max, 1))(2) == 2


def test_two_of_a_factory_in_a_thread_are_refused(app):
    caught = []

    def run():
        first = factory(app, 1)
        try:
            factory(app, 2)
        except ConfigError as error:
            caught.append((first, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()

    assert "two tasks" in str(caught[0][1])


def test_one_function_is_registered_twice_without_a_word(app, caplog):
    def add(): ...

    app.task(add)
    app.task(add)

    assert len(app.tasks) == 1
    assert not caplog.records


RELOADED = {
    "as it was": ("@app.task\ndef add(): return 1", "@app.task\ndef add(): return 1"),
    "moved": ("@app.task\ndef add(): return 1", "\n\n@app.task\ndef add(): return 2"),
    "decorated": (
        DECORATOR + "@app.task\n@plain\ndef blame(): return 1",
        DECORATOR + "\n\n@app.task\n@plain\ndef pay(): return 2",
    ),
    "a factory": (
        "def make(n): return app.task(name='a')(lambda: n)\none = make(1)",
        "def make(n): return app.task(name='a')(lambda: n)\ntwo = make(2)",
    ),
    "renamed": (
        "@app.task(name='a')\ndef one(): return 1",
        "@app.task(name='a')\ndef two(): return 2",
    ),
}


@pytest.mark.parametrize(("before", "after"), RELOADED.values(), ids=RELOADED)
def test_a_module_that_is_reloaded_replaces_its_tasks(module, app, caplog, before, after):
    module(before)
    (name,) = app.tasks
    first = app.tasks[name]

    module(after)

    assert list(app.tasks) == [name]
    assert app.tasks[name] is not first
    (said,) = caplog.records
    assert said.levelno == logging.WARNING
    assert f"task {name} is defined again" in said.getMessage()
    assert "shop_again.py" in said.getMessage()


def test_a_module_that_is_imported_anew_replaces_its_tasks(module, app, tmp_path, monkeypatch):
    module("@app.task\ndef add(): return 1")
    sys.modules.pop("shop_again")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "shop_again.py").rename(tmp_path / "elsewhere" / "shop_again.py")
    text = (tmp_path / "elsewhere" / "shop_again.py").read_text().replace("1", "2")
    (tmp_path / "elsewhere" / "shop_again.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")

    importlib.import_module("shop_again")

    assert app.tasks["shop_again.add"]() == 2


def test_two_modules_may_not_give_one_name(module):
    module("@app.task(name='a')\ndef one(): pass", "shop_one")

    with pytest.raises(ConfigError, match="two tasks are named 'a'"):
        module("@app.task(name='a')\ndef two(): pass", "shop_two")


def test_a_factory_of_one_module_may_not_serve_two(module):
    module("def make(n): return app.task(name='a')(lambda: n)", "shop_lib")
    module("import shop_lib\none = shop_lib.make(1)", "shop_one")

    with pytest.raises(ConfigError, match="two tasks are named"):
        module("import shop_lib\ntwo = shop_lib.make(2)", "shop_two")


class Notebook:
    """Runs cells as a notebook does: each is compiled from a file of its own."""

    def __init__(self, app, called=None):
        self.called = called
        self.names = {"__name__": "__main__", "app": app, "plain": plain, "functools": functools}
        self.number = 0

    def cell(self, text, file=None):
        self.number += 1
        code = compile(text, file or f"<ipython-input-{self.number}>", "exec")
        exec(code.replace(co_name=self.called or code.co_name), self.names)


CORRECTED = {
    "a function": ("@app.task\ndef add(): return 1", "@app.task\ndef add(): return 2"),
    "decorated": (
        "@app.task\n@plain\ndef blame(): return 1",
        "@app.task\n@plain\ndef blame(): return 2",
    ),
    "with wraps": (
        "@app.task\n@functools.cache\ndef blame(): return 1",
        "@app.task\n@functools.cache\ndef blame(): return 2",
    ),
    "a lambda": ("add = app.task(name='a')(lambda: 1)", "add = app.task(name='a')(lambda: 2)"),
    "in a list": (
        "tasks = [app.task(name='a')(lambda: 1)]",
        "tasks = [app.task(name='a')(lambda: 2)]",
    ),
    "in a class": (
        "class A:\n    @app.task\n    def run(): return 1",
        "class A:\n    @app.task\n    def run(): return 2",
    ),
}


#: What code of a cell comes from, and is called: as one of a module, or by where it stands.
CELLS = pytest.mark.parametrize(
    ("file", "called"),
    [(None, None), ("<stdin>", None), (None, "<cell line: 1>")],
    ids=["cells", "lines", "named cells"],
)


@CELLS
@pytest.mark.parametrize(("before", "after"), CORRECTED.values(), ids=CORRECTED)
def test_a_corrected_cell_replaces_its_task(app, caplog, before, after, file, called):
    notebook = Notebook(app, called)
    notebook.cell(before, file)
    notebook.cell("_ = list(app.tasks.values())[0]; other = 1", file)  # shown, and remembered

    notebook.cell(after, file)

    (task,) = app.tasks.values()
    assert task() == 2
    assert f"task {task.name} is defined again" in caplog.text


BESIDE = {
    "decorated": (
        "@app.task\n@plain\ndef blame(): return 1",
        "@app.task\n@plain\ndef refund(): return 2",
    ),
    "a lambda": ("one = app.task(name='a')(lambda: 1)", "two = app.task(name='a')(lambda: 2)"),
    "in a mapping": (
        "m = {}; m[1] = app.task(name='a')(lambda: 1)",
        "m[2] = app.task(name='a')(lambda: 2)",
    ),
    "a name given twice": (
        "@app.task(name='a')\ndef one(): return 1",
        "@app.task(name='a')\ndef two(): return 2",
    ),
    "functions alone": (
        "one = lambda: 1\napp.task(name='a')(one)",
        "two = lambda: 2\napp.task(name='a')(two)",
    ),
}


@CELLS
@pytest.mark.parametrize(("before", "after"), BESIDE.values(), ids=BESIDE)
def test_a_cell_may_not_take_the_name_of_what_another_cell_keeps(app, before, after, file, called):
    notebook = Notebook(app, called)
    notebook.cell(before, file)

    with pytest.raises(ConfigError, match="two tasks are named"):
        notebook.cell(after, file)

    (task,) = app.tasks.values()
    assert task() == 1


def test_what_is_not_written_in_python_is_shown_in_the_error(app):
    app.task(name="a")(len)

    with pytest.raises(ConfigError, match="built-in function len"):
        app.task(name="a")(repr)
