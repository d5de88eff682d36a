"""Remote control by Celery's names: ``ping``, and what to type instead of the rest.

No worker is asked.  Each renews its leases in Redis, and one that has not done so in time is not
up: so the answer comes at once, also from workers that are busy.
"""

from collections.abc import Collection, Mapping

from streamq.context import NotInThisVersion
from streamq.host import clock
from streamq.transport.client import Client
from streamq.transport.decode import texts
from streamq.transport.keys import Keys

#: The answer of a worker that is up, as Celery's workers give it.
PONG: Mapping[str, str] = {"ok": "pong"}

SHOW = "streamq workers show WORKER"
#: Methods of ``inspect`` that this version lacks → what to type instead.
INSPECT: Mapping[str, str] = {
    "active": SHOW,
    "active_queues": f"streamq workers ls, {SHOW}",
    "clock": "there is no clock of events: times are Redis's",
    "conf": "streamq config show",
    "hello": "streamq workers ls",
    "memdump": "streamq workers ls, and ps with the pid that it shows",
    "memsample": "streamq workers ls, and ps with the pid that it shows",
    "objgraph": "a profiler such as py-spy, with the pid that streamq workers ls shows",
    "query_task": "streamq result ID",
    "registered": SHOW,
    "report": "streamq doctor, streamq config show",
    "reserved": "streamq queues ls, streamq queues peek QUEUE",
    "revoked": "streamq result ID",
    "scheduled": "streamq queues ls, which counts what is for later",
    "stats": f"streamq workers ls, {SHOW}",
}
RESTART = "start the worker again"
#: Methods of ``control`` that this version lacks → what to type instead.
CONTROL: Mapping[str, str] = {
    "add_consumer": f"{RESTART} with -Q and the queue",
    "autoscale": f"{RESTART} with -c",
    "broadcast": "a fanout exchange reaches every queue that is bound to it",
    "cancel_consumer": f"{RESTART} with -X and the queue",
    "disable_events": "there are no events to switch off: states are in Redis",
    "election": "workers agree through Redis: there is nothing to elect",
    "enable_events": "there are no events to switch on: streamq workers ls, streamq result ID",
    "heartbeat": "streamq workers ls: workers renew their leases in Redis",
    "pool_grow": f"{RESTART} with -c",
    "pool_restart": "kill -HUP with the pid that streamq workers ls shows",
    "pool_shrink": f"{RESTART} with -c",
    "rate_limit": "there are no rate limits: fewer tasks run at a time with -c",
    "revoke_by_stamped_headers": "streamq revoke ID…",
    "shutdown": "kill -TERM with the pid that streamq workers show WORKER shows",
    "time_limit": "@app.task(time_limit=…), or streamq worker --time-limit",
}


def ping(
    client: Client,
    keys: Keys,
    destination: str | Collection[str] | None = None,
    timeout: float | None = None,
) -> dict[str, dict[str, str]]:
    """The workers that are up, by name, each with ``{"ok": "pong"}``; sorted by name.

    ``destination`` is the names of the workers that are meant, or one of them; None means all.
    ``timeout`` is how long to wait for Redis (seconds).  Raises BrokerUnavailable.
    """
    if timeout is not None:
        client = client.limited(clock.monotonic() + timeout)
    seen, now = client.ask_all([("ZRANGE", keys.workers, 0, -1, "WITHSCORES"), ("TIME",)])
    moment = int(now[0]) * 1000 + int(now[1]) / 1000
    wanted = {destination} if isinstance(destination, str) else destination
    return {
        node: dict(PONG)
        for node, until in sorted(texts(seen).items())
        if float(until) > moment and (not wanted or node in wanted)
    }


def not_here(name: str, instead: str) -> NotInThisVersion:
    """Make the error of a name of Celery's remote control that this version lacks."""
    return NotInThisVersion(f"not in this version: {name}", advice=[instead])
