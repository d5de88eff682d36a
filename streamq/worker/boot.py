"""The start of a worker: its queues, name, parts and banner; and its exit."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from streamq.acl.rights import permitted
from streamq.app import App
from streamq.broker.leases import Leases
from streamq.broker.notifier import Notifier
from streamq.broker.recovery import Recovery
from streamq.broker.scheduled import ScheduledMessages
from streamq.broker.schedules import ScheduleStore
from streamq.broker.worker_names import WorkerNames
from streamq.config.config import Config
from streamq.core.options import check_limits
from streamq.core.outcome import millis
from streamq.devserver.project import NoServer
from streamq.discovery import Found
from streamq.errors import BrokerUnavailable, ConfigError
from streamq.execution.executor import Executor
from streamq.execution.outcomes import Outcomes
from streamq.host import clock
from streamq.host.extras import require
from streamq.host.launch import Launch
from streamq.producer.schedules import ScheduleSource
from streamq.routing import Queue
from streamq.runner.config import RunnerConfig
from streamq.runner.inherited import OWN
from streamq.runner.log_file import LOG_FILE
from streamq.runner.logging import (
    error_output,
    flush_streams,
    open_closed_streams,
    set_up_logging,
    write_line,
)
from streamq.runner.patches import check_patches
from streamq.runner.pauses import Pauses
from streamq.runner.pools.solo import make_solo
from streamq.runner.runner import work
from streamq.runner.shared_memory import SPARE
from streamq.runner.sources import QueueStreams
from streamq.runner.terminal import Style, columns_of
from streamq.signals import worker_init
from streamq.transport.client import Client
from streamq.transport.replies import Denied, Disconnected
from streamq.worker.banner import banner
from streamq.worker.banner_layout import laid_out
from streamq.worker.lease_view import LeaseViews
from streamq.worker.processes import RunnerProcesses
from streamq.worker.services.crash_recovery import CrashRecovery
from streamq.worker.services.due_messages import DueMessages
from streamq.worker.services.fenced_runners import FencedRunners
from streamq.worker.services.hard_limits import HardLimits
from streamq.worker.services.heartbeat import Heartbeat, WorkerReport, claim_name, node_name
from streamq.worker.services.notices import Notices
from streamq.worker.services.quarantine_runner import QuarantineRunner
from streamq.worker.services.revocations import Revocations
from streamq.worker.services.scheduler import Scheduler
from streamq.worker.services.services import Services
from streamq.worker.services.signal_process import SignalProcess
from streamq.worker.services.stuck_runners import StuckRunners
from streamq.worker.services.takeover import Takeover
from streamq.worker.services.workdir_repair import WorkDirRepair
from streamq.worker.signals import ignore_signals, interrupt
from streamq.worker.starts import RunnerStarts
from streamq.worker.supervisor import Supervisor
from streamq.worker.workdir import WorkDir

logger = logging.getLogger("streamq.worker")

T = TypeVar("T")

#: Seconds that a supervisor waits for an answer at most, and at least where leases are short:
#: meanwhile it handles no signal and reaps no runner.
ANSWER_TIMEOUT, LEAST_ANSWER_TIMEOUT = 2.0, 0.5
#: The name of the supervisor's connections, as Redis lists its clients.
NAME = "streamq:supervisor"
#: Seconds that threads of the user's modules have to end after the worker has.
THREADS_END = 2.0


def start_worker(
    found: Found,
    flags: Mapping[str, object],
    *,
    launch: Launch,
    exclude: Sequence[str] = (),
    burst: bool = False,
    only_schedules: bool = False,
) -> int:
    """Run a worker for this app until it is stopped; return its exit code.

    ``flags`` are settings from the command line; ``exclude`` names queues not to read;
    ``launch`` is how this process was started; with ``burst`` the worker ends when nothing waits
    any more; with ``only_schedules`` it has no runners, and reads no queue.
    """
    open_closed_streams()
    app = found.app
    app.conf.with_flags(**flags)
    conf = app.conf
    if conf.pool == "gevent":
        require("gevent", "gevent")
    set_up_logging(conf.log_level, conf.log_format)
    app.import_tasks()
    check_patches(conf.pool)
    # Again: the tasks' modules may have changed it.
    set_up_logging(conf.log_level, conf.log_format, loaded=True)
    check_limits({"time_limit": conf.task_time_limit, "soft_time_limit": conf.task_soft_time_limit})
    _ = app.signer  # raises here if a key is missing
    queues = [] if only_schedules else chosen_queues(app, exclude)
    name = node_name(conf.worker_name)
    workdir = WorkDir()
    for number in {signal.SIGTERM} | ({signal.SIGINT} - OWN.given.ignored):
        signal.signal(number, interrupt)
    try:
        sources = retry_until_available(lambda: declare(app, allowed(app, queues)), burst=burst)
        node = retry_until_available(lambda: claim_worker_name(app, name), burst=burst)
        if worker_init.links:
            worker_init.send(app.worker_sender(node))
            # Again: the receivers may have taken longer than the claim lasts.
            node = retry_until_available(lambda: claim_worker_name(app, node), burst=burst)
        processes = RunnerProcesses(lambda config: work(app, config, make_solo), launch)
        supervisor = assemble(found, dict(flags), node, sources, processes, workdir, burst=burst)
        retry_until_available(supervisor.announce, burst=burst)
        if conf.log_format == "json":  # a program reads every line
            logger.info(banner(found, node, sources))
        else:
            names, output = [source.queue for source in sources], error_output()
            style, columns = Style.of(output), columns_of(output)
            write_line(laid_out(banner(found, node, sources), names, style, columns))
        code = supervisor.run()
        ignore_signals()
    except KeyboardInterrupt:
        logger.info("stopped before it had started")
        code = 0
    finally:
        flush_streams()
        workdir.remove()
    end_without_threads(code)
    return code


def end_without_threads(code: int) -> None:
    """Exit soon, though modules of the user's have started threads that Python would wait for."""
    main = threading.main_thread()
    left = [each for each in threading.enumerate() if not each.daemon and each is not main]
    if left:
        threading.Thread(target=exit_after_threads, args=(left, code), daemon=True).start()


def exit_after_threads(threads: Sequence[threading.Thread], code: int) -> None:
    """Wait for these threads for ``THREADS_END``, then exit with this code."""
    end = clock.monotonic() + THREADS_END
    for thread in threads:
        thread.join(max(0.0, end - clock.monotonic()))
    names = [thread.name for thread in threads if thread.is_alive()]
    if names:
        logger.warning("leaving without the threads that have not ended: %s", ", ".join(names))
        flush_streams()
        os._exit(code)


def retry_until_available(act: Callable[[], T], *, burst: bool) -> T:
    """Do this as soon as Redis is available; return what it returns.

    Redis may be starting at the same time, and its host name may not resolve until it has.  With
    ``burst``, a Redis that cannot be reached is an error at once.
    """
    pauses = Pauses()
    while True:
        try:
            done = act()
        except BrokerUnavailable as error:
            permanent = (Denied, NoServer, Disconnected) if burst else (Denied, NoServer)
            if isinstance(error, permanent):
                raise
            time.sleep(pauses.next(error))
        else:
            pauses.reset()
            return done


def claim_worker_name(app: App, name: str) -> str:
    """Claim a name for this worker among all workers of the namespace; return it."""
    return claim_name(name, WorkerNames(app.broker.client, app.broker.keys), app.conf.lease)


def chosen_queues(app: App, exclude: Sequence[str]) -> list[Queue]:
    """The queues to read: those asked for, else all that the app declares and the default one.

    Raises ConfigError if none is left.
    """
    declared = {queue.name: queue for queue in app.queues}
    names = list(app.conf.queues)
    if not names:
        names = list(declared)
        if len(names) != 1 and app.conf.task_default_queue not in names:
            names.append(app.conf.task_default_queue)
    names = [name for name in dict.fromkeys(names) if name not in exclude]
    if not names:
        raise ConfigError("no queue is left to read", known={"excluded": ", ".join(exclude)})
    return [declared.get(name) or Queue(name) for name in names]


def allowed(app: App, queues: Sequence[Queue]) -> Sequence[Queue]:
    """The same queues, if the user of the URL has the rights to serve them; else ConfigError."""
    return permitted(app.broker.client, app.broker.keys, queues)


def declare(app: App, queues: Sequence[Queue]) -> list[QueueStreams]:
    """Declare the app's topology and the queues to read; return these with their levels."""
    app.broker.topology.publish_interface()
    app.declare()
    declared = {queue.name for queue in app.queues}
    topology = app.broker.topology
    for queue in queues:
        if queue.name not in declared:
            topology.restore(queue.name, queue)
    settings = topology.queues()
    return [
        QueueStreams(queue.name, int(settings[queue.name].get("max_priority") or 0))
        for queue in queues
    ]


def assemble(
    found: Found,
    flags: dict[str, object],
    node: str,
    sources: Sequence[QueueStreams],
    processes: RunnerProcesses,
    workdir: WorkDir,
    *,
    burst: bool,
) -> Supervisor:
    """The supervisor of a worker, made from its parts."""
    app, conf = found.app, found.app.conf
    prefork, gevent = conf.pool == "prefork", conf.pool == "gevent"
    runners = conf.concurrency if prefork else conf.processes if gevent else 1
    runners = runners if sources else 0
    first = RunnerConfig(
        number=0,
        node=node,
        token="",
        supervisor=os.getpid(),
        url=app.url,
        sources=[(source.queue, source.levels) for source in sources],
        pool=conf.pool,
        concurrency=conf.concurrency if gevent else 1,
        burst=burst,
        folder=str(workdir.folder),
        runners=runners + 1,
        slots=conf.concurrency + SPARE if gevent else 1,
        app=found.spec,
        flags=flags,
        log_file=LOG_FILE.path,
        argv=list(map(os.fsencode, processes.launch.words)),
        signals=OWN.given,
    )
    change = msgspec.structs.replace
    starts = RunnerStarts(
        [change(first, number=number) for number in range(runners)],
        change(first, number=runners, quarantine=True, concurrency=1, burst=True),
        processes,
        workdir,
    )
    report = WorkerReport(
        node=node,
        pool=conf.pool,
        concurrency=runners * first.concurrency,
        queues=[source.queue for source in sources],
        tasks=app.tasks,
        levels={source.queue: source.levels for source in sources},
        recovery=make_recovery(app),
    )
    services = make_services(app, report, processes, starts, workdir)
    timeout = conf.shutdown_timeout
    return Supervisor(processes, starts, services, workdir, shutdown_timeout=timeout)


def make_services(
    app: App,
    report: WorkerReport,
    processes: RunnerProcesses,
    starts: RunnerStarts,
    workdir: WorkDir,
) -> Services:
    """The services of a supervisor, in the order in which they run, and their connections."""
    conf, keys = app.conf, app.broker.keys
    recovery, client = report.recovery, report.recovery.client
    notifier = Notifier(app.url, keys.notices, name=NAME, patience=answer_timeout(conf.lease))
    leases = Leases(client, keys, lease=conf.lease)
    scheduled = ScheduledMessages(
        client, keys, result_expires=conf.result_expires, dead=dead_letter_bounds(conf)
    )
    views, services = LeaseViews(conf.lease), Services(conf.lease)
    outcomes = Outcomes(app.tasks, app.payloads, conf)
    executor = Executor(outcomes, hostname=report.node, report=say_nothing)
    signals = SignalProcess(app.worker_sender(report.node), executor, processes)
    hard_limits = HardLimits(recovery, executor, processes, signals.on_terminated)
    quarantine = QuarantineRunner(starts, report.queues)
    scheduler = Scheduler(
        ScheduleStore(client, keys, (conf.result_expires, conf.revoke_expires)),
        ScheduleSource(app, app.schedules),
        views.own,
        order=conf.schedule_revision,
    )
    report.schedules = scheduler.revisions if conf.scheduler else None
    crash_recovery = CrashRecovery(recovery, hard_limits, quarantine.request)
    services.add(
        hard_limits,
        Heartbeat(leases, report, views, processes, crash_recovery, services),
        FencedRunners(processes, crash_recovery, views.own, shutdown_timeout=conf.shutdown_timeout),
        crash_recovery,
        Notices(notifier, services),
        Revocations(recovery, hard_limits.stop, processes),
        DueMessages(scheduled, views.own),
        Takeover(leases, recovery, views, processes, crash_recovery),
        *([scheduler] if conf.scheduler else []),
        WorkDirRepair(workdir),
        StuckRunners(recovery, workdir.reader_lock, processes),
        quarantine,
        signals,
    )
    return services


def make_recovery(app: App) -> Recovery:
    """The recovery commands of the supervisor, on its connection."""
    conf, keys = app.conf, app.broker.keys
    return Recovery(
        Client(app.url, name=NAME, patience=answer_timeout(conf.lease)),
        keys,
        max_deliveries=conf.max_deliveries,
        result_expires=conf.result_expires,
        dead=dead_letter_bounds(conf),
    )


def answer_timeout(lease: float) -> float:
    """Seconds that a supervisor waits for an answer; workers of short leases wait less."""
    return min(ANSWER_TIMEOUT, max(LEAST_ANSWER_TIMEOUT, lease / 3))


def dead_letter_bounds(conf: Config) -> tuple[int, int]:
    """How many dead letters a queue keeps at most, and for how many milliseconds."""
    return conf.dead_max_length, int(millis(conf.dead_expires))


def say_nothing(*said: object) -> None:
    """Report nothing: a supervisor runs no task that could update its state."""
