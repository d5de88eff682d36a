"""Middleware: a layer that tells how long calls wait and run, and who has sent them.

streamq worker -A timing
python timing.py
"""

import getpass
import time
from dataclasses import replace

from streamq import App, Middleware, get_task_logger

log = get_task_logger(__name__)


class Timing(Middleware):
    """Sends its calls with a header ``sent`` (who, and when), and logs the times of each run."""

    def publish(self, call, next):
        return next(self.stamped(call))

    async def apublish(self, call, next):
        return await next(self.stamped(call))

    def stamped(self, call):
        headers = {**call.options.get("headers", {}), "sent": [getpass.getuser(), time.time()]}
        return replace(call, options={**call.options, "headers": headers})

    def run(self, task, next):
        who, sent = task.request.headers.get("sent", ("somebody", time.time()))
        began = time.time()
        try:
            return next(task)
        finally:
            waited, ran = began - sent, time.time() - began
            log.info("%s of %s waited %.3f s and ran %.3f s", task.name, who, waited, ran)


app = App("timing")
app.middleware = [Timing()]


@app.task
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


if __name__ == "__main__":
    print(nap.enqueue(0.2).get(timeout=10))
