"""Exceptions as data, and exceptions again: nothing is imported, no ``__init__`` runs."""

import sys
import types

import pytest

from streamq.errors import ConfigError, TaskError
from streamq.failure import (
    LONGEST_MESSAGE,
    LONGEST_TRACEBACK,
    describe,
    message_of,
    rebuild,
    simple,
    type_name,
)


class Plain(Exception):
    pass


class Demanding(Exception):
    """Cannot be made from its args, and would be seen doing it."""

    made = 0

    def __init__(self, code, *, reason):
        super().__init__(f"{code}: {reason}")
        Demanding.made += 1
        self.code = code


class Stubborn(Exception):
    def __new__(cls, *args):
        raise RuntimeError("not to be made")


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def raised(error):
    try:
        raise error
    except BaseException as caught:
        return caught


def there_and_back(error):
    return rebuild(describe(raised(error)))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad", 3),
        KeyError("k"),
        Plain("one", [2]),
        ConfigError("wrong"),
        StopIteration(5),
        ZeroDivisionError(),
        TypeError("ünï"),
    ],
)
def test_an_exception_comes_back_with_class_and_arguments(error):
    back = there_and_back(error)

    assert type(back) is type(error)
    assert list(back.args) == list(error.args)


def test_an_os_error_keeps_its_number_and_subclass():
    back = there_and_back(FileNotFoundError(2, "no such file", "/tmp/x"))

    assert type(back) is FileNotFoundError
    assert back.errno == 2
    assert back.args[1] == "no such file"


def test_a_unicode_error_comes_back():
    back = there_and_back(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "why"))

    assert isinstance(back, UnicodeDecodeError)
    assert "can't decode byte 0xff" in str(back.__cause__)


def test_a_custom_init_is_not_run():
    error = raised(Demanding(7, reason="odd"))
    Demanding.made = 0

    back = rebuild(describe(error))

    assert type(back) is Demanding
    assert str(back) == "7: odd"
    assert Demanding.made == 0


def test_a_custom_new_is_not_run():
    record = simple(f"{__name__}.Stubborn", "text")

    assert type(rebuild(record)) is Stubborn


def test_arguments_that_json_cannot_carry_become_the_message():
    back = there_and_back(Plain(object()))

    assert type(back) is Plain
    assert back.args[0].startswith("<object object")


def test_a_class_that_is_not_loaded_becomes_a_task_error():
    back = rebuild({**simple("nowhere.mod.Odd", "text"), "traceback": b"Traceback: there"})

    assert type(back) is TaskError
    assert (back.type, back.message) == ("nowhere.mod.Odd", "text")
    assert "Traceback: there" in back.traceback


@pytest.mark.parametrize(
    "name",
    ["SystemExit", "KeyboardInterrupt", "BaseException", "print", "os.system", "builtins.exec", ""],
)
def test_what_is_no_exception_class_is_never_made(name):
    assert type(rebuild(simple(name, "1"))) is TaskError


def test_nothing_is_imported():
    assert "antigravity" not in sys.modules

    rebuild(simple("antigravity.Error", "text"))

    assert "antigravity" not in sys.modules


def test_no_attribute_hook_of_a_module_runs(monkeypatch):
    asked = []
    module = types.ModuleType("hooked")
    module.__getattr__ = lambda name: asked.append(name) or Plain
    monkeypatch.setitem(sys.modules, "hooked", module)

    assert type(rebuild(simple("hooked.Error", "text"))) is TaskError
    assert asked == []


def test_a_class_inside_a_class_is_found():
    class_name = type_name(Outer.Inner)

    assert class_name.endswith("Outer.Inner")
    assert type(rebuild(simple(class_name, "text"))) is Outer.Inner


class Outer:
    class Inner(Exception):
        pass


def test_the_remote_traceback_is_the_cause():
    back = there_and_back(ValueError("bad"))

    assert "raise error" in str(back.__cause__)
    assert "ValueError: bad" in str(back.__cause__)


def test_the_cause_of_an_exception_is_in_its_traceback():
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error
    except ValueError as error:
        text = describe(error)["traceback"].decode()

    assert "KeyError: 'first'" in text
    assert "direct cause" in text


def test_our_own_frames_are_left_out():
    def inner():
        raise ValueError("x")

    with pytest.raises(ValueError, match="x") as caught:
        inner()
    error = caught.value

    assert b"in test_our_own" in describe(error)["traceback"]
    assert b"in test_our_own" not in describe(error, skip=1)["traceback"]
    assert b"in inner" in describe(error, skip=9)["traceback"]


def test_a_text_that_cannot_be_had_is_said():
    assert message_of(Mute()) == "<Mute; its __str__ raised RuntimeError>"
    assert describe(raised(Mute()))["error_type"].endswith(b"Mute")


def test_messages_and_tracebacks_are_bounded():
    fields = describe(raised(ValueError("x" * 1_000_000)))

    assert len(fields["error"]) == LONGEST_MESSAGE
    assert len(fields["traceback"].decode()) <= LONGEST_TRACEBACK + 1
    assert "error_args" not in fields


def test_odd_characters_do_not_break_the_record():
    fields = describe(raised(ValueError("\ud800")))

    assert b"\\ud800" in fields["error"]
    assert isinstance(rebuild(fields), Exception)


def test_a_record_of_garbage_is_still_an_exception():
    assert isinstance(rebuild({"error_type": b"\xff", "error": b"\xfe"}), TaskError)
    assert isinstance(rebuild({}), TaskError)
    assert isinstance(rebuild({"error_type": b"ValueError", "error_args": b"{["}), TaskError)
