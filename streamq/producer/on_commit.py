"""Sending at a commit: a call with ``on_commit`` waits for the end of its transaction of Django.

    send ---> no transaction is open: sent at once
         ---> in a transaction: an id, a checked copy of the call, and a Result without a record
                  commit    ---> sent, under the same id
                  roll back ---> never sent

Django keeps the call, among the hooks of the connection, so that savepoints, nested ``atomic``
blocks and ``captureOnCommitCallbacks`` of its tests mean what they mean for any hook.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Any, NoReturn, Protocol, TypeVar

from streamq.broker.waiter import Record
from streamq.config.config import Config
from streamq.core.message import MessageTemplate
from streamq.core.termination import signal_name
from streamq.errors import ConfigError, NotConfirmed
from streamq.host.django import loaded_database
from streamq.host.extras import not_installed
from streamq.host.ids import new_id
from streamq.producer.encoding import encoded
from streamq.result import Result
from streamq.serialization.codec import decode
from streamq.serialization.compression import decompress
from streamq.serialization.payload import Payloads
from streamq.tasks import Signature

R = TypeVar("R")


class CommitApp(Protocol):
    """The parts of an app that sends at a commit."""

    conf: Config

    @property
    def payloads(self) -> Payloads: ...

    def send(self, signature: Signature, *, innermost: bool = False) -> Result[Any]: ...

    def result_of(
        self, id: str, template: MessageTemplate, signature: Signature, answer: str
    ) -> Result[Any]: ...

    def result_here(self, id: str, template: MessageTemplate) -> Result[Any]: ...


class ResultOnCommit(Result[R]):
    """The Result of a call that is sent when a transaction commits; until then it is UNKNOWN.

    When the call is sent it becomes the Result that sending has returned, of the class of that.
    """

    #: Whether the transaction is still to end; if not, it was rolled back, and nothing is sent.
    is_waiting: Callable[[], bool]

    def become(self, result: Result[R]) -> None:
        """Become this result."""
        vars(self).clear()
        vars(self).update(vars(result))
        self.__class__ = type(result)  # type: ignore[assignment]

    def refuse(self) -> NoReturn:
        """Raise RuntimeError: the call has not been sent, so that its task would never end."""
        if self.is_waiting():
            raise RuntimeError(
                f"task {self.id} is sent when the transaction commits, and that is still open: "
                "waiting for it here would never end\n"
                "  → get() after the atomic block, or send at once: enqueue(…)"
            )
        raise RuntimeError(
            f"task {self.id} was not sent: its transaction was rolled back, or an earlier hook "
            "of its commit failed"
        )

    def revoke(
        self, *_: Any, terminate: bool = False, signal: str | int | None = None, **ignored: Any
    ) -> None:
        """Revoke the call: it is not sent.  Raises what ``Result.revoke`` would."""
        if terminate:
            signal_name(signal or "SIGTERM")
        self.final = {"state": b"REVOKED"}

    def forget(self) -> None:
        """Do nothing: there is no record yet."""

    def record(self) -> Record:
        """The record: there is none, until the call is revoked."""
        return self.final or {}

    def wait_for_record(self, deadline: float, timeout: float | None) -> Record:
        """The record of a revoked call, for ``get``; else raises RuntimeError."""
        return self.record() or self.refuse()

    async def await_record(self, deadline: float, timeout: float | None) -> Record:
        """The record of a revoked call, for ``aget``; else raises RuntimeError."""
        return self.record() or self.refuse()

    def parts(self) -> list[Result[R]]:
        """A revoked call itself, for ``as_completed``; else raises RuntimeError."""
        return [self] if self.final else self.refuse()


#: The classes of results before the commit, by those of results that were sent.
UNSENT: dict[Any, type[ResultOnCommit[Any]]] = {Result: ResultOnCommit}


def unsent(kind: type[Result[Any]]) -> type[ResultOnCommit[Any]]:
    """The class of results that will be of this kind when their call is sent."""
    if kind not in UNSENT:
        UNSENT[kind] = type(f"{kind.__name__}OnCommit", (ResultOnCommit, kind), {})
    return UNSENT[kind]


def check_database() -> None:
    """Raise ConfigError if this process has no Django, whose transactions a call could wait for."""
    if loaded_database() is not None:
        return
    if find_spec("django") is None:
        raise not_installed("Django, whose transactions on_commit waits for,", "django")
    raise ConfigError(
        "on_commit waits for a transaction of Django, and this process has not set up Django",
        advice=["django.setup() does, with DJANGO_SETTINGS_MODULE"],
    )


def in_transaction() -> bool:
    """Whether this thread has a transaction of Django open, on any database."""
    db = loaded_database()
    if db is None:
        return False
    return any(each.in_atomic_block for each in db.connections.all(initialized_only=True))


def open_transaction(using: bool | str) -> Any | None:
    """The connection of this alias (True: the default one) if it is in a transaction; else None.

    Raises ConfigError for an unknown alias, and what Django raises where transactions are
    managed by hand.
    """
    db: Any = loaded_database()
    alias = db.DEFAULT_DB_ALIAS if using is True else using
    if alias not in db.connections.settings:
        raise ConfigError(
            f"on_commit names the database {alias!r}, which settings.DATABASES does not have",
            known={"there are": ", ".join(db.connections.settings)},
        )
    connection = db.connections[alias]
    if connection.in_atomic_block:
        return connection
    if connection.connection is not None and not connection.get_autocommit():
        connection.on_commit(check_database)  # raises: Django sees no commit here
    return None


def send_on_commit(
    app: CommitApp, signature: Signature, template: MessageTemplate
) -> Result[Any] | None:
    """Send a call when the transaction commits; return its Result, None if none is open.

    The arguments are checked and copied now.
    """
    connection = open_transaction(template.on_commit)
    if connection is None:
        return None
    call = copy_of(signature, template, app.payloads)
    made = new_result(app, call, template)
    result: Any = made
    result.__class__ = unsent(type(made))

    def send() -> None:
        if result.final is not None:  # revoked
            return
        try:
            result.become(app.send(call, innermost=True))
        except NotConfirmed as unmet:  # Redis has it
            result.become(unmet.result)
            unmet.result = result
            raise

    connection.on_commit(send)
    result.is_waiting = partial(keeps, connection, send)
    return made


def new_result(app: CommitApp, call: Signature, template: MessageTemplate) -> Result[Any]:
    """Make the Result of a call with an id; that of an eager call uses no Redis."""
    id = call.options["task_id"]
    if app.conf.task_always_eager:
        return app.result_here(id, template)
    return app.result_of(id, template, call, "")


def keeps(connection: Any, hook: Callable[[], None]) -> bool:
    """Whether a connection has this hook for its commit; a rollback drops it."""
    return any(kept[1] is hook for kept in connection.run_on_commit)


def copy_of(signature: Signature, template: MessageTemplate, payloads: Payloads) -> Signature:
    """Copy a call through its encoding, with an id, for a send at once.

    Later changes of the arguments do not reach the copy.  Raises TypeError and EncodeError as
    sending would.
    """
    written = encoded(signature, template, payloads)
    args, kwargs = (read_back(data, template, payloads) for data in written)
    id = signature.options.get("task_id") or new_id()
    options = {**signature.options, "task_id": id, "on_commit": False}
    return replace(signature, args=tuple(args), kwargs=kwargs, options=options)


def read_back(data: bytes, template: MessageTemplate, payloads: Payloads) -> Any:
    """Read what was just written; this process trusts its own bytes."""
    if template.compression is not None:
        limits = payloads.decompressed_limit, payloads.ratio
        data = decompress(data, template.compression, *limits)
    return decode(data, template.serializer)
