"""Tasks below decorators: what callers may give, and whose annotation an argument gets."""

import contextlib
import functools
from datetime import date, timedelta

import pytest

from streamq import App

DAY, WAIT = date(2026, 1, 2), timedelta(days=1)


@pytest.fixture
def app():
    return App("shop", url="redis://localhost:1")


def in_front(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function("session", *args, **kwargs)

    return wrapper


def two_in_front(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        result = function("2020-01-01", "2020-01-01", *args, **kwargs)
        print(args)
        return result

    return wrapper


def by_name(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, session="session", **kwargs)

    return wrapper


def into_kwargs(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        kwargs["session"] = "session"
        return function(*args, **kwargs)

    return wrapper


def put_before(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        args = ("session",) + args  # noqa: RUF005
        return function(*args, **kwargs)

    return wrapper


def put_into(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        given = ("session", *args)
        with contextlib.nullcontext():
            return function(*given, **kwargs)

    return wrapper


def put_into_both(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        args = ("2020-01-01", *args)
        return function(*["2020-01-01", *args], **kwargs)

    return wrapper


def instead_of_a_tenant(function):
    @functools.wraps(function)
    def wrapper(tenant, *args, **kwargs):
        return function(f"session of {tenant}", *args, **kwargs)

    return wrapper


def in_full(function):
    @functools.wraps(function)
    def wrapper(day, wait):
        return function("session", day, wait)

    return wrapper


def passing(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


class Transaction(contextlib.ContextDecorator):
    def __enter__(self): ...

    def __exit__(self, *raised): ...


def first(session: str, day: date, wait: timedelta = WAIT):
    return [session, type(day).__name__, type(wait).__name__]


def second(one: str, two: date, day: date, wait: timedelta = WAIT):
    return [one, type(day).__name__, type(wait).__name__]


def last(day: date, wait: timedelta = WAIT, *, session: str):
    return [session, type(day).__name__, type(wait).__name__]


def plain(day: date, wait: timedelta = WAIT):
    return ["session", type(day).__name__, type(wait).__name__]


class Injecting:
    def __init__(self, function):
        functools.update_wrapper(self, function)
        self.function = function

    def __call__(self, *args, **kwargs):
        return self.function("session", *args, **kwargs)


CASES = {
    "in front": (in_front, first),
    "two in front": (two_in_front, second),
    "by name": (by_name, last),
    "into kwargs": (into_kwargs, last),
    "in full": (in_full, first),
    "put before": (put_before, first),
    "put into": (put_into, first),
    "put into both": (put_into_both, second),
    "passing on": (passing, plain),
    "twice": (lambda function: passing(in_front(function)), first),
    "in front of what passes on": (lambda function: in_front(passing(function)), first),
    "a context": (Transaction(), plain),
    "a cache": (functools.cache, plain),
    "an object": (Injecting, first),
}


@pytest.mark.parametrize(("around", "function"), CASES.values(), ids=CASES)
def test_the_annotations_keep_their_places(app, around, function):
    task = app.task(around(function))

    for args, kwargs in (
        ((DAY, WAIT), {}),
        ((DAY,), {"wait": WAIT}),
        ((), {"day": DAY, "wait": WAIT}),
    ):
        got = task.apply(args, kwargs).get()
        assert got[1:] == ["date", "timedelta"], (args, kwargs)


def test_what_stands_for_another_argument_is_an_argument(app):
    task = app.task(instead_of_a_tenant(first))

    assert task.apply(("2026-01-01", DAY)).get() == ["session of 2026-01-01", "date", "timedelta"]
    with pytest.raises(TypeError, match="missing a required argument: 'day'"):
        task.apply(("a",))


def test_an_injected_argument_takes_no_annotation_from_what_is_given(app):
    task = app.task(two_in_front(second))

    assert task.apply((DAY, "2020-01-01")).get() == ["2020-01-01", "date", "str"]


EXACT = {name: CASES[name] for name in CASES if name not in ("into kwargs",)}


@pytest.mark.parametrize(("around", "function"), EXACT.values(), ids=EXACT)
def test_a_call_is_checked_against_what_the_wrapper_takes(app, around, function):
    task = app.task(around(function))

    task.check((DAY, WAIT), {})
    for args, kwargs in (((), {}), ((DAY, WAIT, 3), {}), ((DAY,), {"no": 1})):
        with pytest.raises(TypeError, match="checked against"):
            task.check(args, kwargs)


def test_a_wrapper_that_nobody_understands_takes_what_it_says(app):
    def odd(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            kwargs.pop("trace", None)
            return function(*args[1:], **kwargs)

        return wrapper

    task = app.task(odd(plain))

    task.check((1, DAY, WAIT), {"trace": 5})
    assert str(task.parameters).startswith("(*args, **kwargs)")


def sometimes(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        if len(args) == 1:
            args = ("session", *args)
        return function(*args, **kwargs)

    return wrapper


def growing(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        given = [*args]
        given.insert(0, "session")
        return function(*given, **kwargs)

    return wrapper


@pytest.mark.parametrize("around", [sometimes, growing])
def test_a_list_that_is_not_understood_says_nothing_of_places(app, around):
    assert str(app.task(around(first)).parameters) == "(*args, **kwargs)"


def test_a_bound_task_may_be_wrapped(app):
    def behind(function):
        @functools.wraps(function)
        def wrapper(self, *args):
            return function(self, "session", *args)

        return wrapper

    @app.task(bind=True)
    @passing
    def one(self, day: date):
        return [self.name, type(day).__name__]

    @app.task(bind=True)
    @behind
    def two(self, session: date, day: date):
        return [self.name, session, type(day).__name__]

    assert one.apply((DAY,)).get() == [one.name, "date"]
    assert two.apply((DAY,)).get() == [two.name, "session", "date"]
    for task in (one, two):
        with pytest.raises(TypeError):
            task.check((DAY, DAY), {})


def test_what_was_typed_at_a_prompt_is_taken_as_it_is(app):
    names = {"functools": functools, "plain": plain}
    exec(
        "def around(function):\n"
        "    @functools.wraps(function)\n"
        "    def wrapper(*args, **kwargs): return function(*args, **kwargs)\n"
        "    return wrapper\ntask = around(plain)\n",
        names,
    )

    task = app.task(names["task"])

    task.check((1, 2, 3, 4), {})  # it says that it takes them
    assert task.apply((DAY,)).get() == ["session", "date", "timedelta"]
