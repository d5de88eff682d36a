"""Layers of middleware around runs: their order, what they change, and what is no layer."""

import importlib.util
import logging
from pathlib import Path

import msgspec
import pytest

from streamq import App, Middleware, Retry, SoftTimeLimitExceeded, current_task
from streamq.config.config import Config
from streamq.core.delivery import Delivery
from streamq.core.options import checked
from streamq.errors import ConfigError, NotConfirmed, PartlyPublished, PublishUnknown
from streamq.execution.executor import Executor
from streamq.execution.outcomes import Outcomes
from streamq.middleware import layers_around
from streamq.producer.bulk import one_by_one
from streamq.producer.registry import Registry
from streamq.runner.async_exception import Raised
from streamq.serialization.payload import Payloads
from streamq.tasks import Signature, Task

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "timing.py"


class Noting(Middleware):
    """Notes when a run enters and leaves it."""

    def __init__(self, name, noted):
        self.name = name
        self.noted = noted

    def run(self, task, next):
        self.noted.append(f"> {self.name}")
        try:
            return next(task)
        finally:
            self.noted.append(f"< {self.name}")


def run(function, *layers, args=(), **options):
    """The outcome of a task with these layers around it, and its policy."""
    tasks, conf = Registry(), Config.load({}, None, {}, Path("/nowhere/at/all"))
    tasks.add(Task(function, "t", None, checked(options, decorator=True)))
    payloads = Payloads(accept=("json",), limit=10_000, decompressed_limit=10**6, ratio=100)
    outcomes = Outcomes(tasks, payloads, conf)
    executor = Executor(outcomes, hostname="h", report=lambda *said: None, middleware=layers)
    written = msgspec.json.encode(args)
    delivery = Delivery("mail", b"1-1", {b"id": b"ID", b"task": b"t", b"args": written})
    executor.admit(delivery)
    return executor.run(delivery), delivery.policy


def record(outcome):
    return dict(zip(outcome.fields[::2], outcome.fields[1::2], strict=True))


@pytest.mark.parametrize("bind", [False, True])
def test_the_first_layer_is_the_outermost(bind):
    noted = []

    def add(*args):
        noted.append("task")
        return sum(args[bind:])

    layers = [Noting("a", noted), Middleware(), Noting("b", noted)]
    outcome, _ = run(add, *layers, args=(2, 3), bind=bind)

    assert record(outcome)[b"result"] == b"5"
    assert noted == ["> a", "> b", "task", "< b", "< a"]


def test_a_layer_is_told_of_the_running_task_and_may_change_its_value():
    class Doubling(Middleware):
        def run(self, task, next):
            assert task is current_task()
            assert (task.name, task.request.args) == ("t", (4,))
            return 2 * next(task)

    outcome, _ = run(lambda x: x, Doubling(), args=(4,))

    assert record(outcome)[b"result"] == b"8"


def test_a_layer_that_does_not_call_next_runs_nothing():
    class Instead(Middleware):
        def run(self, task, next):
            return "cached"

    outcome, _ = run(lambda: 1 / 0, Instead())

    assert record(outcome)[b"result"] == b'"cached"'


def test_what_a_layer_raises_the_task_has_raised():
    class Raising(Middleware):
        def __init__(self, error):
            self.error = error

        def run(self, task, next):
            next(task)
            raise self.error

    failed, _ = run(lambda: 1, Raising(KeyError("no")))
    again, _ = run(lambda: 1, Raising(OSError("no")), autoretry_for=(OSError,))
    asked, _ = run(lambda: 1, Raising(Retry(countdown=7)))

    assert (failed.state, record(failed)[b"error_type"]) == (b"FAILURE", b"KeyError")
    assert b"in run" in record(failed)[b"traceback"]
    assert again.state == asked.state == b"RETRY"
    assert asked.pause == 7


def test_a_layer_may_handle_what_the_task_raises():
    class Forgiving(Middleware):
        def run(self, task, next):
            try:
                return next(task)
            except ZeroDivisionError:
                return "forgiven"

    outcome, _ = run(lambda: 1 / 0, Forgiving())

    assert record(outcome)[b"result"] == b'"forgiven"'


def test_a_layer_without_the_method_is_in_no_chain():
    class Publishing(Middleware):
        def publish(self, call, next):
            return next(call)

    assert layers_around((), "run", len) is None
    assert layers_around((Middleware(), Publishing()), "run", len) is None
    assert layers_around((Publishing(),), "publish", len)([1]) == 1
    assert run(lambda: 1, Publishing())[1].around is None


def test_a_soft_limit_that_a_layer_swallows_before_the_task_has_not_arrived():
    class Handling(Middleware):
        def run(self, task, next):
            try:
                raise error
            except SoftTimeLimitExceeded:
                return next(task)

    error = SoftTimeLimitExceeded("late")
    _, policy = run(lambda: 1, Handling())

    assert not Raised(error, policy.task.function).arrived  # so it is raised again


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (5, "must be a list, not 5"),
        (Middleware(), "must be a list"),
        (
            [Middleware],
            r"holds the class Middleware itself\n  → make a layer of it: Middleware\(\)",
        ),
        ([Middleware(), len], "which is no layer\n  → derive its class from streamq.Middleware"),
        ([None], "holds None"),
    ],
)
def test_what_is_no_layer_is_refused(given, said):
    app = App("t", url="redis://localhost:1")
    app.middleware = [layer := Middleware()]

    with pytest.raises(ConfigError, match=said):
        app.middleware = given

    assert app.middleware == (layer,)


@pytest.mark.parametrize(("name", "kind"), [("publish", "plain"), ("run", "plain")])
def test_a_method_of_the_other_kind_is_refused(name, kind):
    async def method(self, given, next): ...

    with pytest.raises(ConfigError, match=rf"Odd\.{name} of the middleware must be a {kind}"):
        App("t", url="redis://localhost:1").middleware = [
            type("Odd", (Middleware,), {name: method})()
        ]


def test_a_plain_apublish_is_refused():
    odd = type("Odd", (Middleware,), {"apublish": lambda self, call, next: next(call)})

    with pytest.raises(ConfigError, match="must be an async function"):
        App("t", url="redis://localhost:1").middleware = [odd()]


def test_calls_that_are_sent_one_by_one_tell_what_was_sent_before_an_error():
    calls = [Signature(name) for name in "abc"]

    def no_layers(send):
        return None

    def stopped_by(error):
        def send(call):
            if call.name == "b":
                raise error
            return call.name

        with pytest.raises(
            type(error) if isinstance(error, NotConfirmed) else PartlyPublished
        ) as e:
            one_by_one(send, no_layers, iter(calls))
        return e.value

    refused, unknown = stopped_by(ValueError("no")), stopped_by(PublishUnknown("lost"))
    unmet = stopped_by(NotConfirmed("no replica"))

    assert one_by_one(lambda call: call.name, no_layers, calls) == ["a", "b", "c"]
    assert (refused.accepted, refused.remaining, refused.unknown) == (["a"], calls[1:], [])
    assert (unknown.accepted, unknown.remaining, unknown.unknown) == (["a"], calls[1:], calls[1:2])
    assert (unmet.accepted, unmet.unconfirmed, unmet.remaining) == (["a"], [None], calls[2:])


def test_a_call_that_was_accepted_before_a_layer_raised_is_not_to_be_sent_again():
    calls = [Signature(name) for name in "abc"]

    def layers(send):
        def around(call):
            result = send(call)
            if call.name == "b":
                raise OSError("the counter is away")
            return result

        return around

    with pytest.raises(PartlyPublished) as caught:
        one_by_one(lambda call: call.name, layers, calls)

    assert (caught.value.accepted, caught.value.remaining) == (["a", "b"], calls[2:])


@pytest.mark.parametrize("name", ["publish", "run"])
def test_a_method_that_would_never_run_is_refused(name):
    def generator(self, given, next):
        yield next(given)

    for method in (generator, None):
        with pytest.raises(ConfigError, match=rf"Odd\.{name} of the middleware must be"):
            App("t", url="redis://localhost:1").middleware = [
                type("Odd", (Middleware,), {name: method})()
            ]


def test_the_example_tells_how_long_a_task_waited_and_ran(caplog):
    spec = importlib.util.spec_from_file_location("timing", EXAMPLE)
    timing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(timing)
    caplog.set_level(logging.INFO, "streamq.task.timing")
    timing.app.conf.task_always_eager = True

    assert timing.nap.enqueue(0).get() == 0

    (line,) = [line for line in caplog.messages if " waited " in line]
    assert line.endswith(" s")
    assert line.startswith("timing.nap of ")
