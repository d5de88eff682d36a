"""Answers that never come: to workers, of each script alone; to producers that die meanwhile."""

import random
import time
from collections import Counter

import pytest

from streamq.transport.scripts import load, names
from tests.proxy import calls_of
from tests.system.traffic import TASKS, begun

#: What workers say to Redis, and what makes them say it, beyond plain tasks.
SAID = ["read", "settle", "follow", "renew", "list_leases", "register", "recover", "promote"]
POOLS = [
    pytest.param(("-c", 2), id="prefork"),
    pytest.param(("-P", "gevent", "-c", 20), id="gevent"),
]


@pytest.fixture
def behind(site, proxy):
    """A site whose workers are behind the proxy, and whose producer is not.

    The server knows all scripts: a lost NOSCRIPT would be no lost answer.
    """
    site.env |= {"STREAMQ_URL": proxy.url, "STREAMQ_LEASE": "1500ms"}
    site.write(TASKS)
    for name in names():
        site.redis.script_load(load(name).text)
    return site


@pytest.mark.parametrize("flags", POOLS)
@pytest.mark.parametrize("said", SAID)
def test_two_lost_replies_lose_and_double_nothing(behind, proxy, flags, said):
    site = behind
    site.worker(*flags)
    lost = proxy.drop_reply("XREADGROUP" if said == "read" else calls_of(said), times=2)
    results = site.send_many("quick", 20) + site.send_many("twice", 5)

    values = [each.get(timeout=20) for each in results]
    fatal = site.send("fatal", 7).get(timeout=20)
    lost.wait(2)
    site.drained()

    assert values == [*range(20), *range(5)]
    assert fatal == 7
    assert Counter(begun(site, "quick")).total() == 20
    assert Counter(number for number, _ in begun(site, "twice")) == dict.fromkeys(range(5), 2)
    assert len(begun(site, "fatal")) == 2
    site.at_rest()


def early_with_a_lost_reply(site, proxy, *, patience):
    site.worker("-c", 1)
    assert site.send("quick", 0).get(timeout=10) == 0
    lost = proxy.drop_reply(lambda command: b"start" in command.words)
    value = site.send("quick", 1, acks_late=False).get(timeout=patience)
    assert lost.hits == 1
    return value


def test_an_early_task_runs_though_nobody_heard_that_it_may(behind, proxy):
    assert early_with_a_lost_reply(behind, proxy, patience=10) == 1
    assert len(begun(behind, "quick")) == 2
    behind.drained()
    behind.at_rest()


def waits_for_one(command):
    return command.name == "XREADGROUP" and b"BLOCK" in command.words


def read_in_vain(behind, proxy, *, patience):
    """What five tasks return while no message arrives that a runner waits for."""
    behind.worker("-c", 1)
    assert behind.send("quick", 0).get(timeout=10) == 0
    proxy.drop_reply(waits_for_one, times=None)
    return [behind.send("quick", number).get(timeout=patience) for number in range(5)]


def test_what_was_read_in_vain_is_found_among_what_is_ours(behind, proxy):
    assert read_in_vain(behind, proxy, patience=20) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("flags", POOLS)
def test_runners_that_wait_on_a_new_connection_are_kept(behind, proxy, flags):
    worker = behind.worker(*flags)
    assert behind.send("quick", 0).get(timeout=10) == 0
    runners = worker.runners()

    proxy.reset()
    assert behind.send("quick", 2).get(timeout=10) == 2
    time.sleep(2.5)  # more than a lease: the supervisor looks at who is still away

    assert worker.runners() == runners
    assert behind.send("quick", 1).get(timeout=10) == 1
    behind.at_rest()


@pytest.mark.parametrize("flags", POOLS)
def test_one_reply_of_a_hundred_lost_with_its_connection(behind, proxy, flags):
    site, chance = behind, random.Random(3)
    site.worker(*flags)
    lost = proxy.drop_reply(lambda command: chance.random() < 0.01, times=None)
    results = []
    while lost.hits < 10:
        results += [site.send("quick", len(results) + number) for number in range(10)]
        results[-1].get(timeout=10)
    proxy.heal()
    site.drained()

    assert Counter(site.states(results)) == {("SUCCESS", None): len(results)}
    assert Counter(number for number, _ in begun(site, "quick")) == Counter(range(len(results)))
    site.at_rest()


@pytest.mark.parametrize("flags", POOLS)
def test_half_a_second_each_way(behind, proxy, flags):
    site = behind
    site.env["STREAMQ_LEASE"] = "6s"
    worker = site.worker(*flags)
    held = site.send("hold", 1)
    site.until(lambda: begun(site))
    proxy.delay(0.5)
    began = time.monotonic()
    results = site.send_many("quick", 100)

    end = began + 45  # with one message in each round trip it would take 50 seconds
    values = [each.get(timeout=max(0.0, end - time.monotonic())) for each in results]
    assert values == list(range(100))
    time.sleep(max(0.0, began + 9 - time.monotonic()))
    (site.folder / "go").touch()
    assert held.get(timeout=10)[0] == 1
    assert len(begun(site)) == 1
    assert max(Counter(begun(site, "quick")).values()) == 1
    assert "was fenced meanwhile" not in worker.said


# Producers

SEND_ONCE = """
    from tasks import quick

    print(quick.options(task_id={id!r}).enqueue(5).get(timeout=20))
"""


def killed_after_sending(site, proxy, id):
    """A producer is killed while it waits for the answer; then it is started again."""
    site.worker("-c", 1).stop()  # the queue is there
    lost = proxy.drop_reply(calls_of("publish", "publish_plain"), hang=True)
    producer = site.python(SEND_ONCE.format(id=id))
    lost.wait()
    producer.kill()
    producer.wait()
    site.env["STREAMQ_URL"] = site.server.url
    site.worker("-c", 1)
    out, err = site.python(SEND_ONCE.format(id=id)).communicate(timeout=30)
    assert (out, err) == (b"5\n", b"")
    site.drained()
    return len(begun(site, "quick"))
