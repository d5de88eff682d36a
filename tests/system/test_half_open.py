"""Connections whose peer is gone without a word: noticed within seconds, without a new message."""

import time

import pytest

from tests.system.traffic import TASKS

#: Seconds within which a read that waits for news notices that its connection is dead: it
#: blocks for 5, and Redis may take 5 more.
NOTICED = 12.0

WAITING = """
    from tasks import app, quick

    result = app.result("order-1")
    print("waits", flush=True)
    print(result.get(timeout=60), flush=True)
"""


@pytest.fixture
def behind(site, proxy):
    site.env |= {"STREAMQ_URL": proxy.url, "STREAMQ_LEASE": "3s"}
    site.write(TASKS)
    return site


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(("-c", 2), id="prefork"),
        pytest.param(("-P", "gevent", "-c", 20), id="gevent"),
    ],
)
def test_readers_supervisors_and_the_notifier_find_out_by_themselves(behind, proxy, flags):
    site = behind
    worker = site.worker(*flags)
    assert site.send("quick", 0).get(timeout=10) == 0
    runners = worker.runners()
    time.sleep(0.3)  # until they all wait
    assert proxy.strand() >= 3
    began = time.monotonic()

    soon = site.send("quick", 1)
    later = site.send("quick", 2, countdown=1.2)  # the notifier, and scheduled messages

    assert soon.get(timeout=NOTICED) == 1
    assert later.get(timeout=NOTICED) == 2
    assert time.monotonic() - began < NOTICED
    assert worker.runners() == runners
    assert "was fenced meanwhile" not in worker.said
    site.at_rest()


def test_who_waits_for_a_result_finds_out_by_itself(behind, proxy):
    site = behind
    waiting = site.python(WAITING)
    assert waiting.stdout.readline() == b"waits\n"
    site.until(lambda: proxy.seen["XREAD"], "it waits")
    proxy.strand()
    site.worker("-c", 1)
    began = time.monotonic()
    site.send("quick", 7, task_id="order-1")

    out, err = waiting.communicate(timeout=NOTICED + 10)

    assert (out, err) == (b"7\n", b"")
    assert time.monotonic() - began < NOTICED
