"""Tasks as values: what they are called with, and what is checked before sending."""

import asyncio
import functools

import pytest

import streamq
from streamq.core.options import checked
from streamq.errors import ConfigError
from streamq.tasks import Signature, Task


class Sent:
    """Takes the calls instead of an app."""

    def __init__(self):
        self.calls = []

    def send(self, signature):
        self.calls.append(signature)
        return signature

    run_here = send

    async def asend(self, signature):
        return self.send(signature)


def task_of(function, **options):
    return Task(function, "shop.f", Sent(), checked(options, decorator=True))


def add(x: int, y: int = 0, *, z: int = 0) -> int:
    """Add numbers."""
    return x + y + z


def test_calling_a_task_runs_the_function():
    assert task_of(add)(1, 2, z=3) == 6


def test_a_task_looks_like_its_function():
    task = task_of(add)

    assert (task.__name__, task.__doc__, task.__wrapped__) == ("add", "Add numbers.", add)
    assert repr(task) == "<task shop.f>"


def test_every_way_to_send_makes_the_same_call():
    task = task_of(add)

    task.enqueue(1, y=2)
    task.delay(1, y=2)
    task.apply_async((1,), {"y": 2})
    task.options().enqueue(1, y=2)
    task.sender.send(task.s(1, y=2))

    assert len(task.sender.calls) == 5
    for call in task.sender.calls:
        assert call == Signature("shop.f", (1,), {"y": 2}, {}, task)


def test_newer_options_win_over_older():
    call = task_of(add).options(queue="a", priority=1).options(priority=2)

    assert call.s(1).options == {"queue": "a", "priority": 2}
    assert call.options(exchange="ex").s(1).options == {"exchange": "ex", "priority": 2}


def test_arguments_of_a_task_may_be_called_like_options():
    task = task_of(lambda queue, what, self=0: (queue, what))

    assert task.s(queue="a", what="b").kwargs == {"queue": "a", "what": "b"}
    task.enqueue(queue="a", what="b", self=1)
    assert task.sender.calls[0].kwargs == {"queue": "a", "what": "b", "self": 1}


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1, 2, 3), {}), ((1,), {"q": 1}), ((1, 2), {"y": 2}), ((), {"y": 2})],
)
def test_arguments_that_do_not_fit_are_refused(args, kwargs):
    with pytest.raises(TypeError, match=r"checked against shop\.f\(x: int"):
        task_of(add).check(args, kwargs)


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (add, (1,), {}),
        (add, (1, 2), {"z": 3}),
        (add, (), {"x": 1}),
        (lambda *a: 0, range(50), {}),
        (lambda **k: 0, (), {"any": 1}),
        (lambda a, /, b: 0, (1,), {"b": 2}),
        (functools.partial(add, 1), (2,), {}),
        (max, (1, 2), {}),
    ],
)
def test_arguments_that_fit_pass(function, args, kwargs):
    if not hasattr(function, "__name__"):
        function.__name__ = "partial"

    task_of(function).check(tuple(args), kwargs)


def test_a_keyword_that_must_be_given_is_asked_for():
    with pytest.raises(TypeError, match="missing a required"):
        task_of(lambda a, *, b: 0).check((1,), {})


def test_typing_can_be_switched_off():
    task_of(add, typing=False).check((1, 2, 3, 4), {"any": 1})


def test_a_bound_task_is_checked_without_its_first_argument():
    task = task_of(lambda self, x: (self, x), bind=True)

    task.check((1,), {})
    with pytest.raises(TypeError):
        task.check((1, 2), {})


def test_a_bound_task_must_have_a_first_argument():
    with pytest.raises(ConfigError, match="takes no first argument"):
        task_of(lambda: 0, bind=True)
    assert task_of(lambda *a: a, bind=True)(1)[1:] == (1,)


def test_a_bound_task_called_here_gets_a_request_of_its_own():
    def inner(self, x):
        assert streamq.current_task() is self
        return self.request.task, self.request.args, len(self.request.id), x

    assert task_of(inner, bind=True)(5) == ("shop.f", (5,), 26, 5)
    assert streamq.current_task() is None


def test_a_signature_takes_more_arguments():
    call = Signature("t", (1,), {"a": 1}, {"queue": "q"})

    assert call.with_args((2,), {"b": 2}) == Signature(
        "t", (1, 2), {"a": 1, "b": 2}, {"queue": "q"}
    )


def test_later_options_are_refused_by_name_wherever_they_are_given():
    task = task_of(add)

    for act in (
        lambda: task.options(rate_limit=5),
        lambda: task.apply_async((1,), rate_limit=5),
        lambda: task.options(queue="a").options(rate_limit=5),
        lambda: task_of(add, rate_limit=5),
    ):
        with pytest.raises(ConfigError, match=r"^not in this version: rate_limit$"):
            act()


def test_an_option_given_as_an_argument_is_said_where_it_goes():
    with pytest.raises(TypeError) as error:
        task_of(add).check((1, 2), {"queue": "mail", "countdown": 5})

    assert "f.options(queue='mail', countdown=5).delay(…)" in str(error.value)
    assert "f.apply_async((…), queue='mail', countdown=5)" in str(error.value)


def test_an_argument_that_is_no_option_gets_no_advice_about_options():
    with pytest.raises(TypeError) as error:
        task_of(add).check((1, 2), {"why": 1})

    assert "→" not in str(error.value)


async def later(x):
    return x


def returned(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


def returned_below(function):
    @functools.wraps(function)
    def wrapper(*args):
        result = function(*args)
        str(args)
        return result

    return wrapper


def run_inside(function):
    @functools.wraps(function)
    def wrapper(*args):
        return asyncio.run(function(*args))

    return wrapper


def run_below(function):
    @functools.wraps(function)
    def wrapper(*args):
        result = function(*args)
        if asyncio.iscoroutine(result):
            result = asyncio.run(result)
        return result

    return wrapper


@pytest.mark.parametrize(
    "function", [later, returned(later), returned_below(later), returned(returned(later))]
)
def test_an_async_function_is_refused_also_behind_a_decorator_that_does_not_run_it(function):
    with pytest.raises(ConfigError, match=r"async function(.|\n)*asyncio\.run"):
        task_of(function)


@pytest.mark.parametrize(
    "function", [run_inside(later), run_below(later), returned(run_inside(later))]
)
def test_a_decorator_may_run_an_async_function(function):
    assert task_of(function)(5) == 5


def test_a_class_method_is_refused_with_what_to_write():
    class Shop:
        @classmethod
        def mail(cls): ...

    with pytest.raises(ConfigError, match="@staticmethod"):
        task_of(vars(Shop)["mail"])
