"""Undeclared schedules: those of code that no living worker has; removed a day later."""

import logging
from collections.abc import Iterable, Set

from streamq.broker.schedules import ScheduleStore, Standing
from streamq.host import clock

logger = logging.getLogger("streamq.worker")

#: Milliseconds for which a schedule is shown that no living worker declares.
SHOWN_MS = 86_400_000
#: Seconds that a worker lives before it removes any: after an outage all of them start again.
SETTLED = 600.0


class UndeclaredSchedules:
    """The schedules of code that no living worker declares.

    The worker that is the first by name notes them in Redis, and removes what has been noted for a
    day.  A paused schedule stays: it would not be paused any more when it comes back.
    """

    def __init__(self, store: ScheduleStore) -> None:
        self.store = store
        #: Since when this worker lives, in monotonic seconds.
        self.began = clock.monotonic()

    def look(self, standing: Iterable[Standing], own: Set[str], now: int) -> None:
        """Look through the schedules, where ``own`` are the revisions of this worker's code.

        ``now`` is the server's time in milliseconds.
        """
        of_code = [each for each in standing if each.source == "code"]
        if not of_code:
            return
        declared = self.store.revisions() | own
        for each in of_code:
            if each.revision in declared:
                if each.undeclared is not None:
                    self.store.note_declared(each.name)
            elif each.undeclared is None:
                self.store.note_undeclared(each.name)
            elif now - each.undeclared >= SHOWN_MS and not each.paused:
                self.remove(each)

    def remove(self, each: Standing) -> None:
        """Remove a schedule, unless this worker is young, or somebody changes it meanwhile."""
        if clock.monotonic() - self.began < SETTLED:
            return
        if self.store.change("remove", each.name, each.due):
            logger.info("schedule %s is removed: no worker has declared it for a day", each.name)
