"""Whether what was raised inside a task has arrived in its own code."""

from functools import partial, wraps

import pytest

from streamq.runner.async_exception import Raised, codes_of


def helper(error):
    try:
        raise error
    except ValueError:
        pass


def plain(error):
    try:
        raise error
    except ValueError:
        pass


def swallowed_below(error):
    helper(error)


def decorated(function):
    @wraps(function)
    def call(*args):
        return function(*args)

    return call


def decorated_without_wraps(function):
    def call(*args):
        return function(*args)

    return call


class Callable:
    def method(self, error):
        plain(error)
        raise_and_catch(error)

    def __call__(self, error):
        try:
            raise error
        except ValueError:
            pass


def raise_and_catch(error):
    helper(error)


@pytest.mark.parametrize(
    ("function", "arrived"),
    [
        (plain, True),
        (swallowed_below, False),
        (decorated(plain), True),
        (decorated(decorated_without_wraps(plain)), True),
        (decorated(swallowed_below), False),
        (partial(plain), True),
        (Callable(), True),
        (Callable().method, False),
        (len, True),
    ],
)
def test_it_has_arrived_when_the_functions_own_code_has_met_it(function, arrived):
    error = ValueError()
    if function is not len:
        function(error)

    assert Raised(error, function).arrived is arrived


def test_what_is_handled_is_seen_through_what_is_raised_meanwhile():
    error = ValueError()
    raised, found = Raised(error, plain), []
    try:
        raise error
    except ValueError:
        found.append(raised.is_handled)
        try:
            raise KeyError from None
        except KeyError:
            found.append(raised.is_handled)
    found.append(raised.is_handled)

    assert found == [True, True, False]


def test_it_is_held_as_long_as_somebody_else_has_it():
    raised = Raised(ValueError(), plain)
    assert not raised.is_held

    keeper = raised.error

    assert raised.is_held
    del keeper
    assert not raised.is_held


def test_a_function_that_wraps_itself_is_looked_at_once():
    def one():
        return one

    one.__wrapped__ = one

    assert codes_of(one) == {one.__code__}
