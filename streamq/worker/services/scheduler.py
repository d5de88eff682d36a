"""Scheduler: the service that fires the schedules which the worker's code declares.

There is no leader.  Every supervisor knows when its schedules are due and tries; the script of a
tick lets the first one through.  So that not all come at once, each waits a little longer than the
one before it in the order of their names; whoever finds a tick done reckons the next moment alone.
The later its place, the more seldom it looks.  One that finds a tick left undone does not wait any
more, until somebody else fires one before it does.
"""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence, Set

from streamq.broker.leases import Renewal
from streamq.broker.schedules import (
    Attempt,
    Declaration,
    ScheduleStore,
    Standing,
    moment_ms,
)
from streamq.core.message import Publication
from streamq.core.ticks import tick_id
from streamq.errors import BrokerUnavailable, ConfigError, StreamqError
from streamq.host import clock
from streamq.producer.schedules import ScheduleSource
from streamq.producer.scheduling import revision_of
from streamq.transport.replies import WrongType
from streamq.worker.lease_view import LeaseView
from streamq.worker.services.service import Service
from streamq.worker.services.undeclared import UndeclaredSchedules
from streamq.worker.services.watched import (
    PAUSE,
    Watched,
    log_declared,
    log_tick,
    note_failure,
    owed,
)

logger = logging.getLogger("streamq.worker")

#: Seconds that one supervisor waits longer than the one before it, and the longest wait.
STEP, LONGEST_STEP = 0.02, 0.5
#: The longest wait, in seconds, for a moment that is not due by the server's clock after all: it
#: may have been turned back, and be right again.
LONGEST_EARLY = 1.0
#: The longest time between two looks at Redis of a supervisor that is not the first.
LONGEST_GATHER = 2.0
#: Seconds between two full readings of the first one, and at most: a notice may be lost.
REFRESH, LONGEST_REFRESH = 60.0, 300.0


class Scheduler(Service):
    """The service that fires schedules; ``view`` knows the time of the server.

    ``order`` is the ``schedule_revision`` of the code.
    """

    def __init__(
        self, store: ScheduleStore, source: ScheduleSource, view: LeaseView, *, order: int
    ) -> None:
        self.store = store
        self.source = source
        self.undeclared = UndeclaredSchedules(store)
        self.view = view
        self.order = order
        self.watched: dict[str, Watched] = {}
        #: The schedules that Redis had when it was last read.
        self.known: Set[str] = frozenset()
        #: The schedules whose key held something else then.
        self.wrong: Set[str] = frozenset()
        #: How many workers come before this one.
        self.place = 0
        #: Whether those before it have left a tick undone, and nobody has been faster since.
        self.takes_over = False
        #: When to read again how the schedules stand, in monotonic seconds.
        self.refresh_at = math.inf
        #: When it may look again, in monotonic seconds.
        self.earliest = -math.inf

    def begin(self) -> None:
        """Declare the schedules, before the worker shows itself."""
        found = self.source.declared()
        self.watched = {
            schedule.name: Watched(schedule, timing, revision_of(schedule.name, described))
            for schedule, timing, described in found
        }
        try:
            if found:
                self.declare({schedule.name: described for schedule, _, described in found})
            self.refresh()
        except WrongType as error:
            logger.error("schedules cannot be fired, and are tried again: %s", error)
            self.refresh_at = clock.monotonic() + PAUSE
        self.reckon()

    def declare(self, described: Mapping[str, Mapping[str, str]]) -> None:
        """Declare these schedules; the newest declaration of each counts."""
        now, watched = self.store.now(), [self.watched[name] for name in described]
        stands = self.store.due(list(described))
        declarations = [
            Declaration(
                name=each.name,
                revision=each.revision,
                first=each.timing.first_due(now),
                owed=owed(each, stands[each.name]),
                fields=described[each.name],
            )
            for each in watched
        ]
        answers = self.store.declare(declarations, order=self.order)
        for each, answer in zip(watched, answers, strict=True):
            each.due, each.resumed = answer.due, answer.resumed
            each.stands_back = answer.word in ("older", "foreign", "wrong")
            log_declared(each, answer)

    def revisions(self) -> list[str]:
        """The revisions of the schedules that its code declares, and that it fires."""
        return [each.revision for each in self.watched.values() if not each.stands_back]

    def on_renewal(self, news: Renewal) -> None:
        """Take over the place among the workers; read again what a lost notice has told."""
        self.place = news.place
        if news.schedule_due is not None and self.is_news(news.schedule, news.schedule_due):
            self.refresh_at = clock.monotonic()
        self.reckon()

    def on_notice(self, words: Sequence[str]) -> None:
        """Take note that schedules have changed: ``schedules``, ``schedule MS NAME``."""
        match words:
            case ["schedules"]:
                self.refresh_at = min(self.refresh_at, clock.monotonic() + self.delay)
                self.reckon()
            case ["schedule", moment, *name] if moment.isdecimal():
                found = self.watched.get(" ".join(name))
                if found is not None and not found.stands_back:
                    found.due = int(moment)
                    self.reckon()

    def is_news(self, name: str, due: int) -> bool:
        """Whether this moment is earlier than what is known of the schedule."""
        found = self.watched.get(name)
        if found is None or found.stands_back:
            return name not in self.known
        return found.due is None or due < found.due

    def on_disconnect(self) -> None:
        """Read again how the schedules stand, once Redis is back: notices may have been lost."""
        self.refresh_at = min(self.refresh_at, clock.monotonic() + self.delay)
        self.reckon()

    @property
    def position(self) -> int:
        """How many workers it lets go first."""
        return 0 if self.takes_over else self.place

    @property
    def delay(self) -> float:
        """Seconds that this worker waits longer than the first."""
        return min(self.position * STEP, LONGEST_STEP)

    @property
    def gather(self) -> float:
        """Seconds between two looks: all others together look little more often than the second."""
        return min(self.position**2 * STEP, LONGEST_GATHER)

    def server_ms(self) -> int:
        """The server's time as far as it is known, in milliseconds."""
        return int(self.view.server_time(clock.monotonic()) * 1000)

    def reckon(self) -> None:
        """Set when to run next: when the first of the schedules is due, and a little later."""
        now, server = clock.monotonic(), self.server_ms()
        moment = min(
            (
                max(now + (each.due - server) / 1000 + self.delay, each.paused_until)
                for each in self.watched.values()
                if each.due is not None and not each.stands_back
            ),
            default=math.inf,
        )
        self.moment = min(max(moment, self.earliest), self.refresh_at)

    def run(self) -> None:
        """Fire what is due."""
        now = clock.monotonic()
        try:
            if now >= self.refresh_at:
                self.refresh()
            for each in self.due_now(now):
                self.fire(each)
                if self.time_is_up():
                    break
        finally:
            self.earliest = clock.monotonic() + self.gather
            self.reckon()

    def due_now(self, now: float) -> list[Watched]:
        """The schedules that are due, the first due first, without those that others have fired."""
        moment = self.server_ms() - round(self.delay * 1000)
        found = [
            each
            for each in self.watched.values()
            if each.due is not None and each.due <= moment and not each.stands_back
            if each.paused_until <= now
        ]
        if self.position and found:
            found = self.left(found, moment)
        return sorted(found, key=lambda each: each.due or 0)

    def left(self, found: Sequence[Watched], moment: int) -> list[Watched]:
        """Those of these that nobody has fired; the others are passed over until this moment."""
        first = min(each.due or 0 for each in found)
        overdue = self.store.due_between(first, moment)
        for each in found:
            if each.name in overdue:
                each.due = overdue[each.name]
                continue
            try:
                each.pass_over(moment)
            except Exception as error:
                note_failure(each, error)
        return [each for each in found if each.name in overdue]

    def fire(self, each: Watched) -> None:
        """Do the tick of a schedule; one that fails is logged, and tried again later."""
        try:
            self.tick(each)
        except BrokerUnavailable:
            raise
        except Exception as error:
            note_failure(each, error)

    def tick(self, each: Watched) -> None:
        """Publish what a schedule calls, and set its next moment, unless others have."""
        assert each.due is not None
        timing, expected, now = each.timing, each.due, self.server_ms()
        plan = timing.plan(timing.nominal(expected), now, since=int(each.resumed or 0))
        attempt = Attempt(
            name=each.name,
            expected=expected,
            revision=each.revision,
            resumed=each.resumed,
            next=None if plan.next is None else timing.due(plan.next),
            missed=plan.missed,
            nominal=plan.runs,
            id="" if plan.runs is None else tick_id(each.name, plan.runs),
            overlap=each.schedule.overlap,
        )
        publication: Publication = ()
        if plan.runs is not None:
            publication = self.source.publication(each.schedule, attempt.id, plan.runs, plan.missed)
        word, said = self.store.tick(attempt, publication)
        if word == "refused":
            self.source.declare_missing(each.schedule)
            word, said = self.store.tick(attempt, publication, final=True)
        self.note(each, attempt, word, said)

    def note(self, each: Watched, attempt: Attempt, word: str, said: str) -> None:
        """Take note of what became of a tick."""
        match word:
            case "moved":
                each.due = moment_ms(said)
                self.takes_over = False
                self.refresh_at = self.refresh_at if said else clock.monotonic()
            case "early":
                wait = max(attempt.expected - int(said), 1) / 1000
                each.paused_until = clock.monotonic() + min(wait, LONGEST_EARLY)
            case "other":
                self.refresh_at = clock.monotonic()
            case "bad":
                raise ConfigError(f"the next moment cannot be right: {said}")
            case _:
                each.due = attempt.next
                self.takes_over = self.place > 0
                log_tick(each, attempt, word, said)

    def refresh(self) -> None:
        """Read how the schedules stand: others may have changed, paused or resumed them."""
        self.refresh_at = clock.monotonic() + min(REFRESH * (1 + self.place), LONGEST_REFRESH)
        due = self.store.names()
        self.known = due.keys()
        if not due and not self.watched:
            self.refresh_at = math.inf  # a notice or a renewal tells of the first one
            return
        ended = {name: None for name in self.watched if name not in due}
        standing = {each.name: each for each in self.store.standing({**due, **ended})}
        self.note_wrong(standing.values())
        for each in list(self.watched.values()):
            self.compare(each, standing[each.name])
        new = [each.name for each in standing.values() if self.is_new(each)]
        for name, fields in zip(new, self.store.about(new), strict=True):
            if not isinstance(fields, WrongType):  # it has come meanwhile
                self.watch_stored(standing[name], fields)
        lost = [
            each.name
            for each in self.watched.values()
            if self.is_lost(each, standing[each.name], ended=each.name in ended)
        ]
        if self.place == 0:
            self.undeclared.look(standing.values(), set(self.revisions()), self.server_ms())
        if lost:
            described = {each.name: fields for each, _, fields in self.source.declared()}
            self.declare({name: described[name] for name in lost})

    def note_wrong(self, standing: Iterable[Standing]) -> None:
        """Log each schedule whose key holds something else, once; it is left alone."""
        wrong = {each.name: each.wrong for each in standing if each.wrong is not None}
        for name in wrong.keys() - self.wrong:
            logger.error("schedule %s cannot be fired: %s", name, wrong[name])
        self.wrong = wrong.keys()

    def compare(self, each: Watched, stands: Standing) -> None:
        """Take over how a schedule stands in Redis; a changed one without code is read again."""
        each.due, each.resumed = stands.due, stands.resumed
        each.stands_back = stands.revision != each.revision
        if each.stands_back and each.schedule.message is not None:
            del self.watched[each.name]

    def is_new(self, stands: Standing) -> bool:
        """Whether this is a schedule without code that is not watched yet."""
        return stands.source == "api" and stands.name not in self.watched and stands.due is not None

    def is_lost(self, each: Watched, stands: Standing, *, ended: bool) -> bool:
        """Whether Redis has lost what the code has declared, or its next moment."""
        if each.schedule.message is not None or stands.wrong is not None:
            return False
        return not stands.revision or (ended and not each.stands_back and self.goes_on(each))

    def goes_on(self, each: Watched) -> bool:
        """Whether a schedule has a further moment."""
        try:
            return each.timing.first_due(self.server_ms()) is not None
        except Exception:  # a class of the user's: its ticks have told
            return False

    def watch_stored(self, stands: Standing, fields: Mapping[str, str]) -> None:
        """Watch a schedule that needs no code; one that may not be fired is logged, and left."""
        try:
            schedule, timing = self.source.stored(stands.name, fields)
        except StreamqError as error:
            logger.error("schedule %s cannot be fired: %s", stands.name, error)
            return
        self.watched[stands.name] = Watched(
            *(schedule, timing, stands.revision, stands.due, stands.resumed)
        )
