"""What must be so when everything is over: Redis at rest, processes as they were, all told."""

import json
import re
import signal
import subprocess
import sys
import time
from typing import Any

import redis as redis_py

from tests.chaos.book import Book
from tests.chaos.history import read
from tests.chaos.nemesis import HOUR
from tests.chaos.stage import ROOT, Stage, Worker
from tests.processes import descriptors, hit, resident, until

#: What a process may have more at the end than when it began: descriptors, and bytes.
MORE_FILES, MORE_MEMORY = 6, 48 << 20
#: Leases within which consumers that died late are swept.
SWEPT_WITHIN = 6
#: Connections of one process to Redis.
MOST_CONNECTIONS = 4


def drain(stage: Stage, seconds: float) -> float:
    """Let everything come to its end; return how long that took.

    The time of Redis first catches up with all that was ever put off to a shifted moment.
    """
    began = time.monotonic()
    stage.shift(2 * HOUR)
    try:
        for worker in stage.workers:
            until(worker.ready, f"{worker.who} is ready", 30)
        until(lambda: is_empty(stage), "nothing waits and nothing runs", seconds)
    except (AssertionError, redis_py.RedisError) as error:
        stage.pen.note("complaint", says=str(error))
    return time.monotonic() - began


def is_empty(stage: Stage) -> bool:
    """Whether nothing waits or runs; what is moved meanwhile is in one place or the other."""
    redis = stage.redis
    streams = [
        key for key in redis.scan_iter(f"{ROOT}:queue:*", count=1000) if redis.type(key) == "stream"
    ]
    later = redis.zcard(f"{ROOT}:scheduled")
    held = sum(map(redis.xlen, streams))
    started = list(redis.scan_iter(f"{ROOT}:started:*", count=1000))
    return not (later or held or started or redis.zcard(f"{ROOT}:scheduled"))


def look_over(stage: Stage) -> None:
    """Note everything that is not as it should be, while the workers live."""
    try:  # runners that have run suspects alone take a moment to leave
        until(lambda: all(map(complete, stage.workers)), "", SWEPT_WITHIN * stage.lease)
    except AssertionError:
        for worker in stage.workers:
            if not complete(worker):
                stage.pen.note("complaint", says=f"{worker.who} has {len(worker.runners)} runners")
    for worker in stage.workers:
        for complaint in grown(worker):
            stage.pen.note("complaint", says=complaint)
    expected = {pid for worker in stage.workers for pid in worker.family}
    strays = set(stage.processes()) - expected
    for pid in strays:
        stage.pen.note("complaint", says=f"process {pid} is nobody's")
    connections = [each["name"] for each in stage.redis.client_list()]
    ours = sum(name.startswith("streamq:") for name in connections)
    if ours > MOST_CONNECTIONS * len(expected):
        stage.pen.note("complaint", says=f"{ours} connections of {len(expected)} processes")
    if suspects := stage.redis.smembers(f"{ROOT}:suspects"):
        stage.pen.note("complaint", says=f"suspects are left: {sorted(suspects)}")
    note_unrest(stage)


def complete(worker: Worker) -> bool:
    """Whether a worker has the runners that it should have, and no more."""
    return len(worker.runners) == worker.runners_wanted


def grown(worker: Worker) -> list[str]:
    """What the processes of a worker have more than when it began."""
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


def note_unrest(stage: Stage) -> None:
    """Ask the doctor, who looks at every key; what is swept once in a while may take a while."""
    deadline = time.monotonic() + SWEPT_WITHIN * stage.lease
    while (found := unrest(stage)) and time.monotonic() < deadline:
        time.sleep(0.5)
    for line in found:
        stage.pen.note("complaint", says=line)


def unrest(stage: Stage) -> list[str]:
    """What speaks against Redis being at rest."""
    done = subprocess.run(
        [sys.executable, "-m", "streamq", "doctor", "--assert-clean", "--json"],
        cwd=stage.folder,
        env={**stage.env, "STREAMQ_URL": stage.server.url},
        capture_output=True,
        text=True,
        timeout=60,
    )
    if not done.stdout:
        return [f"the doctor ended with {done.returncode}: {done.stderr}"]
    return list(json.loads(done.stdout)["unrest"])


def stop_all(stage: Stage) -> None:
    """End the workers in good order; nothing of them may stay."""
    for worker in stage.workers:
        hit([worker.pid], signal.SIGTERM)
    for worker in stage.workers:
        assert worker.process is not None
        code = worker.process.wait(timeout=60)
        if code:
            stage.pen.note("complaint", says=f"{worker.who} ended with {code}")
    for name in ("leases", "workers"):
        left = stage.redis.zrange(f"{ROOT}:{name}", 0, -1)
        if left:
            stage.pen.note("complaint", says=f"{name} has {left} after all workers have ended")
    if strays := stage.processes():
        stage.pen.note("complaint", says=f"processes {strays} have outlived their workers")


def write_ledger(stage: Stage) -> None:
    """Note how every task that is known of has ended, and the dead letters."""
    redis, book = stage.redis, Book(read(stage.history))
    ids = {id for call in book.calls.values() for id in book.copies(call)} | set(book.runs)
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
            stage.pen.note("record", id=id, **record)
    for queue in redis.smembers(f"{ROOT}:dead"):
        for letter in redis.zrange(f"{ROOT}:dead:{queue}", 0, -1):
            about = redis.hmget(f"{ROOT}:dead:{queue}:{letter}", "id", "dead_reason", "crashes")
            id, reason, crashes = about
            if re.search(r"#\d+$", letter):
                stage.pen.note("complaint", says=f"{id} has a second dead letter: {reason}")
            stage.pen.note("letter", id=id, queue=queue, reason=reason, crashes=crashes)
