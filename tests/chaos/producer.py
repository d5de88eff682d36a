"""A producer process: sends a mix of calls until it is to stop, and records the answers.

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
from tests.chaos.tasks import app, writer
from tests.chaos.workload import Call, Workload

#: Call numbers of one producer: they never overlap with those of another.
SPAN = 10_000_000
#: One of so many accepted calls is waited for.
SAMPLE = 20
#: Seconds of delay that are made up for; calls that an outage has delayed longer are left out.
CATCH_UP = 0.5


class Producer:
    """A producer that sends calls at a steady rate."""

    def __init__(self, number: int, rate: float, seed: int, kinds: str) -> None:
        lease = float(os.environ["STREAMQ_LEASE"].removesuffix("s"))
        self.pause = 1.0 / rate
        self.calls = Workload(seed + number, lease, first=number * SPAN, kinds=kinds)
        self.chance = random.Random(seed + number)
        self.enough = Path(os.environ[PLACE]).parent / "enough"
        self.waiting: queue.Queue[Any] = queue.Queue(maxsize=50)
        self.listener = threading.Thread(target=self.listen, daemon=True)

    def run(self) -> None:
        """Send until the file ``enough`` exists; then wait for the results still awaited."""
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
        """Send one call; return its result, or None if it is unknown whether it was accepted."""
        about = {"number": call.number, "kind": call.kind}
        signature = app.signature(
            f"tests.chaos.tasks.{call.how.task}",
            (call.number, call.kind, call.seconds),
            **call.options,
        )
        writer.note("invoked", **about)
        try:
            result = app.enqueue(signature)
        except streamq.BrokerUnavailable as error:
            writer.note("unknown", **about, error=str(error).partition("\n")[0])
            return None
        writer.note("accepted", **about, id=result.id)
        return result

    def follow(self, call: Call, result: Any) -> None:
        """Revoke the task or wait for its result, if its kind or number asks for that."""
        if call.how.revoked:
            try:
                result.revoke()
            except streamq.BrokerUnavailable:
                return
            writer.note("revoked", number=call.number, id=result.id)
        elif call.how.keep and not call.how.copies and call.number % SAMPLE == 0:
            with suppress(queue.Full):
                self.waiting.put_nowait((call, result))

    def listen(self) -> None:
        """Wait for results one after the other, and record each."""
        while (chosen := self.waiting.get()) is not None:
            call, result = chosen
            try:
                seconds = 0.5 if self.enough.exists() else 30
                reported: Any = ["SUCCESS", result.get(timeout=seconds)]
            except streamq.ResultTimeout:
                continue  # the others wait; whether this one ends is checked later
            except streamq.BrokerUnavailable as error:
                writer.note("unanswered", number=call.number, error=str(error).partition("\n")[0])
                continue
            except streamq.Revoked:
                reported = ["REVOKED", None]
            except Exception as error:  # what the task raised
                reported = ["FAILURE", type(error).__name__]
            writer.note("reported", number=call.number, id=result.id, said=reported)


if __name__ == "__main__":
    number, rate, seed, kinds = sys.argv[1:]
    Producer(int(number), float(rate), int(seed), kinds).run()
