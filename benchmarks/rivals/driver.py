"""What each rival's file is asked to do, in the rival's own environment.

A file says how it enqueues one no-op task, how it calls one and waits, and how its workers start;
``serve`` does the rest.  Where the library is asynchronous, so may the functions be.
"""

import asyncio
import contextlib
import inspect
import json
import os
import sys
import time

URL = os.environ["BENCH_URL"]

#: Seconds after which calls are no longer repeated, if there are enough for a percentile.
PATIENCE = 10.0
ENOUGH = 100

_mark = os.open(os.environ["BENCH_MARKS"], os.O_WRONLY | os.O_APPEND)


def mark():
    """Leave one byte: this task ran."""
    os.write(_mark, b".")


def serve(*, workers, enqueue, call, opened=None):
    """Do what the command line asks and print the answer as JSON.

    ``workers`` are commands; ``enqueue(x)`` sends and forgets; ``call(x)`` returns the result;
    ``opened`` is an asynchronous context in which all this is done, where the library wants one.
    """
    act, count = sys.argv[1], int(sys.argv[2])
    if act == "workers":
        print(json.dumps([command.split() for command in workers]))
    else:
        steps = {"enqueue": time_enqueue, "round_trips": round_trips, "first": first_result}
        print(json.dumps(asyncio.run(in_loop(steps[act], enqueue, call, opened, count))))


async def in_loop(step, enqueue, call, opened, count):
    async with opened or contextlib.nullcontext():
        return await step(enqueue, call, count)


async def done(value):
    """The value, awaited if it is to be."""
    return await value if inspect.isawaitable(value) else value


async def time_enqueue(enqueue, call, count):
    """Seconds for this many, one after the other; the connection is warm."""
    await done(enqueue(0))
    start = time.perf_counter()
    for x in range(1, count):
        await done(enqueue(x))
    return time.perf_counter() - start


async def round_trips(enqueue, call, count):
    """Milliseconds of each call, one at a time, after some to warm up.

    A slow library makes fewer than ``count``.
    """
    times = []
    end = time.monotonic() + PATIENCE
    for x in range(-20, count):
        if len(times) >= ENOUGH and time.monotonic() > end:
            break
        start = time.perf_counter()
        if await done(call(x)) != x:
            raise SystemExit(f"{x} did not come back")
        if x >= 0:
            times.append((time.perf_counter() - start) * 1e3)
    return times


async def first_result(enqueue, call, count):
    """When the result of one task came; it is sent now, and the worker starts after that."""
    await done(call(1))
    return time.monotonic()
