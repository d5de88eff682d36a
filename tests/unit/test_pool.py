"""What is lent to one caller at a time is not lost to the others."""

import threading

import pytest

from streamq.transport import pool as lending
from streamq.transport.pool import ResourcePool
from tests.interruptions import interrupted_at


class Thing:
    """What is lent."""


def borrow_and_return(lends):
    lends.give_back(lends.borrow())


@pytest.mark.parametrize("idle", [0, 1, 2])
def test_an_interruption_anywhere_loses_nothing(idle):
    step = 0
    while True:
        lends = ResourcePool(Thing, 2)
        lends.idle.extend([lends.make_or_wait() for _ in range(idle)])
        if not interrupted_at(step, lending, lambda lends=lends: borrow_and_return(lends)):
            break
        step += 1

        both = []
        waiter = threading.Thread(
            target=lambda both=both, lends=lends: both.extend([lends.borrow(), lends.borrow()]),
            daemon=True,
        )
        waiter.start()
        waiter.join(1.0)
        assert len({*both}) == 2, f"interrupted at moment {step}"
    assert step > 1


def test_what_could_not_be_made_does_not_count():
    def fail():
        raise OSError("no more descriptors")

    lends = ResourcePool(fail, 1)
    for _ in range(2):
        with pytest.raises(OSError, match="descriptors") as caught:
            lends.borrow()
        assert caught.value.__context__ is None, "it has nothing to do with what is idle"


def test_no_more_are_made_than_may_be():
    lends = ResourcePool(Thing, 2)
    first, _second = lends.borrow(), lends.borrow()
    found = []
    waiter = threading.Thread(target=lambda: found.append(lends.borrow()), daemon=True)
    waiter.start()
    waiter.join(0.05)
    assert not found

    lends.give_back(first)

    waiter.join(5)
    assert found == [first]
