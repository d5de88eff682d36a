"""The end of a chaos run: Redis at rest, processes as they were, all results recorded."""

import json
import re
import signal
import subprocess
import sys
import time
from typing import Any

import redis as redis_py

from tests.chaos.deployment import ROOT, Deployment, Worker
from tests.chaos.history import read
from tests.chaos.nemesis import HOUR
from tests.chaos.timeline import Timeline
from tests.processes import descriptors, hit, resident, until

#: The growth that a process may show at the end: descriptors, and bytes.
MORE_FILES, MORE_MEMORY = 6, 48 << 20
#: Leases within which consumers that died late are removed.
REMOVED_WITHIN = 6
#: Connections of one process to Redis.
MOST_CONNECTIONS = 4


def drain(deployment: Deployment, seconds: float) -> float:
    """Wait until no task waits or runs; return how many seconds that took.

    The time of Redis is first shifted past every moment for which a message was scheduled.
    """
    began = time.monotonic()
    deployment.shift(2 * HOUR)
    try:
        for worker in deployment.workers:
            until(worker.ready, f"{worker.who} is ready", 30)
        until(lambda: is_empty(deployment), "nothing waits and nothing runs", seconds)
    except (AssertionError, redis_py.RedisError) as error:
        deployment.writer.note("complaint", says=str(error))
    return time.monotonic() - began


def is_empty(deployment: Deployment) -> bool:
    """Whether nothing waits or runs.

    The scheduled messages are counted twice, because one may be moved to a stream meanwhile.
    """
    redis = deployment.redis
    streams = [
        key for key in redis.scan_iter(f"{ROOT}:queue:*", count=1000) if redis.type(key) == "stream"
    ]
    later = redis.zcard(f"{ROOT}:scheduled")
    held = sum(map(redis.xlen, streams))
    started = list(redis.scan_iter(f"{ROOT}:started:*", count=1000))
    return not (later or held or started or redis.zcard(f"{ROOT}:scheduled"))


def inspect(deployment: Deployment) -> None:
    """Record a complaint for each thing that is wrong, while the workers live."""
    try:  # a runner that has run a quarantined message takes a moment to end
        until(lambda: all(map(complete, deployment.workers)), "", REMOVED_WITHIN * deployment.lease)
    except AssertionError:
        for worker in deployment.workers:
            if not complete(worker):
                deployment.writer.note(
                    "complaint", says=f"{worker.who} has {len(worker.runners)} runners"
                )
    for worker in deployment.workers:
        for complaint in grown(worker):
            deployment.writer.note("complaint", says=complaint)
    expected = {pid for worker in deployment.workers for pid in worker.family}
    strays = set(deployment.processes()) - expected
    for pid in strays:
        deployment.writer.note("complaint", says=f"process {pid} belongs to no worker")
    connections = [each["name"] for each in deployment.redis.client_list()]
    ours = sum(name.startswith("streamq:") for name in connections)
    if ours > MOST_CONNECTIONS * len(expected):
        deployment.writer.note("complaint", says=f"{ours} connections of {len(expected)} processes")
    if quarantined := deployment.redis.smembers(f"{ROOT}:quarantine"):
        deployment.writer.note(
            "complaint", says=f"quarantined messages are left: {sorted(quarantined)}"
        )
    note_leaks(deployment)


def complete(worker: Worker) -> bool:
    """Whether a worker has as many runners as it should have."""
    return len(worker.runners) == worker.runners_wanted


def grown(worker: Worker) -> list[str]:
    """The growth of a worker's processes in descriptors and memory, as complaints."""
    base = list(worker.baseline.values())
    files = max((each[0] for each in base), default=0) + MORE_FILES
    memory = max((each[1] for each in base), default=0) + MORE_MEMORY
    found = []
    for pid in worker.family:
        if (now := descriptors(pid)) > files:
            found.append(f"{worker.who}: process {pid} has {now} descriptors, not {files}")
        if (size := resident(pid)) > memory:
            found.append(f"{worker.who}: process {pid} has {size >> 20} MiB, not {memory >> 20}")
    return found


def note_leaks(deployment: Deployment) -> None:
    """Record what the doctor finds; wait for what is removed only once in a while."""
    deadline = time.monotonic() + REMOVED_WITHIN * deployment.lease
    while (found := leaks(deployment)) and time.monotonic() < deadline:
        time.sleep(0.5)
    for line in found:
        deployment.writer.note("complaint", says=line)


def leaks(deployment: Deployment) -> list[str]:
    """The findings of ``streamq doctor --assert-clean``, which looks at every key."""
    done = subprocess.run(
        [sys.executable, "-m", "streamq", "doctor", "--assert-clean", "--json"],
        cwd=deployment.folder,
        env={**deployment.env, "STREAMQ_URL": deployment.server.url},
        capture_output=True,
        text=True,
        timeout=60,
    )
    if not done.stdout:
        return [f"the doctor ended with {done.returncode}: {done.stderr}"]
    return list(json.loads(done.stdout)["not_at_rest"])


def stop_all(deployment: Deployment) -> None:
    """End the workers by SIGTERM; leases and processes that stay are complaints."""
    for worker in deployment.workers:
        hit([worker.pid], signal.SIGTERM)
    for worker in deployment.workers:
        assert worker.process is not None
        code = worker.process.wait(timeout=60)
        if code:
            deployment.writer.note("complaint", says=f"{worker.who} ended with {code}")
    for name in ("leases", "workers"):
        left = deployment.redis.zrange(f"{ROOT}:{name}", 0, -1)
        if left:
            deployment.writer.note(
                "complaint", says=f"{name} has {left} after all workers have ended"
            )
    if strays := deployment.processes():
        deployment.writer.note("complaint", says=f"processes {strays} have outlived their workers")


def note_results(deployment: Deployment) -> None:
    """Record the result of every known task, and the dead letters."""
    redis, timeline = deployment.redis, Timeline(read(deployment.history))
    ids = {id for call in timeline.calls.values() for id in timeline.copies(call)} | set(
        timeline.runs
    )
    fields = ("state", "result", "error_type", "error", "reason", "worker", "finished")
    ordered = sorted(ids)
    for start in range(0, len(ordered), 1000):
        page, pipeline = ordered[start : start + 1000], redis.pipeline(transaction=False)
        for id in page:
            pipeline.hmget(f"{ROOT}:task:{id}", fields)
        for id, found in zip(page, pipeline.execute(), strict=True):
            record: dict[str, Any] = dict(zip(fields, found, strict=True))
            if record["result"] is not None:
                record["result"] = json.loads(record["result"])
            deployment.writer.note("record", id=id, **record)
    for queue in redis.smembers(f"{ROOT}:dead"):
        for letter in redis.zrange(f"{ROOT}:dead:{queue}", 0, -1):
            about = redis.hmget(f"{ROOT}:dead:{queue}:{letter}", "id", "dead_reason", "crashes")
            id, reason, crashes = about
            if re.search(r"#\d+$", letter):
                deployment.writer.note("complaint", says=f"{id} has a second dead letter: {reason}")
            deployment.writer.note("letter", id=id, queue=queue, reason=reason, crashes=crashes)
