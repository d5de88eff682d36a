"""A cluster: every key of a namespace is in one slot, so that one node can do all the work."""

import os
import re
import signal

import pytest

import streamq
from tests.conftest import cluster_options, has_all_slots

TASKS = """
news = Exchange("news", type="fanout")
app.queues = [
    Queue("left", news, max_priority=3), Queue("right", news), Queue("default"),
    Queue("strict", dead_letter_exchange="news"),
]

@app.task(bind=True)
def work(self, number):
    return f"{self.request.queue}:{number}"

@app.task(bind=True, max_retries=2)
def again(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0.05)
    return "at last"

@app.task(bind=True)
def fatal(self, keeps_dying):
    if keeps_dying or not self.request.redelivered:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"

@app.task
def rejected():
    raise streamq.Reject()
"""


def slot(key):
    """The slot of a key: CRC16 of what stands between the first braces, else of all of it."""
    found = re.search(r"{([^}]+)}", key)
    crc = 0
    for byte in (found[1] if found else key).encode():
        crc ^= byte << 8
        for _ in range(8):
            crc = crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1
        crc &= 0xFFFF
    return crc % 16384


@pytest.fixture
def cluster(site, server):
    """The site's server as the only node of a cluster."""
    server.stop(signal.SIGKILL)
    for file in (server.folder / "appendonlydir").iterdir():
        file.unlink()
    server.options = cluster_options()
    server.start()
    site.until(lambda: has_all_slots(server.client), "the cluster works")
    return site


def do_everything(site):
    """Let workers do whatever makes keys."""
    site.write(TASKS)
    site.worker("-c", 2)
    sent = site.send_many("work", 200)
    early = site.send_many("work", 20, acks_late=False)
    high = site.send("work", 1, queue="left", priority=3)
    both = site.send("work", 2, exchange="news", task_id="chosen")
    later = site.send("work", 3, countdown=0.2)
    revoked = site.send("work", 4, countdown=60)
    revoked.revoke()
    again, rejected = site.send("again"), site.send("rejected", queue="strict")

    values = [each.get(timeout=20) for each in [*sent, *early, high, later, again]]
    expected = [f"default:{number}" for number in [*range(200), *range(20)]]
    assert values == [*expected, "left:1", "default:3", "at last"]
    assert site.send("fatal", False).get(timeout=20) == "survived"
    poison = site.send("fatal", True)
    assert both.get(timeout=20) == {"left": "left:2", "right": "right:2"}
    for result, error in ((revoked, streamq.Revoked), (poison, streamq.WorkerLost)):
        with pytest.raises(error):
            result.get(timeout=20)
    with pytest.raises(streamq.Reject):
        rejected.get(timeout=20)
    site.until(lambda: site.redis.zcard("{streamq}:dead:default"), "poison is put aside")


def test_workers_and_producers_do_everything_in_a_cluster(cluster):
    do_everything(cluster)

    keys = cluster.redis.keys("*")
    assert {cluster.redis.execute_command("CLUSTER", "KEYSLOT", key) for key in keys} == {
        slot("{streamq}")
    }
    cluster.drained()
    cluster.at_rest()


def test_every_key_of_a_namespace_is_in_one_slot(site):
    do_everything(site)

    keys = site.redis.keys("*")
    assert len({key.split(":")[1] for key in keys}) > 10, "keys of all kinds"
    assert {slot(key) for key in keys} == {slot("{streamq}")}


def test_slots_are_counted_as_redis_counts_them():
    """From the specification of Redis Cluster."""
    assert slot("123456789") == 0x31C3
    assert slot("{user1000}.following") == slot("{user1000}.followers") == slot("user1000")


@pytest.mark.parametrize("namespace", ["streamq", "a", "über", "x.3", os.fsdecode(b"n\xff")])
def test_whatever_the_namespace_is_called_its_keys_have_its_tag(namespace):
    keys = streamq.App("site", namespace=namespace, url="redis://nowhere").broker.keys

    made = {
        keys.root,
        keys.task("x{y}"),
        keys.queue("a"),
        keys.leases,
        keys.notices,
        keys.dead("b"),
    }
    assert {key.partition("}")[0] for key in made} == {f"{{{namespace}"}
