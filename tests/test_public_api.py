"""What ``import streamq`` promises: the names, where they live, and that each says what it does."""

import ast
import importlib
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import streamq

ROOT = Path(__file__).resolve().parents[1]

#: What the contract with users names.
PROMISED = {
    *(
        "App",
        "Binding",
        "Exchange",
        "Queue",
        "Result",
        "Task",
        "State",
        "Ignore",
        "Reject",
        "Retry",
    ),
    *("StreamqError", "ConfigError", "Unroutable", "TaskNotFound", "EncodeError", "DecodeError"),
    *(
        "ContentDisallowed",
        "QueueFull",
        "OutOfIds",
        "BrokerUnavailable",
        "BrokerFull",
        "PublishUnknown",
    ),
    "NotConfirmed",
    *("ResultTimeout", "TaskError", "Revoked", "WorkerLost", "TimeLimitExceeded"),
    *("SoftTimeLimitExceeded", "MaxRetriesExceeded", "PartlyPublished", "SignatureInvalid"),
    *("enqueue", "aenqueue", "task", "set_default", "default_app", "current_task"),
    *("as_completed", "get_task_logger", "register_serializer", "Middleware"),
}

BUILTINS = {
    "ConfigError": ValueError,
    "Unroutable": LookupError,
    "TaskNotFound": LookupError,
    "ContentDisallowed": ValueError,
    "EncodeError": ValueError,
    "DecodeError": ValueError,
    "SignatureInvalid": ValueError,
    "ResultTimeout": TimeoutError,
    "BrokerUnavailable": ConnectionError,
    "BrokerFull": ConnectionError,
    "PublishUnknown": ConnectionError,
    "NotConfirmed": ConnectionError,
}

#: Where the app and what it hands out live: every public method there needs a docstring.
NOUNS = (
    *("App", "Binding", "Exchange", "Queue", "Result", "Task", "Call", "Signature", "Running"),
    "Middleware",
)


def in_a_fresh_process(code):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_list_of_names_is_sorted_and_true():
    assert streamq.__all__ == sorted(streamq.__all__)
    assert len(set(streamq.__all__)) == len(streamq.__all__)
    for name in streamq.__all__:
        assert getattr(streamq, name) is not None


def test_every_name_that_users_were_promised_is_there():
    assert set(streamq.__all__) >= PROMISED


def test_the_homes_name_everything_and_nothing_else():
    assert {*streamq.MODULE_OF, "__version__"} == set(streamq.__all__)


def test_each_name_is_defined_in_its_home():
    for name, home in streamq.MODULE_OF.items():
        found = getattr(importlib.import_module(home), name)
        assert found is getattr(streamq, name)
        assert found.__module__ == home, f"{name} is defined in {found.__module__}"


@pytest.mark.parametrize("name", sorted(streamq.LATER))
def test_a_name_of_a_later_version_is_refused_by_name_however_it_is_asked_for(name):
    with pytest.raises(ImportError, match=f"^not in this version: {name}$"):
        exec(f"from streamq import {name}")
    with pytest.raises(AttributeError, match=f"^not in this version: {name}$"):
        getattr(streamq, name)
    assert not hasattr(streamq, name)


def test_a_result_cannot_be_made_of_an_id_alone():
    with pytest.raises(TypeError, match=r"app\.result\('abc'\)"):
        streamq.Result("abc")


def test_type_checkers_are_told_the_same_homes():
    tree = ast.parse((ROOT / "streamq" / "__init__.py").read_text())
    (told,) = [node for node in tree.body if isinstance(node, ast.If)]
    imports = {
        alias.name: node.module
        for node in told.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert imports == streamq.MODULE_OF


def test_no_module_hides_a_public_name():
    """Importing ``streamq.x`` binds the module to that name: then nothing else may have it."""
    modules = {path.stem for path in (ROOT / "streamq").iterdir()}

    assert not modules & set(streamq.__all__)


def test_a_wrong_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Quueue'"):
        _ = streamq.Quueue


def test_dir_lists_the_public_names():
    assert set(streamq.__all__) <= set(dir(streamq))


def test_importing_the_package_loads_nothing_else():
    loaded = in_a_fresh_process(
        "import sys; before = set(sys.modules); import streamq; print(*set(sys.modules) - before)"
    )

    ours = [name for name in loaded if name.startswith("streamq")]
    assert ours == ["streamq"]
    assert not {"redis", "msgspec", "threading", "socket"} & set(loaded)


def test_making_an_app_opens_no_connection():
    said = in_a_fresh_process(
        """
        import socket, sys
        def audit(event, args):
            if event in ("socket.connect", "subprocess.Popen", "os.fork"):
                print(event)
        sys.addaudithook(audit)
        import streamq
        app = streamq.App("shop", url="redis://localhost:1")
        @app.task
        def add(x, y): return x + y
        app.result("x"); add.s(1, 2); add.options(queue="mail")
        print("quiet")
        """
    )

    assert said == ["quiet"]


@pytest.mark.parametrize(("name", "builtin"), BUILTINS.items())
def test_an_error_is_also_the_builtin_that_says_it(name, builtin):
    assert issubclass(getattr(streamq, name), (streamq.StreamqError, builtin))
    assert issubclass(getattr(streamq, name), builtin)


def test_every_error_hangs_on_one_tree():
    for name in streamq.MODULES["streamq.errors"].split():
        if name not in ("Ignore", "Reject", "Retry"):
            assert issubclass(getattr(streamq, name), streamq.StreamqError), name


@pytest.mark.parametrize("name", [n for n in streamq.__all__ if n != "__version__"])
def test_every_public_name_says_what_it_is(name):
    assert own_docstring(getattr(streamq, name)), f"streamq.{name} has no docstring of its own"


@pytest.mark.parametrize("noun", NOUNS)
def test_every_public_method_says_what_it_does(noun):
    silent = [
        name
        for name, member in vars(getattr(streamq, noun)).items()
        if not name.startswith("_") and describes_itself(member) is False
    ]

    assert not silent, f"{noun} has methods without a docstring: {silent}"


def own_docstring(thing):
    """The docstring that was written for this thing, not one that Python made up."""
    text = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
    return text and not text.startswith(f"{thing.__name__}(")


def describes_itself(member):
    """Whether a function or property has a docstring; None for anything else."""
    if isinstance(member, staticmethod | classmethod):
        member = member.__func__
    if inspect.isfunction(member) or isinstance(member, property):
        return bool(member.__doc__)
    return None


def test_help_of_a_worker_waits_for_neither_redis_nor_the_app():
    code = (
        "import sys; from streamq.cli.command import GivenOptions; "
        "from streamq.cli.main import main; main.run(['worker', '--help'], GivenOptions())"
    )
    told = subprocess.run(
        [sys.executable, "-c", f"{code}; print(*sys.modules)"], capture_output=True, text=True
    ).stdout

    assert "--concurrency" in told
    assert not {"redis", "asyncio", "streamq.app", "streamq.worker.boot"} & set(told.split())
