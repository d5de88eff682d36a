"""The app with many schedules, and many supervisors in one process.

``python -m benchmarks.scheduled COUNT`` runs as many supervisors as that, without runners: each has
all services, connections and subscriptions of a ``streamq beat``.
"""

import os
import select
import signal
import sys
from collections.abc import Sequence

from benchmarks.tasks import Bench
from streamq import every
from streamq.discovery import Found
from streamq.host import clock
from streamq.host.launch import Launch
from streamq.worker.boot import assemble, claim_worker_name, declare
from streamq.worker.processes import RunnerProcesses
from streamq.worker.services.service import CHECK
from streamq.worker.services.services import Services
from streamq.worker.workdir import WorkDir

SPEC = "benchmarks.scheduled:app"
#: How many schedules the app declares, and their interval in seconds.
COUNT = int(os.environ.get("BENCH_SCHEDULES", "0"))
INTERVAL = 50.0


def scheduled(url: str | None) -> Bench:
    """An app whose schedules tick ``COUNT / INTERVAL`` times a second.

    Each interval is a millisecond longer than the one before.  As all count from the epoch, their
    moments are spread as by chance.
    """
    bench = Bench(url)
    for number in range(COUNT):
        when = every(INTERVAL + (number - COUNT / 2) / 1000)
        bench.app.schedule(f"beat-{number:04}", bench.noop, when, (number,))
    return bench


app = scheduled(os.environ.get("BENCH_URL")).app


def supervisor(number: int) -> tuple[Services, WorkDir]:
    """The services of one supervisor that has no runners, as ``streamq beat`` has them."""
    found = Found(app, SPEC, "-A")
    declare(app, [])
    node = claim_worker_name(app, f"supervisor{number:02}@bench")
    launch, workdir = Launch.here(), WorkDir()
    processes = RunnerProcesses(lambda config: 0, launch)
    made = assemble(found, {}, node, [], processes, workdir, burst=False)
    made.announce()
    return made.services, workdir


def serve(all_services: Sequence[Services]) -> None:
    """Give each its rounds, as ``Supervisor.run`` does: at a notice, and when something is due."""
    poll = select.poll()
    by_descriptor: dict[int, int] = {}
    due = [0.0] * len(all_services)
    while True:
        for number, services in enumerate(all_services):
            if due[number] > clock.monotonic():
                continue
            services.run_due()
            due[number] = min(clock.monotonic() + CHECK, services.next_moment())
            for each in services.waited_for():
                if by_descriptor.get(each.fileno()) != number:
                    by_descriptor[each.fileno()] = number
                    poll.register(each.fileno(), select.POLLIN)
        pause = max(0.0, min(due) - clock.monotonic())
        for descriptor, _ in poll.poll(pause * 1000):
            due[by_descriptor[descriptor]] = 0.0


def main(count: int) -> None:
    """Run so many supervisors until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    made = [supervisor(number) for number in range(count)]
    try:
        serve([services for services, _ in made])
    finally:
        for _, workdir in made:
            workdir.remove()


if __name__ == "__main__":
    main(int(sys.argv[1]))
