"""Exceptions as data, and exceptions again: nothing is imported, no ``__init__`` runs."""

import sys
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamq.errors import ConfigError, Overdue, TaskError
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


def test_a_class_that_is_not_loaded_becomes_a_task_error(tmp_path, monkeypatch):
    (tmp_path / "unloaded.py").write_text("class Odd(Exception):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)

    back = rebuild({**simple("unloaded.Odd", "text"), "traceback": b"Traceback: there"})

    assert type(back) is TaskError
    assert (back.type, back.message) == ("unloaded.Odd", "text")
    assert "Traceback: there" in back.traceback
    assert "unloaded" not in sys.modules


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


@pytest.mark.parametrize("ending", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_an_exception_that_ends_whoever_looks_at_it_is_described(ending):
    class Mine(Exception):
        def __str__(self):
            raise ending

    class Hidden(Exception):
        def __getattribute__(self, name):
            raise ending

    mine, hidden = describe(raised(Mine())), describe(raised(Hidden()))

    assert mine["error"] == f"<Mine; its __str__ raised {ending.__name__}>".encode()
    assert hidden["error"] == f"<Hidden; describing it raised {ending.__name__}>".encode()


def test_a_task_that_is_stopped_while_its_exception_speaks_is_stopped():
    class Slow(Exception):
        def __str__(self):
            raise Overdue

    with pytest.raises(Overdue):
        describe(raised(Slow()))


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


#: What hostile classes have got to say.
SPOKEN = []


class Hostile(Exception):
    """Does harm wherever Python lets a class speak."""

    def __init__(self, *args):
        SPOKEN.append("init")

    def __new__(cls, *args):
        SPOKEN.append("new")
        raise SystemExit

    def __reduce__(self):
        SPOKEN.append("reduce")
        return print, ("harm",)

    def __setstate__(self, state):
        SPOKEN.append("setstate")

    def __getattribute__(self, name):
        SPOKEN.append(f"getattribute {name}")
        raise SystemExit

    def __setattr__(self, name, value):
        SPOKEN.append(f"setattr {name}")
        raise SystemExit


class Meta(type):
    def __call__(cls, *args):
        SPOKEN.append("call")
        raise SystemExit


class MetaHostile(Exception, metaclass=Meta):
    pass


class Leaving(BaseException):
    pass


class Proxy:
    """Stands in a module and asks around when it is looked at."""

    @property
    def __class__(self):
        SPOKEN.append("class")
        return ValueError

    def __getattribute__(self, name):
        SPOKEN.append(f"getattribute {name}")
        raise RuntimeError


class Lazy(types.ModuleType):
    def __getattribute__(self, name):
        SPOKEN.append(f"module {name}")
        raise RuntimeError


class Both(SystemExit, Exception):
    pass


@pytest.mark.parametrize("name", ["Hostile", "MetaHostile"])
def test_no_method_of_a_class_runs_when_its_exception_is_made_again(name):
    SPOKEN.clear()

    error = rebuild({**simple(f"{__name__}.{name}", "text"), "error_args": b'["text"]'})

    assert issubclass(type(error), Exception)
    assert SPOKEN == []


def test_what_stands_in_a_module_is_not_asked_anything(monkeypatch):
    odd = types.ModuleType("odd")
    odd.proxy = Proxy()
    monkeypatch.setitem(sys.modules, "odd", odd)
    monkeypatch.setitem(sys.modules, "lazy", Lazy("lazy"))
    SPOKEN.clear()

    for name in ("odd.proxy", "odd.proxy.Error", "lazy.Error", "lazy.Error.Inner"):
        assert type(rebuild(simple(name, "told"))) is TaskError

    monkeypatch.undo()
    assert SPOKEN == []


FORGED = [
    "builtins.SystemExit", "SystemExit", "KeyboardInterrupt", "GeneratorExit", "os.system",
    "asyncio.CancelledError", "builtins.eval", "subprocess.Popen", "os.path.join", "sys.exit",
    "os.__class__", "os.__dict__", "ValueError.__class__", "ValueError.__init__.__globals__",
    "ValueError.__subclasses__", "builtins.__import__", "builtins.Exception.__base__",
    "streamq.failure.sys.modules", "streamq.failure.sys", "..", ".", "a..b", "builtins.", "x" * 999,
    ".".join(["os"] * 5000), "ValueError\x00", "ValueErr\u202e", "\x1b[31mValueError",
    f"{__name__}.Leaving", f"{__name__}.Both", "type", "object", "builtins.BaseException",
]  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.parametrize("args", [b"[]", b"[0]", b'["echo harm"]', b"[[]]", b"null", b"{}", b"[1"])
def test_a_forged_name_makes_an_exception_that_only_tells(name, args):
    error = rebuild({**simple(name, "told"), "error_args": args})

    assert isinstance(error, Exception)
    assert not isinstance(error, (SystemExit, KeyboardInterrupt, GeneratorExit))
    assert type(error) is TaskError


HUGE = [
    b"[" + b"9" * 100_000 + b"]",
    b"[" * 100_000,
    b"[" + b"1," * 400_000 + b"1]",
    b"[1e99999999]",
    b'[{"a":1,"a":2}]',
    b"\xff\xfe",
]


@pytest.mark.parametrize("arguments", HUGE)
@pytest.mark.parametrize("name", ["ValueError", "OSError", "UnicodeDecodeError", "StopIteration"])
def test_arguments_that_are_too_much_are_left_out(name, arguments):
    error = rebuild({**simple(name, "told"), "error_args": arguments})

    assert isinstance(error, Exception)
    assert len(str(error)) < 1000


def test_arguments_longer_than_any_that_are_written_are_not_read():
    error = rebuild({**simple("ValueError", "told"), "error_args": b"[" + b"1," * 40_000 + b"1]"})

    assert type(error) is ValueError
    assert error.args == ("told",)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["error_type", "error", "error_args", "traceback", "state", "reason"]),
        st.binary(max_size=200) | st.sampled_from([name.encode() for name in FORGED[:20]]),
    )
)
def test_any_record_becomes_an_exception(fields):
    assert isinstance(rebuild(fields), Exception)
