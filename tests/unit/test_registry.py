"""Names of tasks, and finding the modules that define them."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from streamq.errors import ConfigError, TaskNotFound
from streamq.producer.registry import Registry, import_modules, import_related, task_name
from streamq.tasks import Task

ROOT = Path(__file__).resolve().parents[2]


def named(name, function=lambda: None):
    return Task(function, name, None, {})


def filled(*names):
    registry = Registry()
    for name in names:
        registry.add(named(name))
    return registry


def test_a_name_is_module_and_qualname():
    def inner():
        pass

    assert task_name(inner) == f"{__name__}.test_a_name_is_module_and_qualname.<locals>.inner"


def test_a_script_that_is_run_is_named_after_its_file(tmp_path):
    script = tmp_path / "shop_tasks.py"
    script.write_text(
        "from streamq import App\napp = App(url='redis://localhost:1')\n"
        "@app.task\ndef add(x): return x\nprint(add.name)\n"
    )

    said = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}
    )

    assert said.stdout == "shop_tasks.add\n", said.stderr


def test_a_task_is_found_by_name():
    registry = filled("a.x", "a.y")

    assert registry["a.x"].name == "a.x"
    assert "a.y" in registry
    assert sorted(registry) == ["a.x", "a.y"]
    assert len(registry) == 2


def test_a_missing_task_names_the_nearest_and_what_there_is():
    with pytest.raises(TaskNotFound) as missing:
        _ = filled("shop.tasks.add")["shop.tasks.ad"]

    assert "no task named 'shop.tasks.ad'" in str(missing.value)
    assert "1 task from" in str(missing.value)
    assert "did you mean 'shop.tasks.add'?" in str(missing.value)


def test_a_missing_task_without_neighbours_says_where_tasks_come_from():
    with pytest.raises(TaskNotFound, match="-I MODULE, or include="):
        _ = filled()["x.y"]


def test_two_functions_of_one_name_are_refused():
    registry = filled("a.x")

    with pytest.raises(ConfigError) as refused:
        registry.add(named("a.x", task_name))

    assert "two tasks are named 'a.x'" in str(refused.value)
    assert "registry.py" in str(refused.value)


def test_the_same_code_loaded_again_replaces_the_task():
    registry = Registry()
    first, second = (named("a.x", eval("lambda: 1")) for _ in range(2))

    registry.add(first)
    registry.add(second)

    assert registry["a.x"] is second


def test_modules_with_tasks_are_imported(tmp_path, monkeypatch):
    (tmp_path / "shop_for_import.py").write_text("loaded = True")
    monkeypatch.syspath_prepend(tmp_path)

    import_modules(("shop_for_import",))

    assert sys.modules["shop_for_import"].loaded


def test_a_module_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match="cannot import 'no_such_shop': no module named"):
        import_modules(("no_such_shop",))


def test_a_mistake_inside_a_module_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "shop_with_mistake.py").write_text("import no_such_library")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ConfigError, match="no_such_library") as said:
        import_modules(("shop_with_mistake",))

    assert isinstance(said.value.__cause__, ModuleNotFoundError)


def test_autodiscovery_imports_tasks_where_there_are_any(tmp_path, monkeypatch):
    for name in ("with_tasks", "without_tasks"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "with_tasks" / "tasks.py").write_text("found = True")
    monkeypatch.syspath_prepend(tmp_path)

    import_related(["with_tasks", "without_tasks"], "tasks")

    assert sys.modules["with_tasks.tasks"].found


class Callable:
    def __call__(self): ...


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("shop.add", r"@app\.task\(name='shop\.add'\)"),
        (5, r"@app\.task\(queue=…\)"),
        (partial(print, 1), r"app\.task\(name=…\)\(partial\(print, …\)\)"),
        (lambda: 1, r"app\.task\(name=…\)\(lambda …\)"),
        (Callable(), r"app\.task\(name=…\)\(Callable\(…\)\)"),
    ],
)
def test_what_has_no_name_for_a_task_is_refused_with_what_to_write(given, advice):
    with pytest.raises(ConfigError, match=advice):
        task_name(given)
