"""What one can ask of a result.

streamq worker -A results
python results.py
"""

import time

from streamq import App, as_completed

app = App("results")


@app.task(bind=True)
def nap(self, seconds: float) -> float:
    self.update_state(meta={"asleep for": seconds})
    time.sleep(seconds)
    return seconds


@app.task
def divide(x: int, y: int) -> float:
    return x / y


if __name__ == "__main__":
    naps = app.enqueue_many(nap.s(seconds) for seconds in (0.5, 0.1))
    print([result.get() for result in as_completed(naps, timeout=10)])

    failed = divide.enqueue(1, 0)
    try:
        failed.get(timeout=10)
    except ZeroDivisionError as error:
        print("failed:", error)
    print(failed.state, "|", failed.traceback.splitlines()[-1])

    # From anywhere else, the id is enough.
    print(app.result(naps[0].id).get())
