"""A process that sends a mix of calls until it is told to stop, and notes what it is told.

    python -m tests.chaos.producer NUMBER RATE SEED KINDS

It ends when the file ``enough`` appears beside the history.
"""

import os
import queue
import random
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import streamq
from tests.chaos.history import PLACE
from tests.chaos.tasks import app, pen
from tests.chaos.workload import Call, Workload

#: Numbers of one producer: they never meet those of another.
SPAN = 10_000_000
#: Of so many accepted calls one is waited for.
SAMPLE = 20
#: Seconds of lateness that are made up for; what an outage has cost beyond is not sent.
CATCH_UP = 0.5


class Producer:
    """Sends calls at a steady rate."""

    def __init__(self, number: int, rate: float, seed: int, kinds: str) -> None:
        lease = float(os.environ["STREAMQ_LEASE"].removesuffix("s"))
        self.pause = 1.0 / rate
        self.calls = Workload(seed + number, lease, first=number * SPAN, kinds=kinds)
        self.chance = random.Random(seed + number)
        self.enough = Path(os.environ[PLACE]).parent / "enough"
        self.waiting: queue.Queue[Any] = queue.Queue(maxsize=50)
        self.listener = threading.Thread(target=self.listen, daemon=True)

    def run(self) -> None:
        """Send until there is enough; then wait for what is still listened to."""
        self.listener.start()
        moment = time.monotonic()
        while not self.enough.exists():
            call = self.calls.next()
            result = self.send(call)
            if call.how.chosen:
                time.sleep(self.chance.choice([0.0, 0.02]))
                result = self.send(call)
            if result is not None:
                self.follow(call, result)
            moment = max(moment + self.pause, time.monotonic() - CATCH_UP)
            time.sleep(max(0.0, moment - time.monotonic()))
        self.waiting.put(None)
        self.listener.join()

    def send(self, call: Call) -> Any:
        """Send one call; None if nobody can say what became of it."""
        about = {"number": call.number, "kind": call.kind}
        signature = app.signature(
            f"tests.chaos.tasks.{call.how.task}",
            (call.number, call.kind, call.seconds),
            **call.options,
        )
        pen.note("invoked", **about)
        try:
            result = app.enqueue(signature)
        except streamq.BrokerUnavailable as error:
            pen.note("unknown", **about, error=str(error).partition("\n")[0])
            return None
        pen.note("accepted", **about, id=result.id)
        return result

    def follow(self, call: Call, result: Any) -> None:
        """Revoke it, or listen for its end, if it is one of those."""
        if call.how.revoked:
            try:
                result.revoke()
            except streamq.BrokerUnavailable:
                return
            pen.note("revoked", number=call.number, id=result.id)
        elif call.how.keep and not call.how.copies and call.number % SAMPLE == 0:
            with suppress(queue.Full):
                self.waiting.put_nowait((call, result))

    def listen(self) -> None:
        """Wait for results, one after the other, and note what is told of them."""
        while (chosen := self.waiting.get()) is not None:
            call, result = chosen
            try:
                told: Any = ["SUCCESS", result.get(timeout=0.5 if self.enough.exists() else 30)]
            except streamq.ResultTimeout:
                continue  # others are to be heard too; whether it ends is seen later
            except streamq.BrokerUnavailable as error:
                pen.note("deaf", number=call.number, error=str(error).partition("\n")[0])
                continue
            except streamq.Revoked:
                told = ["REVOKED", None]
            except Exception as error:  # what the task raised
                told = ["FAILURE", type(error).__name__]
            pen.note("told", number=call.number, id=result.id, said=told)


if __name__ == "__main__":
    number, rate, seed, kinds = sys.argv[1:]
    Producer(int(number), float(rate), int(seed), kinds).run()
