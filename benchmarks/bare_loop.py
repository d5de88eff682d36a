"""The ceiling: two bare processes that do the Redis work streamq's promises ask for, and no more.

The routing lookup, a record at enqueue, the lease check, an XACK for each entry, one XDEL, a result
with an expiry, a waiter told.  No pool, no errors, no signals, no recovery: a figure to compare
with, not code to build on.
"""

import multiprocessing
import os
import time
import uuid
from collections.abc import Iterator
from typing import Any

import hiredis
import msgspec
import redis

from benchmarks.harness import Drain, Figures, Processes, Stage, percentile
from benchmarks.report import Figure, Row

QUEUE = "{bare}:queue:default"
LEASES = "{bare}:leases"
TOPOLOGY = "{bare}:exchange:default"
REPLIES = "{bare}:replies:1"
GROUP = "workers"

#: Messages in one publishing call.
CHUNK = 100

PUBLISH = """
-- KEYS: topology, ARGV: routing key, then id, task, args, kwargs of each message.
local queue = '{bare}:queue:' .. redis.call('HGET', KEYS[1], ARGV[1])
for i = 2, #ARGV, 4 do
  local id, task, args, kwargs = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if redis.call('HSETNX', '{bare}:task:' .. id, 'state', 'QUEUED') == 1 then
    redis.call('XADD', queue, '*', 'id', id, 'task', task, 'args', args, 'kwargs', kwargs)
  end
end
return (#ARGV - 1) / 4
"""

SETTLE = """
-- KEYS: queue, leases, ARGV: consumer, then entry, id, result of each finished task.
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  return redis.error_reply('FENCED')
end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local mine = {}
for i = 2, #ARGV, 3 do
  local entry, id, value = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if redis.call('XACK', KEYS[1], 'workers', entry) == 1 then
    mine[#mine + 1] = entry
    local record = '{bare}:task:' .. id
    redis.call('HSET', record, 'state', 'SUCCESS', 'result', value,
      'worker', ARGV[1], 'finished', now_ms)
    redis.call('PEXPIRE', record, 86400000)
    local waiter = redis.call('HGET', record, 'waiter')
    if waiter then
      redis.call('XADD', waiter, 'MAXLEN', '~', 10000, '*', 'id', id, 'result', value)
      redis.call('PEXPIRE', waiter, 600000)
    end
  end
end
if #mine > 0 then
  redis.call('XDEL', KEYS[1], unpack(mine))
end
return #mine
"""

AWAIT = """
-- KEYS: record, ARGV: the reply stream of whoever waits.
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'SUCCESS' then
  redis.call('HSET', KEYS[1], 'waiter', ARGV[1])
end
return state
"""


class Line:
    """One connection, spoken to as directly as redis-py allows."""

    def __init__(self, url: str) -> None:
        client = redis.Redis.from_url(url, protocol=2)
        self.connection = client.connection_pool.get_connection()

    def ask(self, *command: Any) -> Any:
        self.connection.send_packed_command([hiredis.pack_command(command)])
        return self.connection.read_response()


class Producer:
    """Publishes through the routing script."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.sha = line.ask("SCRIPT", "LOAD", PUBLISH)

    def publish(self, count: int) -> str:
        """Publish this many messages in one call; return the id of the last."""
        command = ["EVALSHA", self.sha, 1, TOPOLOGY, "default"]
        for _ in range(count):
            command += (uuid.uuid4().hex[:26], "noop", "[4]", "{}")
        self.line.ask(*command)
        return str(command[-4])


def runner(stage: Stage, number: int, batch: int) -> None:
    """Read, run, settle, for ever."""
    mark = os.open(stage.marks.path, os.O_WRONLY | os.O_APPEND)

    def noop(x: int) -> int:
        os.write(mark, b".")
        return x

    tasks, me, line = {b"noop": noop}, f"w1:{number}", Line(stage.url)
    settle = line.ask("SCRIPT", "LOAD", SETTLE)
    line.ask("ZADD", LEASES, "9e15", me)
    read = ("XREADGROUP", "GROUP", GROUP, me, "COUNT", batch, "BLOCK", 1000, "STREAMS", QUEUE, ">")
    while True:
        answer = line.ask(*read)
        if not answer:
            continue
        command = ["EVALSHA", settle, 2, QUEUE, LEASES, me]
        for entry, fields in answer[0][1]:
            message = dict(zip(fields[::2], fields[1::2], strict=True))
            args = msgspec.json.decode(message[b"args"])
            kwargs = msgspec.json.decode(message[b"kwargs"])
            value = tasks[message[b"task"]](*args, **kwargs)
            command += (entry, message[b"id"], msgspec.json.encode(value))
        line.ask(*command)


# --- the row -------------------------------------------------------------------------------------


def measure(stage: Stage) -> Figures:
    """Publish, drain in two sizes of batch, one at a time."""
    figures: Figures = {}
    for batch in (16, 64):
        stage.clear()
        publish_rate, bytes_each, total = publish(stage)
        drained = drain(stage, total, batch)
        figures[f"drain, batches of {batch}"] = drained.rate
        figures[f"server, batches of {batch}"] = drained.server_us
        figures |= {"publish in chunks": publish_rate, "a waiting message": bytes_each}
    stage.clear()
    figures["publish one by one"] = publish_one_by_one(stage)
    stage.clear()
    times = list(round_trips(stage, stage.size(3000, 300)))
    return figures | {"p50": percentile(times, 0.5), "p99": percentile(times, 0.99)}


def declare(stage: Stage) -> Producer:
    stage.redis.xgroup_create(QUEUE, GROUP, "0", mkstream=True)
    stage.redis.hset(TOPOLOGY, "default", "default")
    return Producer(Line(stage.url))


def publish(stage: Stage) -> tuple[float, float, int]:
    """Messages a second, bytes of Redis for each, and how many."""
    total, producer = stage.size(240_000, 10_000), declare(stage)
    memory, start = stage.redis.info("memory")["used_memory"], time.perf_counter()
    for _ in range(total // CHUNK):
        producer.publish(CHUNK)
    took = time.perf_counter() - start
    return total / took, (stage.redis.info("memory")["used_memory"] - memory) / total, total


def publish_one_by_one(stage: Stage) -> float:
    total, producer = stage.size(20_000, 1000), declare(stage)
    start = time.perf_counter()
    for _ in range(total):
        producer.publish(1)
    return total / (time.perf_counter() - start)


def drain(stage: Stage, total: int, batch: int) -> Drain:
    runners = start_runners(stage, 2, batch)
    drained = stage.drain(total, lambda: not stage.redis.xlen(QUEUE), Processes(stage.log))
    for process in runners:
        process.kill()
        process.join()
    return drained


def round_trips(stage: Stage, count: int) -> Iterator[float]:
    """Milliseconds from publishing to holding the result, nothing else going on."""
    producer, reader = declare(stage), Line(stage.url)
    wait = producer.line.ask("SCRIPT", "LOAD", AWAIT)
    (process,) = start_runners(stage, 1, 1)
    time.sleep(0.3)
    last = "0"
    for _ in range(count):
        start = time.perf_counter()
        record = "{bare}:task:" + producer.publish(1)
        if producer.line.ask("EVALSHA", wait, 1, record, REPLIES) != b"SUCCESS":
            answer = reader.ask("XREAD", "BLOCK", 2000, "STREAMS", REPLIES, last)
            last = answer[0][1][-1][0].decode()
        yield (time.perf_counter() - start) * 1e3
    process.kill()
    process.join()


def start_runners(stage: Stage, count: int, batch: int) -> list[multiprocessing.Process]:
    numbers = range(count)
    runners = [multiprocessing.Process(target=runner, args=(stage, n, batch)) for n in numbers]
    for process in runners:
        process.start()
    return runners


ROWS = (
    Row(
        "bare",
        measure,
        (
            Figure("publish one by one", "/s"),
            Figure("publish in chunks", "/s"),
            Figure("a waiting message", "B"),
            Figure("drain, batches of 16", "/s"),
            Figure("server, batches of 16", "µs a task"),
            Figure("drain, batches of 64", "/s"),
            Figure("server, batches of 64", "µs a task"),
            Figure("p50", "ms"),
            Figure("p99", "ms"),
        ),
    ),
)
