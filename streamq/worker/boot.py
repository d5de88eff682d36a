"""Starting a worker: its queues and runners, the banner, and the end of it all."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from streamq.acl.rights import permitted
from streamq.app import App
from streamq.broker.notifier import Bell
from streamq.broker.recovery import Recovery
from streamq.broker.worker_names import Nodes
from streamq.config.extras import require
from streamq.core.options import check_limits
from streamq.core.outcome import millis
from streamq.devserver.project import Unusable
from streamq.discovery import Found
from streamq.errors import BrokerUnavailable, ConfigError
from streamq.execution.executor import Execution
from streamq.host import clock
from streamq.host.launch import Launch
from streamq.routing import Queue
from streamq.runner.config import Assignment
from streamq.runner.inherited import OWN
from streamq.runner.logging import flush_streams, open_closed_streams, set_up_logging, write_line
from streamq.runner.patches import check_patches
from streamq.runner.pauses import Pauses
from streamq.runner.runner import one_by_one, work
from streamq.runner.shared_memory import SPARE
from streamq.runner.sources import Source
from streamq.transport.client import Client
from streamq.transport.replies import Denied, Disconnected
from streamq.worker.banner import banner
from streamq.worker.processes import Nursery
from streamq.worker.services.due_messages import Timetable
from streamq.worker.services.hard_limits import Verdicts
from streamq.worker.services.heartbeat import Presence, node_name, own_name
from streamq.worker.services.revocations import Terminations
from streamq.worker.services.stuck_runners import Relief
from streamq.worker.services.takeover import Vigil
from streamq.worker.signals import be_deaf, interrupt
from streamq.worker.supervisor import Duties, Supervisor
from streamq.worker.workdir import Workplace

logger = logging.getLogger("streamq.worker")

T = TypeVar("T")

#: Seconds that a supervisor waits for an answer: signals and dead runners wait with it.
PATIENCE, LEAST_PATIENCE = 2.0, 0.5
#: Seconds that the threads of the user's modules have to end when the worker has.
THREADS_END = 2.0


def start_worker(
    found: Found,
    flags: Mapping[str, object],
    *,
    launch: Launch,
    exclude: Sequence[str] = (),
    burst: bool = False,
) -> int:
    """Run a worker for this app until it is stopped; return its exit code.

    ``flags`` are settings from the command line; ``exclude`` names queues not to read;
    ``launch`` is what this process began with;
    with ``burst`` the worker ends when nothing waits any more.
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
    set_up_logging(conf.log_level, conf.log_format)  # as what was loaded has left it
    check_limits({"time_limit": conf.task_time_limit, "soft_time_limit": conf.task_soft_time_limit})
    _ = app.seal  # without a key there is nothing to start: say so now
    queues, name = chosen_queues(app, exclude), node_name(conf.worker_name)
    workplace = Workplace()
    for number in {signal.SIGTERM} | ({signal.SIGINT} - OWN.given.ignored):
        signal.signal(number, interrupt)
    try:
        sources = awaited(lambda: declare(app, allowed(app, queues)), burst=burst)
        node = awaited(lambda: named(app, name), burst=burst)
        nursery = Nursery(lambda assignment: work(app, assignment, one_by_one), launch)
        supervisor = assemble(found, dict(flags), node, sources, nursery, workplace, burst=burst)
        awaited(supervisor.announce, burst=burst)
        if conf.log_format == "json":  # a program reads every line
            logger.info(banner(found, node, sources))
        else:
            write_line(banner(found, node, sources))
        code = supervisor.run()
        be_deaf()
    except KeyboardInterrupt:
        logger.info("stopped before it had begun")
        code = 0
    finally:
        flush_streams()
        workplace.remove()
    end_without_threads(code)
    return code


def end_without_threads(code: int) -> None:
    """End soon, though a module of the user's has started threads that Python would wait for."""
    main = threading.main_thread()
    left = [each for each in threading.enumerate() if not each.daemon and each is not main]
    if left:
        threading.Thread(target=end_anyway, args=(left, code), daemon=True).start()


def end_anyway(threads: Sequence[threading.Thread], code: int) -> None:
    """Wait for these threads a while, then end the process with this code."""
    end = clock.monotonic() + THREADS_END
    for thread in threads:
        thread.join(max(0.0, end - clock.monotonic()))
    names = [thread.name for thread in threads if thread.is_alive()]
    if names:
        logger.warning("leaving without the threads that have not ended: %s", ", ".join(names))
        flush_streams()
        os._exit(code)


def awaited(act: Callable[[], T], *, burst: bool) -> T:
    """Do this as soon as Redis lets us: it may be started beside us, and get its name only then.

    A worker for a burst waits for no Redis that cannot be reached.
    """
    pauses = Pauses()
    while True:
        try:
            done = act()
        except BrokerUnavailable as error:
            hopeless = (Denied, Unusable, Disconnected) if burst else (Denied, Unusable)
            if isinstance(error, hopeless):
                raise
            time.sleep(pauses.next(error))
        else:
            pauses.over()
            return done


def named(app: App, name: str) -> str:
    """The name of this worker in its fleet."""
    return own_name(name, Nodes(app.store.client, app.store.keys), app.conf.lease)


def chosen_queues(app: App, exclude: Sequence[str]) -> list[Queue]:
    """The queues to read: those asked for, else all that the app declares and the default one."""
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
    """The same queues, if the user of the URL may serve them.  Raises ConfigError."""
    return permitted(app.store.client, app.store.keys, queues)


def declare(app: App, queues: Sequence[Queue]) -> list[Source]:
    """Declare the app's topology and the queues to read; say which levels they have."""
    app.store.topology.publish_interface()
    app.declare()
    declared = {queue.name for queue in app.queues}
    topology = app.store.topology
    for queue in queues:
        if queue.name not in declared:
            topology.restore(queue.name, queue)
    settings = topology.queues()
    return [
        Source(queue.name, int(settings[queue.name].get("max_priority") or 0)) for queue in queues
    ]


def assemble(
    found: Found,
    flags: dict[str, object],
    node: str,
    sources: Sequence[Source],
    nursery: Nursery,
    workplace: Workplace,
    *,
    burst: bool,
) -> Supervisor:
    """Put the parts of a worker together."""
    app, conf = found.app, found.app.conf
    prefork, gevent = conf.pool == "prefork", conf.pool == "gevent"
    runners = conf.concurrency if prefork else conf.processes if gevent else 1
    first = Assignment(
        number=0,
        node=node,
        token="",
        supervisor=os.getpid(),
        url=app.url,
        sources=[(source.queue, source.levels) for source in sources],
        pool=conf.pool,
        concurrency=conf.concurrency if gevent else 1,
        burst=burst,
        folder=str(workplace.folder),
        runners=runners + 1,
        slots=conf.concurrency + SPARE if gevent else 1,
        app=found.spec,
        flags=flags,
        words=list(map(os.fsencode, nursery.launch.words)),
        signals=OWN.given,
    )
    change = msgspec.structs.replace
    return Supervisor(
        [change(first, number=number) for number in range(runners)],
        change(first, number=runners, alone=True, concurrency=1, burst=True),
        nursery,
        duties(app, node, sources, runners * first.concurrency, workplace.turn),
        workplace,
        lease=conf.lease,
        shutdown_timeout=conf.shutdown_timeout,
    )


def duties(app: App, node: str, sources: Sequence[Source], concurrency: int, turn: Path) -> Duties:
    """What the supervisor looks after."""
    conf, keys, name = app.conf, app.store.keys, "streamq:supervisor"
    patience = min(PATIENCE, max(LEAST_PATIENCE, conf.lease / 3))
    client = Client(app.url, name=name, patience=patience)
    recovery = Recovery(
        client,
        keys,
        lease=conf.lease,
        max_deliveries=conf.max_deliveries,
        result_expires=conf.result_expires,
        dead=(conf.dead_max_length, int(millis(conf.dead_expires))),
    )
    execution = Execution(app.tasks, app.payloads, conf, hostname=node, tell=say_nothing)
    verdicts = Verdicts(recovery, execution)
    return Duties(
        recovery=recovery,
        presence=Presence(
            node=node,
            pool=conf.pool,
            concurrency=concurrency,
            queues=[source.queue for source in sources],
            tasks=app.tasks,
            levels={source.queue: source.levels for source in sources},
            recovery=recovery,
        ),
        bell=Bell(app.url, keys.bell, name=name, patience=patience),
        vigil=Vigil(recovery, lease=conf.lease),
        timetable=Timetable(recovery),
        verdicts=verdicts,
        terminations=Terminations(recovery, verdicts.stop),
        relief=Relief(recovery, turn),
    )


def say_nothing(*said: object) -> None:
    """A supervisor runs no task that could tell anything."""
