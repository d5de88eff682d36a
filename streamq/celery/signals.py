"""Signals by Celery's names: those of ``streamq.signals``, and those that are not sent here.

What streamq has no moment for may be connected to all the same; a warning says so, once for each.
"""

import logging
from typing import Any

from streamq.signals import (
    Receiver,
    Signal,
    after_task_publish,
    before_task_publish,
    setup_logging,
    task_failure,
    task_postrun,
    task_prerun,
    task_rejected,
    task_retry,
    task_revoked,
    task_success,
    task_unknown,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutdown,
    worker_shutting_down,
)

__all__ = [
    "after_setup_logger",
    "after_setup_task_logger",
    "after_task_publish",
    "beat_embedded_init",
    "beat_init",
    "before_task_publish",
    "celeryd_after_setup",
    "celeryd_init",
    "eventlet_pool_apply",
    "eventlet_pool_postshutdown",
    "eventlet_pool_preshutdown",
    "eventlet_pool_started",
    "heartbeat_sent",
    "import_modules",
    "setup_logging",
    "task_failure",
    "task_internal_error",
    "task_postrun",
    "task_prerun",
    "task_received",
    "task_rejected",
    "task_retry",
    "task_revoked",
    "task_sent",
    "task_success",
    "task_unknown",
    "user_preload_options",
    "worker_before_create_process",
    "worker_init",
    "worker_process_init",
    "worker_process_shutdown",
    "worker_ready",
    "worker_shutdown",
    "worker_shutting_down",
]

logger = logging.getLogger("streamq")


class SignalNotSent(Signal):
    """A signal of Celery that is never sent; ``advice`` is what to use instead."""

    def __init__(self, name: str, *provides: str, advice: str) -> None:
        super().__init__(name, *provides)
        self.advice = advice
        self.warned = False

    def connect(
        self,
        receiver: Receiver | None = None,
        sender: Any = None,
        weak: bool = True,
        dispatch_uid: Any = None,
    ) -> Any:
        """Connect a function, which is never called; a warning says so."""
        if not self.warned:
            self.warned = True
            logger.warning("the signal %s is never sent: %s", self.name, self.advice)
        return super().connect(receiver, sender, weak, dispatch_uid)


#: Why there are signals of Celery that are not sent, and what stands for them.
NO_BEAT = "every worker fires schedules: worker_ready is sent in each"
NO_SETUP = "setup_logging replaces streamq's logging as a whole"
NO_EVENTLET = "streamq has gevent and no eventlet"

celeryd_init = SignalNotSent(
    "celeryd_init", "instance", "conf", "options",
    advice="worker_init is sent before a worker reads messages",
)  # fmt: skip
celeryd_after_setup = SignalNotSent(
    "celeryd_after_setup", "instance", "conf",
    advice="worker_init is sent before a worker reads messages",
)  # fmt: skip
import_modules = SignalNotSent(
    "import_modules", advice="include and autodiscover_tasks name the modules to import"
)
worker_before_create_process = SignalNotSent(
    "worker_before_create_process", advice="worker_process_init is sent in each new process"
)
heartbeat_sent = SignalNotSent(
    "heartbeat_sent", advice="a worker renews its leases; streamq workers ls shows them"
)
task_received = SignalNotSent(
    "task_received", "request", advice="task_prerun is sent when a task begins"
)
task_sent = SignalNotSent(
    "task_sent", advice="after_task_publish is sent when Redis has taken a message"
)
task_internal_error = SignalNotSent(
    "task_internal_error", "task_id", "args", "kwargs", "request", "exception", "traceback",
    "einfo", advice="task_failure is sent for whatever fails",
)  # fmt: skip
user_preload_options = SignalNotSent(
    "user_preload_options", "app", "options", advice="the command line takes no options of users"
)
after_setup_logger = SignalNotSent(
    "after_setup_logger", "logger", "loglevel", "logfile", "format", "colorize", advice=NO_SETUP
)
after_setup_task_logger = SignalNotSent(
    "after_setup_task_logger", "logger", "loglevel", "logfile", "format", "colorize",
    advice=NO_SETUP,
)  # fmt: skip
beat_init = SignalNotSent("beat_init", advice=NO_BEAT)
beat_embedded_init = SignalNotSent("beat_embedded_init", advice=NO_BEAT)
eventlet_pool_started = SignalNotSent("eventlet_pool_started", advice=NO_EVENTLET)
eventlet_pool_preshutdown = SignalNotSent("eventlet_pool_preshutdown", advice=NO_EVENTLET)
eventlet_pool_postshutdown = SignalNotSent("eventlet_pool_postshutdown", advice=NO_EVENTLET)
eventlet_pool_apply = SignalNotSent(
    "eventlet_pool_apply", "target", "args", "kwargs", advice=NO_EVENTLET
)
