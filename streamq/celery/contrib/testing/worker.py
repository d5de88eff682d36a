"""A worker in a thread of the test, by Celery's names: ``with start_worker(app):``.

Tasks run in this process, so that what a test has replaced (``mock.patch``) is replaced for them
too.  One task runs at a time, and time limits are not kept, as with Celery's worker for tests.
"""

import logging
import secrets
import socket
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from streamq.app import App
from streamq.broker.leases import Leases
from streamq.broker.recovery import RecoveryRequest
from streamq.broker.scheduled import ScheduledMessages
from streamq.errors import BrokerUnavailable
from streamq.routing import Queue
from streamq.runner.config import RunnerConfig
from streamq.runner.pools.solo import Solo, make_solo
from streamq.runner.runner import Runner
from streamq.runner.soft_limit import SoftLimitTimer
from streamq.transport.replies import Refused
from streamq.worker.boot import dead_letter_bounds, make_recovery
from streamq.worker.services.heartbeat import WorkerReport

__all__ = ["TestWorkController", "start_worker"]

logger = logging.getLogger("streamq.worker")

#: Seconds between two looks for messages that are due.
TICK = 0.05


class TestWorkController:
    """A worker of a test: a pool in one thread, and its leases and due messages in another."""

    __test__ = False  # pytest takes it for a class of tests otherwise

    def __init__(self, app: App, queues: Iterable[Any] = (), hostname: str | None = None) -> None:
        self.app = app
        self.hostname = hostname or f"test-{secrets.token_hex(4)}@{socket.gethostname()}"
        self.folder = tempfile.TemporaryDirectory(prefix="streamq-", ignore_cleanup_errors=True)
        self.stopped = threading.Event()
        self.error: BaseException | None = None
        app.import_tasks()
        app.broker.topology.declare(chosen := queues_of(app, queues))
        known = app.broker.topology.queues()
        self.config = RunnerConfig(
            number=0,
            node=self.hostname,
            token=secrets.token_hex(4),
            supervisor=0,
            url=app.url,
            sources=[(each.name, levels_of(known[each.name])) for each in chosen],
            pool="solo",
            concurrency=1,
            burst=False,
            folder=self.folder.name,
            runners=1,
            slots=1,
        )
        self.pool: Solo = make_solo(Runner(app, self.config))
        self.pool.soft_limit_timer = SoftLimitTimer(do_nothing)
        self.recovery = make_recovery(app)
        self.threads = [
            threading.Thread(target=each, name=f"{each.__name__} of {self.hostname}", daemon=True)
            for each in (self.run_pool, self.run_services)
        ]

    def start(self) -> None:
        """Start the threads, and wait until the worker has its leases: then it answers a ping."""
        self.threads[0].start()
        self.ensure_started()
        self.renew()
        self.threads[1].start()

    def ensure_started(self) -> None:
        """Wait until the worker reads messages.  Raises what ended it before."""
        lease = self.pool.prefetch.consumer.own_lease
        while not lease.registered:
            if self.error is not None:
                raise self.error
            self.stopped.wait(0.005)

    def reload(self, *modules: Any, **options: Any) -> None:
        """Do nothing: the worker knows the tasks of its app, also those made later."""

    def stop(self, timeout: float = 10.0) -> None:
        """Let the running task end, hand back the rest, and wait for the threads.

        Raises RuntimeError if the task has not ended after so many seconds.
        """
        self.pool.stop()
        self.threads[0].join(timeout)
        self.stopped.set()
        if self.threads[0].is_alive():
            raise RuntimeError(
                f"the worker did not end within {timeout:g} s: its task goes on\n"
                "  → start_worker(app, shutdown_timeout=…) waits longer"
            )
        self.threads[1].join(timeout)
        gone = RecoveryRequest(
            consumer=self.pool.prefetch.consumer.name, reason="stopped", blame="none"
        )
        with suppress(BrokerUnavailable, Refused):
            self.recovery.recover(gone)
            self.report.sign_off()
        self.pool.prefetch.consumer.connection.drop()
        self.recovery.client.close()
        self.folder.cleanup()
        if self.error is not None:
            raise self.error

    def run_pool(self) -> None:
        """Run tasks until the worker is stopped."""
        try:
            self.pool.run()
        except BaseException as error:
            self.error = error

    def run_services(self) -> None:
        """Renew the lease, and move messages that are due, until the worker is stopped."""
        conf, client = self.app.conf, self.recovery.client
        scheduled = ScheduledMessages(
            client,
            self.app.broker.keys,
            result_expires=conf.result_expires,
            dead=dead_letter_bounds(conf),
        )
        left = conf.lease / 3
        while not self.stopped.wait(TICK):
            left -= TICK
            if left <= 0:
                self.renew()
                left = conf.lease / 3
            try:
                scheduled.promote()
            except (BrokerUnavailable, Refused) as error:
                logger.debug("%s: %s", self.hostname, error)

    def renew(self) -> None:
        """Renew the leases; where Redis does not answer, it is tried again in time."""
        leases = Leases(self.recovery.client, self.app.broker.keys, lease=self.app.conf.lease)
        consumer = self.pool.prefetch.consumer.name
        try:
            leases.renew(self.hostname, [consumer], self.report.fields([], {}, never))
        except (BrokerUnavailable, Refused) as error:
            logger.debug("%s: %s", self.hostname, error)

    @property
    def report(self) -> WorkerReport:
        """What the worker tells of itself in Redis."""
        return WorkerReport(
            node=self.hostname,
            pool="solo",
            concurrency=1,
            queues=[name for name, _ in self.config.sources],
            tasks=self.app.tasks.tasks,
            recovery=self.recovery,
        )


def do_nothing() -> None:
    """Do nothing: a soft limit would have to interrupt the main thread, which is the test's."""


def never() -> bool:
    """Time is never up."""
    return False


def levels_of(settings: Mapping[str, Any]) -> int:
    """The number of priority levels of a queue."""
    return int(settings.get("max_priority") or 0)


def queues_of(app: App, given: Iterable[Any]) -> list[Queue]:
    """The queues that a worker of a test reads: those given, else the declared, or the default."""
    names = given.split(",") if isinstance(given, str) else given
    declared = {queue.name: queue for queue in app.queues}
    chosen = [
        each if isinstance(each, Queue) else declared.get(each) or Queue(each) for each in names
    ]
    default = app.conf.task_default_queue
    if not chosen and default not in declared:
        declared[default] = Queue(default)
    return chosen or list(declared.values())


@contextmanager
def start_worker(
    app: Any,
    concurrency: int = 1,
    pool: str = "solo",
    loglevel: Any = None,
    logfile: Any = None,
    perform_ping_check: bool = True,
    shutdown_timeout: float = 10.0,
    **options: Any,
) -> Iterator[TestWorkController]:
    """Run a worker in a thread, in a ``with`` block.

    ``queues`` names those that it reads, else those of the app.  ``shutdown_timeout`` is how long
    the running task may take at the end (seconds).  One task runs at a time, whatever
    ``concurrency`` and ``pool`` say.
    """
    worker = TestWorkController(app, options.get("queues") or (), options.get("hostname"))
    worker.start()
    try:
        yield worker
    finally:
        worker.stop(shutdown_timeout)
