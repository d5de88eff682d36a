"""Log lines of a worker: one record is one line of JSON, and a user's own logging is respected."""

import io
import json
import logging
import logging.config
import os
import sys
from collections import namedtuple
from datetime import date

import pytest

from streamq.celery.utils.log import get_task_logger
from streamq.context import Request, Running, current
from streamq.core.log_limit import LogLimit
from streamq.errors import Overdue, SoftTimeLimitExceeded
from streamq.runner import logging as logs
from streamq.runner.logging import JsonFormatter, StderrHandler, TextFormatter, set_up_logging
from streamq.runner.terminal import Style
from streamq.signals import setup_logging


class Mute:
    """Says nothing of itself."""

    def __str__(self):
        raise self.kind("no text")

    __repr__ = __str__
    kind = RuntimeError


class Leaving(Mute):
    kind = SystemExit


class Shouting(str):
    def __str__(self):
        return self

    def encode(self, *args, **kwargs):
        raise RuntimeError


def record(message, *args, **more):
    logger = logging.Logger("here")
    caught = []
    logger.handle = caught.append
    logger.error(message, *args, **more)
    return caught[0]


def strictly(line):
    """What a line says to a reader of JSON that is not Python's."""
    assert len(line.splitlines()) == 1
    line.encode()  # no surrogate has been left
    return json.loads(line, parse_constant=pytest.fail)


def said(message, *args, **more):
    return strictly(JsonFormatter().format(record(message, *args, **more)))


@pytest.mark.parametrize(
    ("message", "args", "expected"),
    [
        ("plain %s", ("ünï",), "plain ünï"),
        ("a \ud800 b", (), "a \\ud800 b"),
        ("%s", ("\udcff",), "\\udcff"),
        ("%d items", ("many",), "%d items many"),
        ("%s and %s", (1,), "%s and %s 1"),
        ("no place", (1, 2), "no place 1 2"),
        ("%(name)s", ({"other": 1},), "%(name)s {'other': 1}"),
        ("100%", (5,), "100% 5"),
        ("%s", (Mute(),), "%s <Mute; its __str__ raised RuntimeError>"),
        (Mute(), (), "<Mute; its __str__ raised RuntimeError> "),
        ("%r", (Leaving(),), "%r <Leaving; its __str__ raised SystemExit>"),
        pytest.param(Shouting("loud"), (), "loud", id="odd text"),
        ("a\nb\r\x0b\x1c\x85\u2028\u2029c", (), "a\nb\r\x0b\x1c\x85\u2028\u2029c"),
        (["no", "text"], (), "['no', 'text']"),
        ("\x00\x1b[2J", (), "\x00\x1b[2J"),
    ],
)
def test_a_record_is_one_line_of_json_whatever_it_says(message, args, expected):
    line = said(message, *args)

    assert line["message"] == expected
    assert (line["level"], line["logger"], line["pid"]) == ("error", "here", os.getpid())


def knot():
    tied = []
    tied.append(tied)
    return tied


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3),
        (1.5, 1.5),
        (None, None),
        (True, True),
        ({"a": [1, {2: (3,)}]}, {"a": [1, {"2": [3]}]}),
        (float("nan"), "nan"),
        ([float("-inf")], ["-inf"]),
        (10**100, str(10**100)),
        (-(2**63) - 1, str(-(2**63) - 1)),
        (b"\xff", "b'\\xff'"),
        (date(2024, 1, 2), "2024-01-02"),
        ("\ud800", "\\ud800"),
        ({"\ud800": "\ud801"}, {"\\ud800": "\\ud801"}),
        (Mute(), "<Mute; its __str__ raised RuntimeError>"),
        ([Leaving()], ["<Leaving; its __str__ raised SystemExit>"]),
        (Point(1, 2), "Point(x=1, y=2)"),
        (ValueError("why"), "why"),
    ],
)
def test_what_was_given_as_extra_is_in_the_line(value, expected):
    assert said("text", extra={"given": value})["given"] == expected


@pytest.mark.parametrize("value", [knot(), 10**5000, [[]] * 5000], ids=["knot", "huge", "long"])
def test_a_value_without_end_is_one_line_too(value):
    assert "given" in said("text", extra={"given": value})


def test_extra_does_not_take_the_place_of_what_a_line_always_says():
    line = said("text", extra={"time": "now", "level": "mine", "id": 5, "pid": 1})

    assert (line["level"], line["level_"]) == ("error", "mine")
    assert (line["time_"], line["pid_"], line["id"]) == ("now", 1, 5)


def test_the_stack_and_the_traceback_are_in_the_line():
    try:
        raise ValueError("odd \ud800")
    except ValueError:
        line = said("text", exc_info=True, stack_info=True)

    assert line["traceback"].startswith("Traceback (most recent call last)")
    assert line["traceback"].endswith("ValueError: odd \\ud800")
    assert "test_the_stack_and_the_traceback" in line["stack_info"]
    assert "traceback" not in said("text", exc_info=True)


def test_an_exception_that_cannot_be_shown_costs_no_line():
    class Odd(Exception):
        def __str__(self):
            raise RuntimeError

        def __getattr__(self, name):
            raise KeyError(name)

    try:
        raise Odd
    except Odd:
        assert "Odd" in said("text", exc_info=True)["traceback"]


def test_a_task_that_is_stopped_while_it_logs_is_stopped():
    class Slow(Mute):
        kind = Overdue

    with pytest.raises(Overdue):
        said("%s", Slow())


def test_a_record_for_which_no_room_is_left_is_a_line_too(monkeypatch):
    monkeypatch.setattr(logs, "json_value", lambda value: [][1])

    assert "IndexError" in said("text", extra={"a": 1})["message"]


def test_a_line_for_people_is_written_whatever_the_record_holds():
    line = TextFormatter().format(record("%d items", "many", stack_info=True))

    assert line.splitlines()[0].endswith("ERROR %d items many")
    assert "Stack (most recent call last)" in line


ID = "019ab3c4d5e6f708192a3b4c5d"


def ended(format, name="streamq.worker", level=logging.INFO):
    """The record of a line about a task."""
    return logging.LogRecord(name, level, "", 0, format, (f"shop.add[{ID}]",), None)


@pytest.mark.parametrize(
    ("format", "shown"),
    [
        ("%s ok in 1 ms", "shop.add[…2a3b4c5d] \x1b[32mok\x1b[0m in 1 ms"),
        ("%s failed: ok", "shop.add[…2a3b4c5d] \x1b[31mfailed\x1b[0m: ok"),
        ("%s: no such task here; x", "shop.add[…2a3b4c5d]: \x1b[31mno such task here\x1b[0m; x"),
        ("%s is what", "shop.add[…2a3b4c5d] is what"),
    ],
)
def test_on_a_terminal_levels_and_states_have_colours_and_ids_are_short(format, shown):
    line = TextFormatter(Style(is_terminal=True, has_colours=True)).format(ended(format))

    assert line.partition(" ")[2] == f"\x1b[32mINFO \x1b[0m {shown}"


def test_without_colours_ids_are_short_all_the_same():
    line = TextFormatter(Style(is_terminal=True)).format(ended("%s ok"))

    assert line.endswith("INFO  shop.add[…2a3b4c5d] ok")


def test_a_file_gets_whole_ids_and_no_colour():
    assert TextFormatter().format(ended("%s ok")).endswith(f"INFO  shop.add[{ID}] ok")
    assert ID in JsonFormatter().format(ended("%s ok"))


def test_what_users_log_is_left_as_it_is():
    line = TextFormatter(Style(is_terminal=True)).format(ended("%s ok", "streamq.task.shop"))

    assert line.endswith(f"shop.add[{ID}] ok")


@pytest.mark.parametrize(
    ("variables", "colours"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_a_terminal_may_be_without_colours(variables, colours, monkeypatch):
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ours, theirs = os.openpty()
    reading, writing = os.pipe()

    assert Style.of(theirs) == Style(is_terminal=True, has_colours=colours)
    assert Style.of(writing) == Style()
    for descriptor in (ours, theirs, reading, writing):
        os.close(descriptor)


@pytest.mark.parametrize("name", ["levelname", "name", "stack_info"])
@pytest.mark.parametrize("value", [None, 5, Mute()])
def test_a_filter_may_have_spoilt_the_record(name, value):
    spoilt = record("said")
    setattr(spoilt, name, value)

    assert json.loads(JsonFormatter().format(spoilt))["message"] == "said"
    assert "said" in TextFormatter().format(spoilt)


def test_a_long_line_is_written_whole(capfd, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:1000]))

    logs.write_line("x" * 5000)

    assert capfd.readouterr().err == "x" * 5000 + "\n"


class Forwarding:
    """What people put in the place of ``sys.stderr`` to have it logged."""

    def write(self, text):
        logging.getLogger("printed").error(text.rstrip())

    def flush(self): ...


def closed():
    with open(os.devnull, "w") as stream:
        return stream


@pytest.mark.parametrize("put", [io.StringIO, Forwarding, closed, lambda: None])
def test_a_line_is_written_where_a_task_has_put_something_else(put, capfd, monkeypatch):
    monkeypatch.setattr(sys, "stderr", put())
    monkeypatch.setattr(sys, "__stderr__", put())

    logs.write_line("a line")

    assert capfd.readouterr().err == "a line\n"


# A user's own logging


class Root(logging.RootLogger):
    """The root logger, without what pytest adds to it."""

    def addHandler(self, handler):
        if not type(handler).__module__.startswith("_pytest"):
            super().addHandler(handler)


@pytest.fixture
def loggers(monkeypatch):
    """Python's loggers as in a new process; what is set there ends with the test."""
    root = Root(logging.WARNING)
    manager = logging.Manager(root)
    monkeypatch.setattr(logging, "root", root)
    monkeypatch.setattr(logging.Logger, "root", root)
    monkeypatch.setattr(logging.Logger, "manager", manager)
    monkeypatch.setattr(logs, "STDERR", StderrHandler())
    return root


def configure(**config):
    logging.config.dictConfig({"version": 1, **config})


def test_without_a_configuration_of_the_users_every_logger_has_the_level(loggers):
    set_up_logging("info", "text")
    set_up_logging("info", "text")

    assert loggers.level == logging.INFO
    assert len(loggers.handlers) == 1
    assert logging.getLogger("shop").isEnabledFor(logging.INFO)


@pytest.mark.parametrize("later", [False, True], ids=["before", "while tasks are loaded"])
@pytest.mark.parametrize(
    ("level", "handlers"),
    [("WARNING", ["null"]), ("DEBUG", ["null"]), ("DEBUG", []), ("ERROR", [])],
)
def test_a_level_of_the_root_logger_that_the_user_set_stays(loggers, later, level, handlers):
    if later:
        set_up_logging("info", "text")
    configure(
        handlers={"null": {"class": "logging.NullHandler"}},
        root={"level": level, "handlers": handlers},
    )

    set_up_logging("info", "text")

    assert loggers.level == getattr(logging, level)
    assert [type(each).__name__ for each in loggers.handlers] == (
        ["NullHandler"] if handlers else ["StderrHandler"]
    )
    assert logging.getLogger("streamq.worker").isEnabledFor(logging.INFO)


def test_a_level_of_streamqs_own_that_the_user_set_stays(loggers):
    configure(loggers={"streamq": {"level": "ERROR"}})

    set_up_logging("debug", "text")

    assert not logging.getLogger("streamq.worker").isEnabledFor(logging.INFO)


@pytest.mark.parametrize("when", ["before", "after", "both"])
@pytest.mark.parametrize("name", ["streamq.worker", "streamq.task.shop", "streamq"])
def test_no_configuration_silences_streamq_without_naming_it(loggers, capfd, when, name):
    logger = logging.getLogger(name)
    if when != "after":
        configure(disable_existing_loggers=True)
        assert logger.disabled
    set_up_logging("info", "json")
    if when != "before":
        configure(disable_existing_loggers=True, loggers={"other": {"level": "INFO"}})

    logger.error("a failure")

    assert strictly(capfd.readouterr().err)["message"] == "a failure"


def test_loggers_of_others_are_disabled_as_python_does(loggers):
    logger = logging.getLogger("streamqueue")
    set_up_logging("info", "json")

    configure(disable_existing_loggers=True)

    assert logger.disabled


def test_a_logger_of_a_users_class_stays_one(loggers):
    class Mine(logging.Logger):
        def shout(self):
            return "!"

    logging.Logger.manager.setLoggerClass(Mine)
    logger = logging.getLogger("streamq.worker")
    set_up_logging("info", "text")
    configure(disable_existing_loggers=True)

    assert isinstance(logger, Mine)
    assert (logger.shout(), logger.disabled) == ("!", False)
    assert sys.modules["logging"].getLogger("streamq.worker") is logger


@pytest.fixture
def receiver():
    """A receiver of setup_logging, and what it is given."""
    calls = []

    def receive(sender, loglevel, logfile, format, colorize, **kwargs):
        calls.append((loglevel, logfile, format))

    yield receive, calls
    setup_logging.disconnect(receive)


@pytest.mark.parametrize("when", ["before", "while tasks are loaded"])
def test_a_receiver_of_setup_logging_is_left_all_of_it(loggers, receiver, when):
    receive, calls = receiver
    if when == "before":
        setup_logging.connect(receive)
    set_up_logging("debug", "text")
    setup_logging.connect(receive)
    assert calls == []

    set_up_logging("debug", "text", loaded=True)

    assert calls == [(logging.DEBUG, None, logs.FORMAT)]
    assert (loggers.handlers, loggers.level) == ([], logging.WARNING)
    assert logging.getLogger("streamq").level == logging.NOTSET


def test_what_the_user_has_set_up_besides_a_receiver_stays(loggers, receiver):
    set_up_logging("info", "text")
    configure(root={"level": "ERROR"}, loggers={"streamq": {"level": "DEBUG"}})
    setup_logging.connect(receiver[0])

    set_up_logging("info", "text", loaded=True)

    assert loggers.level == logging.ERROR
    assert logging.getLogger("streamq").level == logging.DEBUG


def test_what_a_receiver_configures_ends_no_runner_and_does_not_silence_it(loggers, capfd):
    def receive(**kwargs):
        configure(disable_existing_loggers=True)
        loggers.addHandler(Breaking(SystemExit("no route")))

    logger = logging.getLogger("streamq.worker")
    setup_logging.connect(receive)
    try:
        set_up_logging("info", "text", loaded=True)
        logger.error("a failure")
    finally:
        setup_logging.disconnect(receive)

    assert "a failure" in capfd.readouterr().err


class Breaking(logging.Handler):
    """A handler of the user's that raises, as one does that cannot reach its server."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def emit(self, record):
        raise self.error

    filter = emit


def broken_handler(loggers, error):
    loggers.addHandler(Breaking(error))


def broken_filter(loggers, error):
    logging.getLogger("streamq.worker").addFilter(Breaking(error))


def broken_factory(loggers, error):
    loggers.addHandler(logging.NullHandler())
    logging.setLogRecordFactory(lambda *args: Breaking(error).emit(None))


@pytest.fixture
def factory():
    yield
    logging.setLogRecordFactory(logging.LogRecord)


@pytest.mark.usefixtures("factory")
@pytest.mark.parametrize("broken", [broken_handler, broken_filter, broken_factory])
@pytest.mark.parametrize("error", [RuntimeError("no route"), SystemExit("no route")])
def test_what_a_users_logging_raises_is_told_and_the_line_is_written(
    loggers, capfd, monkeypatch, broken, error
):
    monkeypatch.setattr(logs, "LOGGING_FAILURES", LogLimit(60.0))
    logger = logging.getLogger("streamq.worker")
    broken(loggers, error)
    set_up_logging("info", "json")

    for number in (1, 2):
        logger.error("line %d", number, exc_info=ValueError("why"))

    first, told, second = map(json.loads, capfd.readouterr().err.splitlines())
    assert (first["message"], second["message"]) == ("line 1", "line 2")
    assert "ValueError: why" in first["traceback"]
    assert "logging failed" in told["message"]
    assert f"{type(error).__name__}: no route" in told["traceback"]


@pytest.mark.parametrize("error", [SoftTimeLimitExceeded("late"), Overdue()])
def test_a_limit_passes_through_a_handler(loggers, error):
    logger = logging.getLogger("streamq.task.shop")
    broken_handler(loggers, error)
    set_up_logging("info", "json")

    with pytest.raises(type(error)):
        logger.info("line")


def test_a_line_says_who_has_written_it(loggers):
    seen = []
    logger = logging.getLogger("streamq.worker")
    loggers.addHandler(logging.NullHandler())
    loggers.handlers[0].handle = seen.append
    set_up_logging("info", "json")

    logger.info("line")
    logger.log(logging.INFO, "line", stacklevel=1)

    assert {record.funcName for record in seen} == {"test_a_line_says_who_has_written_it"}


def test_a_task_logger_of_celery_keeps_its_name_and_tells_the_task(caplog):
    logger = get_task_logger("shop.base")
    record = logging.LogRecord(logger.name, logging.INFO, "", 0, "hello", (), None)
    token = current.set(Running(Request(id="ID", task="shop.add")))
    try:
        said = TextFormatter().format(record)
    finally:
        current.reset(token)

    assert logger is logging.getLogger("shop.base")
    assert said.endswith("shop.add[ID] hello")
