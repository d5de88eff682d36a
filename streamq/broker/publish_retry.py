"""Retries of a publish: when it is tried again, and which error ends it.  No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from streamq.core.backoff import Backoff
from streamq.core.message import Message
from streamq.errors import (
    BrokerUnavailable,
    ConfigError,
    OutOfIds,
    PublishUnknown,
    QueueFull,
    Unroutable,
)
from streamq.transport.address import PLAIN, SECURE, NoMaster
from streamq.transport.connection import ANSWER_TIMEOUT
from streamq.transport.decode import texts
from streamq.transport.keys import Keys
from streamq.transport.replies import (
    Denied,
    Disconnected,
    Refused,
    Transient,
    WritesRefused,
    WrongType,
)
from streamq.transport.scripts import refusal

#: Seconds between two attempts: the first pause, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
#: Seconds after which a process that has never reached its Redis gives up.
FIRST_CONTACT = 1.5


#: A publish with fewer seconds than this waits half of them for an answer: so there is time to
#: replace a connection that is dead without a sign.
TWO_ANSWERS = 2 * ANSWER_TIMEOUT


class FirstContact:
    """First contact: whether this process has reached its Redis; else the URL may be wrong.

    It also notes that the namespace was found to be of our protocol, which is asked once.
    """

    def __init__(self, url: str) -> None:
        self.behind_sentinels = url.startswith((PLAIN, SECURE))
        self.made = self.protocol_checked = False

    def learn(self, error: BrokerUnavailable, *, sent: bool) -> None:
        """Note that the server exists if it has answered, or if Sentinels know it."""
        known = self.behind_sentinels and not isinstance(error.__cause__, NoMaster)
        self.made |= sent or known or isinstance(error, Transient)


class PublishRetry:
    """The retry decisions of one publish: whether to try again, and which error to raise.

    It has no connection and does not wait; see ``publish_steps``.
    """

    def __init__(self, timeout: float, first_contact: FirstContact, *, now: float) -> None:
        self.timeout = timeout
        self.start(now)
        self.patience = timeout / 2 if timeout < TWO_ANSWERS else ANSWER_TIMEOUT
        self.first_contact = first_contact
        self.backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        self.sent = False
        self.renamed = False

    def start(self, now: float) -> None:
        """Count the time from ``now`` on (monotonic seconds)."""
        self.began = now
        self.deadline = now + self.timeout
        self.first_deadline = now + min(self.timeout, FIRST_CONTACT)

    def pause(self, error: BrokerUnavailable, now: float) -> float:
        """Seconds to wait before the next try; raises if no further try is to be made."""
        self.sent |= isinstance(error, Disconnected) and error.sent
        self.first_contact.learn(error, sent=self.sent)
        pause = self.backoff.next()
        deadline = self.deadline if self.first_contact.made else self.first_deadline
        if self.may_help(error) and now + pause < deadline:
            return pause
        if self.backoff.tries > 1:
            error.add_note(f"  tried {self.backoff.tries} times in {now - self.began:.1f} s")
        self.give_up(error)

    def may_help(self, error: BrokerUnavailable) -> bool:
        """Whether a further try may help; always after a lost answer, which leaves doubt."""
        if isinstance(error, Denied):
            return False
        passes = isinstance(error, Disconnected | Transient) and not isinstance(
            error, WritesRefused
        )
        return passes or self.sent

    def needs_new_name(self, refusal: Exception) -> bool:
        """Whether to publish the same under another channel name: another process has used this.

        True once: a name that was just drawn is used by no other process.
        """
        if self.renamed or not (isinstance(refusal, Refusal) and refusal.code == "STALE"):
            return False
        self.renamed = True
        return True

    def give_up(self, error: Exception) -> NoReturn:
        """Raise this; after a lost answer PublishUnknown, as an earlier try may have succeeded."""
        if not self.sent or (isinstance(error, Refusal) and error.is_unroutable):
            raise error
        raise PublishUnknown(
            "Redis was lost before it answered; whether it took the message is unknown",
            known={"last error": str(error).partition("\n")[0], "tries": self.backoff.tries},
            advice=[
                "with a task_id of yours: send it again with the same task_id, it is accepted once"
            ],
        ) from error


class IdempotentRetry(PublishRetry):
    """The retry decisions of an idempotent call, such as a declaration: no outcome is unknown."""

    def give_up(self, error: Exception) -> NoReturn:
        """Raise this."""
        raise error


class Refusal(Exception):
    """A refusal of publish.lua; ``index`` is the position of the message in the call."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code, index, *self.words = refusal(text)
        self.index = int(index) if index.isdigit() else 0

    @property
    def is_unroutable(self) -> bool:
        """Whether no queue was found: declaring the topology again may help."""
        return self.code in ("UNROUTABLE", "NOEXCHANGE")

    @property
    def reason(self) -> str:
        """The public error in one line."""
        return str(self.error()).partition("\n")[0]

    def error(self) -> Exception:
        """The public error for this refusal."""
        match self.code, self.words:
            case "UNROUTABLE", ["", key]:
                return Unroutable(
                    f"there is no queue {key!r}", advice=["declare it, or start a worker with -Q"]
                )
            case "UNROUTABLE", [exchange, key]:
                return Unroutable(
                    f"exchange {exchange!r} leads to no queue for the key {key!r}",
                    advice=[f"streamq exchanges route {exchange} {key!r}  shows its bindings"],
                )
            case "NOEXCHANGE", [exchange]:
                return Unroutable(
                    f"there is no exchange {exchange!r}",
                    advice=["declare it: app.queues = [Queue(…, Exchange(…))]"],
                )
            case "QUEUEFULL", [queue, limit]:
                return QueueFull(
                    f"queue {queue!r} is full",
                    known={"max_length": limit},
                    advice=["start more workers, or raise its max_length"],
                )
            case "OUTOFIDS", [queue]:
                return OutOfIds.of(queue)
            case "BADSETTINGS", [queue]:
                return ConfigError(
                    f"the settings of queue {queue!r} cannot be read",
                    advice=[
                        "start a worker for it: that declares it again, as its app says",
                        f"see what is there: HGET {{NAMESPACE}}:queues {queue}",
                    ],
                )
            case "WRONGTYPE", _:
                return WrongType(str(self))
            case _:
                return ConfigError(f"the publish script refused the call: {self}")


def refusal_of(error: Exception) -> Exception:
    """An error reply of the script as a Refusal; any other error as it is."""
    return Refusal(str(error)) if isinstance(error, Refused) else error


@dataclass(frozen=True, slots=True)
class Published:
    """The messages of one call: each with its id, and whether it keeps a record.

    A machine may have been copied, or a process forked, while a publish was in flight.  Then
    the other process has got the answer and published more, and the channel has that number.
    """

    short: bool
    messages: tuple[tuple[str, bool], ...]
    queue: str = ""

    @classmethod
    def of(cls, script: str, argv: Sequence[Any]) -> "Published":
        """The messages in the arguments of ``publish_plain`` or ``publish``."""
        if script == "publish_plain":
            first = 6 + 2 * int(argv[5])
            ids = argv[first::3]
            return cls(True, tuple((str(id), str(argv[3]) == "1") for id in ids), str(argv[2]))
        messages = Message.read(argv[2:])
        return cls(False, tuple((message.id, message.keep) for message in messages))

    def questions(self, keys: Keys) -> list[tuple[str, ...]]:
        """The commands that read the records of these messages."""
        return [("HGETALL", keys.task(id)) for id, kept in self.messages if kept]

    def answer(self, replies: list[Any]) -> Any:
        """The script's answer, from the replies to ``questions``; None if nothing was published."""
        records = map(texts, replies)
        each = [next(records) if kept else None for _, kept in self.messages]
        if not any(each):
            return None
        if self.short:
            return self.queue.encode()
        return [(record or {}).get("copies") or (record or {}).get("queue", "") for record in each]
