"""What a supervisor settles for a runner that it has ended."""

import pytest

from streamq import Queue
from streamq.core.delivery import Delivery
from streamq.core.outcome import Outcome, SendToDeadLetters
from streamq.transport.replies import Refused
from streamq.worker.boot import make_recovery


@pytest.fixture
def recovery(app):
    """What a supervisor of this app does for its runners."""
    recovery = make_recovery(app)
    yield recovery
    recovery.client.close()


def test_what_cannot_be_settled_for_it_is_refused_and_the_others_are_settled(app, redis, recovery):
    keys = app.broker.keys
    app.broker.topology.declare([Queue("default")])
    stream, dead = keys.queue("default"), keys.dead("default")
    for id in "ab":
        redis.xadd(stream, {"id": id, "task": "t"})
    ((_, read),) = redis.xreadgroup("workers", "gone", {stream: ">"})
    redis.zadd(keys.leases, {"gone": 1})
    redis.set(dead, "not ours")
    outcomes = [
        Outcome(Delivery("default", entry.encode(), {b"id": id}), b"", (), then=then)
        for (entry, _), id, then in zip(
            read, (b"a", b"b"), (SendToDeadLetters(b"time limit", b"too long"), None), strict=True
        )
    ]

    with pytest.raises(Refused, match=f"{dead} is a string"):
        recovery.settle("gone", outcomes)

    assert redis.xpending(stream, "workers")["pending"] == 1
    redis.delete(dead)
    recovery.settle("gone", outcomes[:1])
    assert redis.zrange(dead, 0, -1) == ["a"]
