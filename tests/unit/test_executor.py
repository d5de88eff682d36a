"""One message, run: whatever happens inside a task ends as an outcome."""

import asyncio
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec
import pytest

import streamq
from streamq.config.config import Config
from streamq.context import Running
from streamq.core.delivery import Delivery
from streamq.core.options import checked
from streamq.core.outcome import OfferElsewhere
from streamq.errors import Ignore, Reject, Retry
from streamq.execution import outcomes as outcomes
from streamq.execution.executor import Executor
from streamq.execution.outcomes import Outcomes, offer_pause
from streamq.producer.registry import Registry
from streamq.serialization.payload import Payloads
from streamq.tasks import Task


def executor(function, *, told=None, accept=("json",), **settings):
    """An execution that knows one task, named ``t``."""
    options = checked(settings.pop("options", {}), decorator=True)
    registry = Registry()
    registry.add(Task(function, "t", None, options))
    conf = Config.load(settings, None, {}, Path("/nowhere/at/all"))
    payloads = Payloads(accept=accept, limit=10_000, decompressed_limit=10**6, ratio=100)
    tell = (lambda *said: told.append(said)) if told is not None else (lambda *said: None)
    return Executor(Outcomes(registry, payloads, conf), hostname="here", report=tell)


def message(*args, **fields):
    named = {name.encode(): value for name, value in fields.items()}
    return Delivery(
        "mail:p3",
        b"5-1",
        {b"id": b"ID", b"task": b"t", b"args": msgspec.json.encode(args), **named},
    )


def run(executor, delivery):
    executor.admit(delivery)
    return executor.run(delivery)


def fields_of(outcome):
    return dict(zip(outcome.fields[::2], outcome.fields[1::2], strict=True))


def test_a_value_becomes_a_success_that_expires():
    outcome = run(executor(lambda x, y: x + y, result_expires=60), message(1, 2))

    assert outcome.state == b"SUCCESS"
    assert fields_of(outcome)[b"result"] == b"3"
    assert float(fields_of(outcome)[b"runtime"]) >= 0
    assert outcome.expires == b"60000"
    assert (outcome.reason, outcome.release) == (b"", False)


def test_the_life_of_a_result_may_be_that_of_the_task_or_of_the_call():
    work = executor(lambda: 1, options={"result_expires": 5})

    assert run(work, message()).expires == b"5000"
    assert run(work, message(result_expires=b"70")).expires == b"70"
    assert run(work, message(result_expires=b"0070")).expires == b"70"  # PEXPIRE takes no 0070
    assert run(work, message(result_expires=b"0")).expires == b"5000"  # which would be for ever


def test_annotations_turn_arguments_back():
    def tomorrow(day: date) -> str:
        return type(day).__name__

    assert fields_of(run(executor(tomorrow), message("2024-02-29")))[b"result"] == b'"date"'


def test_an_exception_becomes_a_failure_with_the_traceback_of_the_task_alone():
    def fail():
        raise ValueError("bad")

    fields = fields_of(run(executor(fail), message()))

    assert fields[b"error_type"] == b"ValueError"
    assert fields[b"error"] == b"bad"
    assert b"in fail" in fields[b"traceback"]
    assert b"streamq/execution/executor.py" not in fields[b"traceback"]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_a_task_does_not_end_its_runner(error):
    def leave():
        raise error

    outcome = run(executor(leave), message())

    assert outcome.state == b"FAILURE"
    assert fields_of(outcome)[b"error_type"] == type(error).__name__.encode()


@pytest.mark.parametrize("method", ["__str__", "__getattribute__"])
@pytest.mark.parametrize("options", [{}, {"autoretry_for": (Exception,)}])
def test_nor_does_the_exception_that_it_raises(method, options):
    def end(*args):
        raise KeyboardInterrupt

    odd = type("Odd", (Exception,), {method: end})

    def fail():
        raise odd

    outcome = run(executor(fail, options=options), message())

    assert outcome.state == (b"RETRY" if options else b"FAILURE")
    assert b"raised KeyboardInterrupt" in fields_of(outcome)[b"error"]


def test_nor_does_the_value_that_it_returns():
    class Odd(dict):
        def items(self):
            raise SystemExit

    assert run(executor(Odd, result_serializer="yaml"), message()).state == b"FAILURE"


@dataclass
class Leaving:
    name: str

    def __post_init__(self):
        raise {"exit": SystemExit(3), "cancel": asyncio.CancelledError()}[self.name]


@pytest.mark.parametrize("how", ["exit", "cancel"])
def test_nor_do_the_arguments_that_it_asks_for(how):
    def take(who: Leaving) -> None:
        """Never begins."""

    fields = fields_of(run(executor(take), message({"name": how})))

    assert fields[b"error_type"].endswith({"exit": b"SystemExit", "cancel": b"CancelledError"}[how])
    assert b"in __post_init__" in fields[b"traceback"]


def test_deep_recursion_is_a_failure_like_any():
    def deeper():
        return deeper()

    assert fields_of(run(executor(deeper), message()))[b"error_type"] == b"RecursionError"


def test_a_value_that_cannot_be_written_fails_its_task():
    fields = fields_of(run(executor(lambda: object()), message()))

    assert fields[b"error_type"].endswith(b"EncodeError")


def test_a_value_over_the_limit_fails_its_task():
    outcome = run(executor(lambda: "x" * 2000, result_limit="1KiB"), message())

    assert outcome.state == b"FAILURE"
    assert b"over the limit" in fields_of(outcome)[b"error"]


def test_a_result_may_have_another_encoding():
    work = executor(lambda: [1] * 500, result_serializer="msgpack", result_compression="zlib")

    fields = fields_of(run(work, message()))

    assert fields[b"content_type"] == b"application/x-msgpack"
    assert fields[b"compression"] == b"zlib"
    assert len(fields[b"result"]) < 100


def test_a_message_without_result_leaves_no_record():
    outcome = run(executor(lambda: 1), message(ignore_result=b"1"))

    assert (outcome.state, outcome.fields) == (b"", ())


def test_a_failure_without_result_leaves_no_record_either():
    def fail():
        raise ValueError

    assert run(executor(fail), message(ignore_result=b"1")).state == b""


def test_ignore_forgets_the_message():
    def ignore():
        raise Ignore

    outcome = run(executor(ignore), message())

    assert (outcome.state, outcome.reason, outcome.release) == (b"", b"", False)


def test_reject_dead_letters_or_hands_back():
    def reject(requeue):
        raise Reject("no good", requeue=requeue)

    dead_lettered = run(executor(reject), message(False))
    returned = run(executor(reject), message(True))

    assert (dead_lettered.state, dead_lettered.reason, dead_lettered.release) == (
        b"FAILURE",
        b"rejected",
        False,
    )
    assert dead_lettered.fields[-1] == b"no good"
    assert (returned.state, returned.release) == (b"", True)


def test_what_was_acknowledged_early_cannot_be_handed_back():
    def reject():
        raise Reject(requeue=True)

    outcome = run(executor(reject), message(acks_late=b"0"))

    assert outcome.release is False
    assert outcome.reason == b"rejected"


def test_an_unknown_task_is_offered_again_and_again_before_it_is_dead_lettered():
    know_nothing, pauses = executor(lambda: 1, unknown_task_patience=5), []

    for refusals in range(10):
        outcome = run(know_nothing, message(task=b"tt", refusals=b"%d" % refusals))
        if outcome.reason:
            break
        assert outcome.then == OfferElsewhere(pause=outcome.pause, refusals=refusals + 1)
        assert outcome.state == b""
        pauses.append(outcome.pause)

    assert pauses == [0.5, 1.0, 2.0, 1.5]
    assert (outcome.state, outcome.reason) == (b"FAILURE", b"unknown task")
    assert fields_of(outcome)[b"error_type"].endswith(b"TaskNotFound")
    assert b"did you mean 't'?" in fields_of(outcome)[b"error"]


def test_no_number_that_somebody_wrote_into_an_unknown_message_keeps_a_runner_busy(monkeypatch):
    know_nothing = executor(lambda: 1, unknown_task_patience="7d")
    asked = []
    monkeypatch.setattr(
        outcomes, "offer_pause", lambda refusals: asked.append(refusals) or offer_pause(refusals)
    )

    longest = run(know_nothing, message(task=b"tt", refusals=b"20000000"))

    assert len(asked) < 20
    assert longest.reason == b"unknown task"
    week = 7 * 86400 // 10
    assert run(know_nothing, message(task=b"tt", refusals=b"%d" % week)).pause == 10.0


def test_the_record_of_a_dead_letter_is_kept_as_long_as_the_message_says():
    message = Delivery("mail", b"1-1", {b"id": b"a", b"result_expires": b"7200000"})

    assert run(executor(lambda: 1), message).expires == b"7200000"


def test_a_message_that_names_no_task_is_dead_lettered():
    delivery = message()
    del delivery.fields[b"task"]

    assert run(executor(lambda: 1), delivery).reason == b"no task"


LONGEST = b"default-1700000000000-18446744073709551615"


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize(
    "id", [b"", b"bad@{id}:", b"a:b", b"@q", b"id@", b"a\nb", b"a" * 251, b"x@" * 1250 + b"x"]
)
def test_a_message_with_an_odd_id_is_dead_lettered_under_the_name_of_its_entry(id, known):
    delivery = message(id=id) if known else message(id=id, task=b"u")

    outcome = run(executor(lambda: 1), delivery)

    assert (delivery.id, outcome.reason) == (b"mail-5-1", b"undecodable message")
    assert fields_of(outcome)[b"error"].startswith(b"the id ")
    assert len(fields_of(outcome)[b"error"]) < 300


@pytest.mark.parametrize(
    "id", [b"a", b"f" * 250, b"1-2 \xc3\xa4", LONGEST, LONGEST + b"@q" * 11, b"q" * 200 + b"@q.q"]
)
def test_ids_of_ours_and_what_exchanges_make_of_them_are_taken(id):
    assert run(executor(lambda: 1), message(id=id)).state == b"SUCCESS"


@pytest.mark.parametrize("name", [b"a" * 3_000_000, b"a:b", b"{x}"])
def test_a_name_that_no_task_can_have_is_not_offered_again(name):
    delivery = message(task=name)

    outcome = run(executor(lambda: 1), delivery)

    assert outcome.reason == b"undecodable message"
    assert b"the task's name" in fields_of(outcome)[b"error"]
    assert len(fields_of(outcome)[b"error"]) + len(delivery.title) < 800


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"args": b"{["}, b"undecodable message"),
        ({"args": b"\xff"}, b"undecodable message"),
        ({"args": b'"text"'}, b"undecodable message"),
        ({"kwargs": b"[1]"}, b"undecodable message"),
        ({"compression": b"zlib"}, b"undecodable message"),
        ({"compression": b"\xff"}, b"undecodable message"),
        ({"content_type": b"\xff"}, b"undecodable message"),
        ({"content_type": b"application/x-python-serialize"}, b"content type not accepted"),
        ({"content_type": b"application/unheard-of"}, b"content type not accepted"),
    ],
)
def test_a_message_that_cannot_be_read_is_dead_lettered_and_not_run(fields, reason):
    ran = []

    outcome = run(executor(lambda: ran.append(1)), message(**fields))

    assert (outcome.state, outcome.reason) == (b"FAILURE", reason)
    assert ran == []


def test_arguments_that_do_not_fit_fail_the_task():
    assert fields_of(run(executor(lambda x: x), message()))[b"error_type"] == b"TypeError"


def test_a_message_typed_by_hand_needs_only_its_task():
    delivery = Delivery("default:returned", b"7-0", {b"task": b"t"})

    outcome = run(executor(lambda: "ran"), delivery)

    assert outcome.state == b"SUCCESS"
    assert delivery.id == b"default-7-0"
    assert delivery.queue == "default"


@pytest.mark.parametrize(
    ("options", "settings", "field", "early"),
    [
        ({}, {}, None, False),
        ({}, {"acks_late": False}, None, True),
        ({"acks_late": True}, {"acks_late": False}, None, False),
        ({"acks_late": False}, {}, None, True),
        ({"acks_late": False}, {}, b"1", False),
        ({}, {}, b"0", True),
    ],
)
def test_when_to_acknowledge_is_said_by_call_task_and_settings(options, settings, field, early):
    delivery = message() if field is None else message(acks_late=field)

    executor(lambda: 1, options=options, **settings).admit(delivery)

    assert delivery.early is early


def test_a_bound_task_knows_its_request():
    def ask(self):
        request = self.request
        assert isinstance(self, Running)
        assert streamq.current_task() is self
        return [
            *(request.id, request.task, request.queue, request.hostname, request.routing_key),
            *(request.deliveries, request.redelivered, request.root_id, request.headers),
        ]

    delivery = message(headers=b'{"k":1}', crashes=b"2", root_id=b"ROOT")
    outcome = run(executor(ask, options={"bind": True}), delivery)

    assert msgspec.json.decode(fields_of(outcome)[b"result"]) == [
        *("ID", "t", "mail", "here", "mail"),
        *(3, True, "ROOT", {"k": 1}),
    ]


def test_any_task_can_ask_for_the_running_one_and_nobody_else():
    assert (
        fields_of(run(executor(lambda: streamq.current_task().request.id), message()))[b"result"]
        == b'"ID"'
    )
    assert streamq.current_task() is None


def test_a_task_tells_where_it_stands():
    told = []

    run(
        executor(lambda: streamq.current_task().update_state("HALF", {"n": 1}), told=told),
        message(),
    )

    ((request, state, meta),) = told
    assert (request.id, state, meta) == ("ID", "HALF", {"n": 1})


@pytest.mark.parametrize("crashes", [b"", b"x", b"-1"])
def test_a_strange_count_of_crashes_counts_as_none(crashes):
    assert message(crashes=crashes).crashes == 0


def test_odd_bytes_in_a_message_do_not_break_its_run():
    delivery = message(headers=b"\xff", root_id=b"\xff")
    work = executor(lambda: streamq.current_task().request.headers)

    assert fields_of(run(work, delivery))[b"result"] == b"{}"


def test_a_task_that_replaces_the_recursion_limit_does_not_matter():
    before = sys.getrecursionlimit()
    try:
        assert (
            run(executor(lambda: sys.setrecursionlimit(before + 1)), message()).state == b"SUCCESS"
        )
    finally:
        sys.setrecursionlimit(before)


def test_a_retry_that_asks_for_nonsense_fails_its_task_and_nothing_else():
    def task():
        raise Retry(max_retries="three")

    outcome = run(executor(task), message())

    assert outcome.state == b"FAILURE"
    assert fields_of(outcome)[b"error_type"] == b"TypeError"


def test_a_retry_without_a_reason_says_that_the_task_wants_it():
    def again(self):
        self.retry()

    outcome = run(executor(again, options={"bind": True}), message())

    assert fields_of(outcome)[b"error"] == b"the task asked to be tried again"


@pytest.mark.parametrize("given", ["why", ValueError("why"), ValueError, int, 3])
def test_a_retry_takes_exceptions_alone_as_its_reason(given):
    def again(self):
        self.retry(exc=given)

    outcome = run(executor(again, options={"bind": True}), message())

    kind, state = (ValueError, b"RETRY") if given not in ("why", int, 3) else (None, b"FAILURE")
    assert outcome.state == state
    wanted = b"ValueError" if kind else b"streamq.errors.ConfigError"
    assert fields_of(outcome)[b"error_type"] == wanted


def test_a_result_that_cannot_be_sent_is_not_worth_another_run():
    outcome = run(executor(object, options={"autoretry_for": (Exception,)}), message())

    assert outcome.state == b"FAILURE"
    assert fields_of(outcome)[b"error_type"] == b"streamq.errors.EncodeError"


def test_a_failure_is_expected_if_throws_names_its_class_or_a_base():
    def fail(error):
        raise {"key": KeyError, "value": ValueError}[error]

    work = executor(fail, options={"throws": (LookupError,)})

    assert [run(work, message(each)).expected for each in ("key", "value")] == [True, False]


@pytest.mark.parametrize(
    ("options", "pause", "moment"),
    [
        ({"retry_kwargs": {"countdown": 60}}, 60.0, None),
        ({"retry_kwargs": {"countdown": 60}, "retry_backoff": 2, "retry_jitter": False}, 2.0, None),
        ({"retry_kwargs": {"eta": datetime(2030, 1, 1, tzinfo=UTC)}}, None, 1893456000000),
    ],
    ids=["countdown", "backoff", "eta"],
)
def test_retry_kwargs_say_when_unless_a_backoff_does(options, pause, moment):
    def fail():
        raise KeyError("x")

    work = executor(fail, options={"autoretry_for": (KeyError,), **options})
    then = run(work, message()).then

    assert (then.pause if then.moment is None else None, then.moment) == (pause, moment)


@pytest.mark.parametrize("given", [None, KeyError("x")], ids=["without", "with exc"])
@pytest.mark.parametrize("throw", [True, False])
def test_a_task_hears_that_it_may_not_be_tried_again(given, throw):
    heard = []

    def work(self):
        try:
            self.retry(exc=given, throw=throw)
        except Retry:
            raise
        except Exception as error:
            heard.append(error)
            raise

    options = {"bind": True, "max_retries": 2, "autoretry_for": (Exception,)}
    tries = [run(executor(work, options=options), message(retries=b"%d" % n)) for n in range(3)]

    assert [outcome.state for outcome in tries] == [b"RETRY", b"RETRY", b"FAILURE"]
    kind = streamq.MaxRetriesExceeded if given is None else KeyError
    assert [type(error) for error in heard] == [kind]


def test_its_own_last_word_is_not_tried_again_by_itself():
    """``max_retries`` of a single retry counts, whatever the task would do otherwise."""

    def work(self):
        self.retry(exc=OSError("x"), max_retries=0)

    options = {"bind": True, "max_retries": 5, "autoretry_for": (OSError,)}

    assert run(executor(work, options=options), message()).state == b"FAILURE"


def test_a_task_may_end_well_when_it_may_not_be_tried_again():
    def work(self):
        try:
            self.retry(max_retries=0)
        except streamq.MaxRetriesExceeded:
            return "enough"

    outcome = run(executor(work, options={"bind": True}), message())

    assert (outcome.state, fields_of(outcome)[b"result"]) == (b"SUCCESS", b'"enough"')


LIMITED = {"soft_time_limit": 5}


@pytest.mark.parametrize(
    ("settings", "fields", "told"),
    [
        (
            {"task_time_limit": 5},
            {},
            "of the task) is dropped, as time_limit 5 s (from task_time",
        ),
        ({"task_time_limit": 6}, {"time_limit": b"3000"}, "as time_limit 3 s (of the call)"),
        ({"task_time_limit": 6}, {"soft_time_limit": b"9000"}, "soft_time_limit 9 s (of the call)"),
    ],
)
def test_a_soft_limit_that_comes_too_late_is_dropped_and_that_is_said_once(
    caplog, settings, fields, told
):
    limited = executor(lambda: 1, options=LIMITED, **settings)
    for _ in range(3):
        delivery = message(**fields)
        limited.admit(delivery)

        assert (delivery.soft, delivery.hard > 0) == (0, True)

    assert [told in line for line in caplog.messages] == [True]


@pytest.mark.parametrize("hard", [0, 6])
def test_a_soft_limit_that_comes_in_time_is_kept(caplog, hard):
    limited, delivery = executor(lambda: 1, options=LIMITED, task_time_limit=hard), message()

    limited.admit(delivery)

    assert (delivery.soft, delivery.hard, caplog.messages) == (5, hard, [])
