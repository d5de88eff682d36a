"""The history of ticks that were sent, compared with the moments that schedules have.

What is sent lies in a stream that nobody reads, under ids with the server's time: all that was ever
sent is there.  The moments are reckoned here, without the product.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: Milliseconds after which a moment that nobody has sent yet shows that nobody is at work.
IDLE = 3000


@dataclass(frozen=True)
class Rule:
    """What a schedule is to do: ``has`` says whether a moment (ms) is one of it.

    ``jitter`` is in milliseconds; ``deadline`` says whether late moments may be given up.
    """

    name: str
    has: Callable[[int], bool]
    jitter: int = 0
    deadline: bool = False

    def moments(self, first: int, last: int) -> list[int]:
        """The moments of whole seconds between these two, which count."""
        begin = -(-first // 1000) * 1000
        return [moment for moment in range(begin, last + 1, 1000) if self.has(moment)]


@dataclass(frozen=True)
class Sent:
    """A message of a tick: its id, its moment (ms), how many were missed, and when it was sent."""

    id: str
    moment: int
    missed: int
    at: int


@dataclass(frozen=True)
class History:
    """What became of a schedule: the messages in their order, and how it stood at the end.

    ``due`` is its next moment, ``ended`` the end (ms); ``missed`` is what its hash has counted
    since its next moment was ``since``.
    """

    sent: Sequence[Sent]
    missed: int
    due: int
    ended: int
    since: int


def id_of(name: str, moment: int) -> str:
    """The id that the message of a tick must have."""
    return f"{name}-{EPOCH + timedelta(milliseconds=moment):%Y%m%dT%H%M%S}Z"


def faults_of(rule: Rule, history: History) -> list[str]:
    """What is wrong with the history of a schedule; nothing if all is right."""
    sent, name = history.sent, rule.name
    if not sent:
        return [f"{name}: nothing was sent"]
    counts = Counter(each.moment for each in sent)
    found = [f"{name}: {moment} twice" for moment, count in counts.items() if count > 1]
    for each in sent:
        if not rule.has(each.moment):
            found.append(f"{name}: {each.moment} is none of its moments")
        if each.id != id_of(name, each.moment):
            found.append(f"{name}: {each.moment} has the id {each.id}")
        if each.at < each.moment:
            found.append(f"{name}: {each.moment} early, at {each.at}")
    for one, other in pairwise(sent):
        if other.moment < one.moment:
            found.append(f"{name}: {other.moment} after {one.moment}")
        between = len(rule.moments(one.moment + 1, other.moment - 1))
        if between < other.missed or (between > other.missed and not rule.deadline):
            found.append(f"{name}: {between} left out before {other.moment}, told {other.missed}")
    found += faults_at_the_end(rule, history)
    return found


def faults_at_the_end(rule: Rule, history: History) -> list[str]:
    """What is wrong with the sum of a history, and with how it ended."""
    name, last = rule.name, history.sent[-1].moment
    due = rule.moments(history.since, history.due - 1 if not rule.jitter else last)
    told = len([each for each in history.sent if each.moment >= history.since]) + history.missed
    found = []
    if len(due) != told:
        found.append(f"{name}: {len(due)} moments, and {told} sent or missed")
    if history.due < history.ended - IDLE:
        found.append(f"{name}: {history.due} is still to be sent at {history.ended}")
    return found
