"""Exceptions as data, and exceptions again: nothing is imported, no ``__init__`` runs."""

import copy
import http.client
import json
import logging
import pickle
import subprocess
import sys
import traceback
import types
import urllib.error
from abc import ABC
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamq.core.names import type_name
from streamq.errors import ConfigError, Overdue, TaskError
from streamq.serialization.exceptions import (
    LONGEST_MESSAGE,
    LONGEST_TRACEBACK,
    describe,
    message_of,
    rebuild,
    simple,
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
    assert (back.errno, back.strerror, back.filename) == (2, "no such file", "/tmp/x")
    assert back.args == (2, "no such file")


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


def test_the_remote_traceback_can_be_copied():
    cause = there_and_back(ValueError("bad")).__cause__

    for again in (copy.copy(cause), copy.deepcopy(cause), pickle.loads(pickle.dumps(cause))):
        assert (type(again), str(again)) == (type(cause), str(cause))


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
def test_an_exception_that_ends_its_reader_is_described(ending):
    class Mine(Exception):
        def __str__(self):
            raise ending

    class Hidden(Exception):
        def __getattribute__(self, name):
            raise ending

    class Nameless(type):
        def __getattribute__(cls, name):
            raise ending

    class Foreign(Exception, metaclass=Nameless):
        pass

    mine, hidden = describe(raised(Mine())), describe(raised(Hidden()))
    foreign = describe(raised(Foreign()))

    assert mine["error"] == f"<Mine; its __str__ raised {ending.__name__}>".encode()
    assert hidden["error"] == f"<Hidden; describing it raised {ending.__name__}>".encode()
    assert hidden["error_type"] == type_name(Hidden).encode()
    assert foreign["error_type"] == b"Foreign"


class Unasked(Exception):
    """Answers nothing that it is asked for by name, but what every object has."""

    def __getattribute__(self, name):
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        raise RuntimeError(name)


class Properties(Exception):
    @property
    def args(self):
        raise RuntimeError


@pytest.mark.parametrize("cls", [Unasked, Properties])
def test_an_exception_that_answers_nothing_is_recorded_with_class_and_text(cls):
    try:
        raise cls("why")
    except Exception as caught:
        back = rebuild(describe(caught))

    assert isinstance(back, cls)
    assert str(back) == "why"
    assert copy.copy(back).with_traceback(None) is not back


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


def speaking(name):
    """A method or property that does harm."""

    def speak(*args, **kwargs):
        SPOKEN.append(name)
        raise SystemExit

    return speak


#: How a metaclass may have a say in what is asked of its classes.
ASKED = (
    "__new__ __init__ __call__ __eq__ __hash__ __getattribute__ __setattr__ __prepare__ "
    "__instancecheck__ __subclasscheck__"
)


def nosy_class():
    """An exception class that does harm whatever is asked of it, or of its metaclass."""

    class Nosy(type):
        __dict__ = __name__ = __mro__ = __base__ = property(speaking("metaclass property"))

    class Error(Exception, metaclass=Nosy):
        args = __cause__ = property(speaking("get"), speaking("set"))
        __str__ = __repr__ = __getattr__ = __init__ = speaking("method")
        __init_subclass__ = classmethod(speaking("subclass"))

    for name in ASKED.split():
        setattr(Nosy, name, speaking(f"metaclass {name}"))
    return Error


class Disguised(Exception):
    __module__ = "builtins"
    __new__ = __init__ = __str__ = speaking("disguised")


class Ordered(type):
    def mro(cls):
        SPOKEN.append("mro")
        return super().mro()


class Unwilling(Exception, metaclass=Ordered):
    __str__ = speaking("str")


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


# What an exception shows, and that it can be handed on


class Attributes(Exception):
    """Formats what only its ``__init__`` gives, as many do."""

    def __init__(self, code):
        self.code = code

    def __str__(self):
        return f"code {self.code}"

    def __repr__(self):
        return f"Attributes(code={self.code})"

    def __reduce__(self):
        return Attributes, (self.code,)


class Slotted(LookupError):
    __slots__ = ("key",)

    def __init__(self, key):
        self.key = key

    def __str__(self):
        return f"no {self.key}"


class Abstract(ABC, Exception):
    def __init__(self, where):
        self.where = where

    def __str__(self):
        return f"at {self.where}"


class NoSubclasses(Abstract):
    def __init_subclass__(cls):
        raise TypeError("final")


@dataclass(frozen=True)
class Frozen(Exception):
    code: int

    def __str__(self):
        return f"code {self.code}"


class Group(ExceptionGroup):
    pass


class Where(OSError):
    """Does not give OSError what it makes its text of when it is made without ``__init__``."""

    def __init__(self, path):
        super().__init__(13, "not yours", path)


class Positional(Exception):
    """Shows its text without help, and is not made of it."""

    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")
        self.code = code


class Created(Exception):
    def __new__(cls, code, reason):
        return super().__new__(cls, code)

    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")


class NotCalled(type):
    def __call__(cls, *args):
        raise TypeError("call make()")


class ByFactory(Exception, metaclass=NotCalled):
    make = classmethod(lambda cls, text: type.__call__(cls, text))


class Copier(Exception):
    def __init__(self, code):
        self.code = code

    def __copy__(self):
        return Copier(self.code)

    def __deepcopy__(self, memo):
        return Copier(self.code)


class Several(Exception):
    """As long as the errors that it collects."""

    def __init__(self, errors):
        super().__init__("several")
        self.errors = errors

    def __len__(self):
        return len(self.errors)


class Falsy(Exception):
    def __bool__(self):
        return False


class Equal(Exception):
    def __init__(self, code):
        self.code = code

    def __eq__(self, other):
        return self.code == other.code

    def __hash__(self):
        return hash(self.code)

    def __format__(self, how):
        return f"code {self.code}"


ODD_TO_SHOW = [
    Positional(3, "why"),
    Created(3, "why"),
    http.client.LineTooLong("header"),
    ByFactory.make("why"),
    Copier(3),
    Several([1, 2]),
    Falsy("why"),
    Equal(3),
    subprocess.CalledProcessError(1, ["ls", "-l"]),
    subprocess.TimeoutExpired("sleep 9", 5),
    urllib.error.URLError(OSError(1, "why")),
    urllib.error.HTTPError("http://host/", 404, "not there", Message(), None),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "why"),
    SyntaxError("odd", ("file.py", 3, 1, "a b")),
    FileNotFoundError(2, "no such file", "/tmp/x"),
    FileNotFoundError(2, "no such file", b"/tmp/\xff"),
    OSError(18, "across", "/a", None, "/b"),
    json.JSONDecodeError("odd", "[", 1),
    KeyError("key"),
    KeyError((1, 2)),
    ValueError(b"bytes", {1}),
    ValueError("x" * 1_000_000),
    Attributes(3),
    Slotted("key"),
    Abstract("home"),
    NoSubclasses("home"),
    Frozen(4),
    Group("several", [ValueError(1), KeyError(2)]),
]


def named(error):
    return type(error).__name__


@pytest.mark.parametrize("error", ODD_TO_SHOW, ids=named)
def test_an_exception_shows_what_the_worker_recorded_and_is_caught_by_its_class(error):
    back = there_and_back(error)

    assert str(back) == str(error)[:LONGEST_MESSAGE]
    with pytest.raises(type(error)):
        raise back
    assert type_name(type(back)) == type_name(type(error))
    assert repr(back).startswith(f"{type(error).__name__}(")


@pytest.mark.parametrize("error", ODD_TO_SHOW, ids=named)
@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e)), there_and_back],
    ids=["copy", "deepcopy", "pickle", "recorded again"],
)
def test_an_exception_that_was_made_again_can_be_copied(error, copied):
    back = there_and_back(error)
    back.add_note("seen here")

    again = copied(back)

    assert (type(again), str(again)) == (type(back), str(back))
    assert getattr(again, "filename", 0) == getattr(back, "filename", 0)
    if copied is not there_and_back:
        assert again.__notes__ == ["seen here"]


@pytest.mark.parametrize("error", ODD_TO_SHOW, ids=named)
def test_an_exception_that_was_made_again_is_logged_and_raised_from(error, caplog):
    back = there_and_back(error)

    def handled():
        try:
            raise back
        except type(error) as seen:
            logging.getLogger("here").exception("it is %s, %r", seen, seen)
            raise RuntimeError("other") from seen

    with pytest.raises(RuntimeError) as caught:
        handled()
    text = "".join(traceback.format_exception(caught.value))

    assert caught.value.__cause__ is back
    shown = back.msg if isinstance(back, SyntaxError) else str(back)
    for where in (text, caplog.text):
        assert f"{type(error).__name__}: {shown}" in where
        assert '"""\n\nThe above exception' in where  # the traceback of the worker


@pytest.mark.parametrize("error", ODD_TO_SHOW, ids=named)
def test_an_exception_that_was_made_again_is_compared_and_formatted_as_others_are(error):
    back, other = there_and_back(error), there_and_back(error)

    assert bool(back)
    assert {back: 1}[back] == 1
    assert (back == back, back == other, back != other) == (True, False, True)
    assert f"{back}" == str(back)


def test_a_class_with_an_init_of_its_own_is_not_disguised():
    back = there_and_back(Positional(3, "why"))

    assert type(back) is Positional is type(copy.copy(back))


def test_what_was_raised_here_is_copied_as_ever():
    there_and_back(Equal(1)), there_and_back(Positional(1, "why"))
    here = Several([1, 2])
    there_and_back(here)
    here.args = ([1, 2],)

    assert copy.copy(here).errors == [1, 2]
    assert pickle.loads(pickle.dumps(here)).errors == [1, 2]
    with pytest.raises(TypeError, match="reason"):
        copy.copy(Positional(1, "why"))


def test_the_subclass_that_shows_a_text_is_made_once():
    one, two = there_and_back(Attributes(1)), there_and_back(Attributes(2))

    assert (str(one), str(two)) == ("code 1", "code 2")
    assert type(one) is type(two) is not Attributes
    assert type(one).__bases__ == (Attributes,)


@pytest.mark.parametrize("path", [Path("/no/x"), "/no/\udcff", 99], ids=["path", "bytes", "number"])
def test_a_file_name_is_kept_where_it_can_be(path):
    back = there_and_back(FileNotFoundError(2, "no such file", path))

    assert back.filename == {99: 99, Path("/no/x"): "/no/x"}.get(path)
    assert there_and_back(Where("/home")).filename == "/home"


def test_two_file_names_are_kept():
    back = there_and_back(OSError(18, "across", "/a", None, "/b"))

    assert (back.filename, back.filename2) == ("/a", "/b")


def test_an_attribute_that_was_not_kept_is_said_to_be_so():
    back = there_and_back(urllib.error.HTTPError("http://host/", 404, "odd", Message(), None))

    with pytest.raises(AttributeError, match="'code': it was raised in a worker"):
        back.code  # noqa: B018


class Exhausted(StopIteration):
    pass


@pytest.mark.parametrize(
    "error", [StopIteration(5), Exhausted(), StopAsyncIteration(), GeneratorExit("x")], ids=named
)
def test_what_would_end_a_loop_of_who_asks_is_a_task_error(error):
    back = there_and_back(error)

    assert type(back) is TaskError
    assert back.type == type_name(type(error))


def test_the_error_of_a_task_that_waited_for_another_still_says_what_it_was():
    back = there_and_back(TaskError("odd.Error", "why", "first trace"))

    assert (back.type, back.message, str(back)) == ("odd.Error", "why", "odd.Error: why")


@pytest.mark.parametrize("name", ["Hostile", "MetaHostile", "Disguised", "Unwilling"])
def test_no_method_of_a_class_runs_when_its_exception_is_made_again(name):
    SPOKEN.clear()

    error = rebuild({**simple(f"{__name__}.{name}", "text"), "error_args": b'["text"]'})
    kind = TaskError if name == "Unwilling" else globals()[name]

    assert issubclass(type(error), kind)
    assert BaseException.__str__(error) if kind is TaskError else str(error) == "text"
    assert SPOKEN == []


def test_no_metaclass_is_asked_when_an_exception_is_made_again(monkeypatch):
    odd, cls = types.ModuleType("odd"), nosy_class()
    odd.Error = cls
    monkeypatch.setitem(sys.modules, "odd", odd)
    SPOKEN.clear()

    error = rebuild({**simple("odd.Error", "text"), "error_args": b"[1]", "traceback": b"there"})

    assert SPOKEN == []
    assert any(base is cls for base in vars(type)["__mro__"].__get__(type(error)))
    assert str(error) == "text"
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
    "streamq.serialization.exceptions.sys.modules", "streamq.serialization.exceptions.sys",
    "..", ".", "a..b", "builtins.", "x" * 999,
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
