"""Finding the app a command is about: by its name, or by looking around."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamq.discovery import NoApp, find_app
from streamq.errors import ConfigError

APP = "from streamq import App\napp = App('here')\n"


@pytest.fixture
def write(tmp_path, monkeypatch) -> Iterator[Callable[[str, str], Path]]:
    """Write a module into the current folder; forget all modules of it afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    yield write
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize(
    "spec", ["found_shop", "found_shop:app", "found_shop.py", "./found_shop.py:app"]
)
def test_a_module_may_be_named_in_every_way_people_write_it(write, spec):
    write("found_shop.py", APP)

    found = find_app(spec)

    assert found.app.name == "here"
    assert (found.spec, found.how) == (spec, "-A")


def test_a_module_in_a_package_may_be_named_as_a_path(write):
    write("found_pack/__init__.py", "")
    write("found_pack/jobs.py", APP)

    assert find_app("found_pack/jobs.py").app is find_app("found_pack.jobs").app


def test_a_module_may_be_named_by_an_absolute_path(write, tmp_path, tmp_path_factory):
    write("found_deep/found_abs.py", APP)
    link = tmp_path_factory.mktemp("elsewhere") / "link"
    link.symlink_to(tmp_path)

    for folder in (tmp_path, link, tmp_path / "found_deep" / ".."):
        found = find_app(f"{folder}/found_deep/found_abs.py:app")
        assert found.app is find_app("found_deep.found_abs").app


@pytest.mark.parametrize("path", ["/elsewhere/shop.py", "../shop.py", "./../shop"])
def test_a_path_that_leads_out_of_the_working_folder_is_named(write, path):
    with pytest.raises(ConfigError, match="not below the working folder") as error:
        find_app(path)
    folder = "/elsewhere" if path.startswith("/") else Path.cwd().parent
    assert f"cd {folder}, and use -A shop" in str(error.value)


def test_without_a_name_the_usual_files_are_tried(write):
    write("tasks.py", "nothing = 'here'\n")
    write("worker.py", APP)

    found = find_app(None)

    assert (found.spec, found.how) == ("worker", "found worker.py")


def test_without_a_name_packages_with_tasks_are_tried(write):
    write("found_site/__init__.py", "")
    write("found_site/tasks.py", APP)

    assert find_app(None).how == "found found_site/tasks.py"


def test_an_empty_folder_says_what_was_looked_for(write, tmp_path):
    with pytest.raises(NoApp) as error:
        find_app(None)

    assert "tasks.py, app.py" in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert "STREAMQ_APP" in str(error.value)


def test_a_file_that_was_found_and_holds_no_app_is_named(write):
    write("tasks.py", "nothing = 'here'\n")

    with pytest.raises(NoApp, match=r"no app in +tasks\.py") as error:
        find_app(None)

    assert "app = streamq.App(…)  in tasks.py" in str(error.value)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("def task(:", "SyntaxError"),
        ("import found_nowhere", "ModuleNotFoundError"),
        ("app.conf.concurency = 3", "unknown setting 'concurency'"),
        ("app.task(max_retrys=3)(print)", "unknown option 'max_retrys'"),
        ("app.task(priority='high')(print)", "priority"),
    ],
)
def test_a_mistake_in_a_module_says_on_which_line_it_is(write, line, says):
    path = write("found_mistake.py", f"{APP}{line}\n")

    with pytest.raises(ConfigError, match=says) as error:
        find_app("found_mistake")

    places = [text for text in str(error.value).split("\n") if text.startswith("  at  ")]
    assert places == [f"  at  {path}:3"]


def test_a_mistake_in_the_environment_is_not_said_to_be_in_a_module(write, monkeypatch):
    path = write("found_innocent.py", APP)
    monkeypatch.setenv("STREAMQ_LEASE", "soon")

    with pytest.raises(ConfigError, match="STREAMQ_LEASE") as error:
        find_app("found_innocent")

    assert str(path) not in str(error.value)


def test_the_attribute_called_app_wins_over_others(write):
    write("found_two.py", APP + "other = App('other')\n")

    assert find_app("found_two").app.name == "here"
    assert find_app("found_two:other").app.name == "other"


def test_one_app_under_two_names_is_one_app(write):
    write("found_same.py", "from streamq import App\none = App('one')\nalias = one\n")

    assert find_app("found_same").app.name == "one"


def test_several_apps_ask_which_one(write):
    write("found_many.py", "from streamq import App\none = App('one')\ntwo = App('two')\n")

    with pytest.raises(ConfigError, match="several apps: one, two") as error:
        find_app("found_many")

    assert "-A found_many:one" in str(error.value)


def test_an_attribute_that_is_no_app_names_those_that_are(write):
    write("found_attr.py", APP)

    with pytest.raises(ConfigError, match="found_attr:ap is not an app") as error:
        find_app("found_attr:ap")

    assert "apps there  app" in str(error.value)


def test_a_module_without_an_app_says_so(write):
    path = write("found_none.py", "")

    with pytest.raises(ConfigError, match="has no streamq app") as error:
        find_app("found_none")

    assert str(path) in str(error.value)


def test_a_module_that_is_not_there_says_where_it_was_looked_for(write, tmp_path):
    with pytest.raises(ConfigError, match="no module named 'found_nowhere'") as error:
        find_app("found_nowhere", "STREAMQ_APP")

    assert "STREAMQ_APP" in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_module_that_fails_says_why_and_in_which_line(write):
    path = write("found_broken.py", "\nboom = 1 / 0\n")

    with pytest.raises(ConfigError, match="ZeroDivisionError: division by zero") as error:
        find_app("found_broken")

    assert f"{path}:2" in str(error.value)
    assert isinstance(error.value.__cause__, ZeroDivisionError)


def test_an_import_that_fails_inside_a_module_is_not_taken_for_the_module_missing(write):
    path = write("found_needs.py", "import found_missing_library\n")

    with pytest.raises(ConfigError, match="importing 'found_needs' failed") as error:
        find_app("found_needs")

    assert f"{path}:1" in str(error.value)


def test_a_module_that_ends_the_process_is_a_broken_module(write):
    write("found_script.py", "import sys\nsys.exit('usage: …')\n")

    with pytest.raises(ConfigError, match="importing 'found_script' failed: SystemExit"):
        find_app("found_script")


def test_a_module_that_is_no_text_is_named(write):
    write("found_binary.py", "app = '\0'\n")

    with pytest.raises(ConfigError, match=r"(?s)'found_binary' failed: .* at +\S*found_binary\.py"):
        find_app("found_binary")


def test_a_wrong_setting_in_a_module_is_said_as_it_is(write):
    write("found_setting.py", "from streamq import App\napp = App('x', concurency=3)\n")

    with pytest.raises(ConfigError, match="unknown setting 'concurency'"):
        find_app("found_setting")


# Celery's ways to name an app, and factories


@pytest.mark.parametrize("spec", ["found_shop.queue", "found_shop:queue", "found_pack.inner.queue"])
def test_an_attribute_may_be_named_after_a_dot(write, spec):
    write("found_shop.py", APP.replace("app =", "queue ="))
    write("found_pack/__init__.py", "")
    write("found_pack/inner.py", "from found_shop import queue\n")

    assert find_app(spec).app.name == "here"


def test_an_attribute_of_an_attribute_may_be_named(write):
    write("found_held.py", f"{APP}class held:\n    inner = app\ndel app\n")

    assert find_app("found_held:held.inner").app.name == "here"


def test_a_module_wins_over_an_attribute_of_its_name(write):
    write("found_pack/__init__.py", "from found_pack.app import app\n")
    write("found_pack/app.py", APP)

    assert find_app("found_pack.app").app.name == "here"


def test_a_package_without_an_app_has_it_in_its_module_celery(write):
    write("found_site/__init__.py", "")
    write("found_site/celery.py", APP)

    assert find_app("found_site").app.name == "here"


def test_a_module_celery_that_fails_is_told(write):
    write("found_site/__init__.py", "")
    path = write("found_site/celery.py", "boom = 1 / 0\n")

    with pytest.raises(ConfigError, match=r"importing 'found_site\.celery' failed") as error:
        find_app("found_site")

    assert f"{path}:1" in str(error.value)


def test_the_attribute_called_celery_wins_where_none_is_called_app(write):
    write("found_names.py", "from streamq import App\nother = App('o')\ncelery = App('here')\n")

    assert find_app("found_names").app.name == "here"


MAKES = "from streamq import App\ndef make_app(url=None):\n    return App('made')\n"


def test_a_factory_is_called_where_its_name_has_brackets(write):
    write("found_makes.py", MAKES)

    assert find_app("found_makes:make_app()").app.name == "made"


@pytest.mark.parametrize("spec", ["found_makes:make_app", "found_makes.make_app"])
def test_a_factory_without_brackets_says_what_to_write(write, spec):
    write("found_makes.py", MAKES)

    with pytest.raises(ConfigError, match="is a function, not an app") as error:
        find_app(spec)

    assert "write found_makes:make_app()" in str(error.value)


def test_a_module_with_a_factory_alone_says_how_to_name_it(write):
    write("found_makes.py", MAKES)

    with pytest.raises(ConfigError, match="has no streamq app") as error:
        find_app("found_makes")

    assert "-A 'found_makes:make_app()'" in str(error.value)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("def make(x): pass", "TypeError: make() missing 1 required positional argument"),
        ("def make(): 1 / 0", "ZeroDivisionError: division by zero"),
        ("def make(): return 1", "found_bad:make() is not an app"),
        ("make = 1", "cannot be called"),
    ],
)
def test_a_factory_that_makes_no_app_is_told(write, body, says):
    write("found_bad.py", body + "\n")

    with pytest.raises(ConfigError) as error:
        find_app("found_bad:make()")

    assert says in str(error.value)


def test_a_factory_after_a_dot_is_told_to_stand_after_a_colon(write):
    write("found_makes.py", MAKES)

    with pytest.raises(ConfigError) as error:
        find_app("found_makes.make_app()")

    assert "a factory stands after a colon: found_makes:make_app()" in str(error.value)


def test_a_proxy_in_a_module_is_not_asked_what_it_stands_for(write):
    proxy = "class Proxy:\n    @property\n    def __class__(self): raise RuntimeError('early')\n"
    write("found_proxy.py", f"{APP}{proxy}current = Proxy()\n")

    assert find_app("found_proxy").app.name == "here"


@pytest.mark.parametrize(
    ("spec", "missing"),
    [("found_pack.nowhere", "found_pack.nowhere"), ("found_no.where", "found_no")],
)
def test_what_is_neither_module_nor_attribute_is_a_module_that_is_missing(write, spec, missing):
    write("found_pack/__init__.py", "")

    with pytest.raises(ConfigError, match=f"no module named '{missing}'"):
        find_app(spec)
