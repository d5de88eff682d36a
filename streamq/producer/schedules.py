"""The schedules of an app: those that its code declares, and those in Redis that need no code."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec

from streamq.broker.broker import Broker
from streamq.broker.schedules import Declaration, ScheduleStore
from streamq.config.config import Config
from streamq.core.message import Message, MessageTemplate, Publication, bytes_of
from streamq.core.options import checked
from streamq.core.text import nearest
from streamq.core.ticks import Timing
from streamq.errors import ConfigError, DecodeError, EncodeError, Unroutable
from streamq.host.clock import monotonic
from streamq.host.ids import new_id
from streamq.producer.encoding import encoded
from streamq.producer.scheduling import DESCRIBED, RULES, Schedule, revision_of, text_of
from streamq.producer.templates import Templates
from streamq.result import Result
from streamq.routing import Queue
from streamq.schedule import When, when_of
from streamq.serialization.payload import Payloads
from streamq.serialization.signing import Signer
from streamq.tasks import Signature
from streamq.transport.replies import WrongType

#: Options of a call that a schedule cannot have: they are for one moment.
FOR_ONE_MOMENT = ("eta", "task_id", "on_commit")


class ScheduledApp(Protocol):
    """What schedules need of an app."""

    conf: Config
    templates: Templates

    @property
    def broker(self) -> Broker: ...
    @property
    def payloads(self) -> Payloads: ...
    @property
    def signer(self) -> Signer | None: ...
    def signature_of(self, what: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Signature:
        """Make a signature of the arguments of ``enqueue``."""

    def send(self, signature: Signature) -> Result[Any]:
        """Send one call."""

    def publish(
        self, publications: list[Publication], signatures: Sequence[Signature]
    ) -> list[str]:
        """Publish all or none."""

    def result(self, id: str) -> Result[Any]:
        """Make the Result of a task by its id."""

    def moment(self, template: MessageTemplate, began: float) -> str | None:
        """The server's time (ms) at which a signed message expires."""


@dataclass(frozen=True, slots=True)
class StoredSchedule:
    """A schedule as Redis holds it: its fields by name, and its next moment in ms, if any.

    ``wrong`` is the error of its key, if that holds something else.
    """

    name: str
    fields: Mapping[str, str]
    due: int | None
    wrong: WrongType | None = None

    @property
    def when(self) -> When | None:
        """Its moments; None for those of a class that only the code knows."""
        return when_of(self.fields.get("when", ""))


class Schedules:
    """The schedules of an app.  Iterating gives those that its code declares."""

    def __init__(self, app: ScheduledApp) -> None:
        self.app = app
        self.declared: dict[str, Schedule] = {}
        #: Called before they are read: Celery's setting, and functions that declare some.
        self.sources: list[Callable[[], None]] = []

    def __iter__(self) -> Iterator[Schedule]:
        for source in self.sources:
            source()
        return iter(list(self.declared.values()))

    def declare(self, schedule: Schedule) -> Schedule:
        """Declare a schedule of the code.  Raises ConfigError if there is another of that name."""
        before = self.declared.get(schedule.name)
        if before is not None and before != schedule:
            raise ConfigError(
                f"two schedules are named {schedule.name}",
                known={"first": text_of(before.when), "second": text_of(schedule.when)},
                advice=['name one of them: name="…"'],
            )
        self.declared[schedule.name] = schedule
        return schedule

    def make(
        self,
        name: str,
        task: Any,
        when: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **rules: Any,
    ) -> Schedule:
        """Make a schedule of what a user gives; see ``App.schedule``."""
        chosen = {rule: rules.pop(rule) for rule in RULES if rule in rules}
        call: Signature = self.app.signature_of(task, tuple(args), dict(kwargs or {}))
        options = {**call.options, **checked(rules)}
        for option in FOR_ONE_MOMENT:
            if option in options:
                raise ConfigError(
                    f"schedule {name}: {option} is for one call",
                    advice=["at(moment) is a schedule that runs once"],
                )
        return Schedule.checked(name, replace(call, options=options), when, **chosen)

    def check_results(self, schedule: Schedule) -> None:
        """Raise ConfigError if a rule needs results, and the call keeps none."""
        if schedule.overlap != "allow" and not self.app.templates.template(schedule.call).keep:
            raise ConfigError(
                f"schedule {schedule.name}: overlap={schedule.overlap!r} needs results",
                known={"why": "the result says whether the last run has ended"},
                advice=["ignore_result=False for this task", 'or overlap="allow"'],
            )

    # In Redis, without code

    @property
    def store(self) -> ScheduleStore:
        """The schedules in Redis."""
        broker = self.app.broker
        conf = self.app.conf
        lifetimes = (conf.result_expires, conf.revoke_expires)
        return ScheduleStore(broker.client, broker.keys, lifetimes)

    def add(
        self,
        name: str,
        task: Any,
        when: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **rules: Any,
    ) -> Schedule:
        """Add a schedule that needs no code, or replace one; any worker of the namespace fires it.

        The parameters are those of ``App.schedule``; ``when`` is one of cron, crontab, every, at.
        Raises ConfigError if code declares one of that name, EncodeError for arguments that cannot
        be sent.
        """
        schedule = self.make(name, task, when, args, kwargs, **rules)
        self.check_results(schedule)
        if when_of(text_of(schedule.when)) != schedule.when:
            raise ConfigError(
                f"schedule {name}: only code can have moments of its own class",
                advice=["app.schedule declares it in the code"],
            )
        zone = self.app.conf.timezone
        fields = schedule.described(zone)
        fields["message"] = self.message_of(schedule.call).to_json().decode()
        if (signer := self.app.signer) is not None:
            fields["signature"] = signer.signature(*signed_parts(name, fields)).decode()
        store, timing = self.store, schedule.timing(zone)
        declaration = Declaration(
            name=name,
            revision=revision_of(name, fields),
            first=timing.first_due(store.now()),
            owed=timing.owed(store.due([name])[name]),
            fields={**fields, **schedule.bounds()},
        )
        (answer,) = store.declare([declaration], source="api")
        if answer.word == "foreign":
            raise ConfigError(
                f"schedule {name} is declared by code",
                advice=["change it there", "or choose another name"],
            )
        if answer.word == "wrong":
            raise WrongType(answer.before, store.keys.schedule(name))
        return schedule

    def remove(self, name: str) -> bool:
        """Remove a schedule from Redis; return whether it was there.

        One that code declares is put back by its workers.
        """
        return self.store.remove(name)

    def pause(self, name: str) -> bool:
        """Pause a schedule until ``resume``; what falls into the pause is not missed.

        Returns whether there is one of that name.
        """
        return self.store.pause(name)

    def resume(self, name: str) -> bool:
        """Let a schedule run again; return whether there is one of that name."""
        return self.store.resume(name)

    def run(self, name: str) -> Result[Any]:
        """Send the call of a schedule now; its next moment stays.  Raises ConfigError."""
        declared = {each.name: each for each in self}
        if name in declared:
            return self.app.send(declared[name].call)
        for found in self.stored([name]):
            message, id = self.stored_message(found), new_id()
            publication = self.signed(message, id, {})
            try:
                self.app.publish([publication], [])
            except Unroutable:
                self.app.broker.topology.declare(queues_of(message))
                self.app.publish([publication], [])
            return self.app.result(id)
        near = nearest(name, [*declared, *self.store.names()])
        raise ConfigError(
            f"no schedule of this app is named {name}",
            advice=[f"did you mean {near}?" if near else "streamq schedules ls"],
        )

    def stored_message(self, found: StoredSchedule) -> Message:
        """The message of a schedule that needs no code.

        Raises ConfigError if it has none that can be read, SignatureInvalid where messages are
        signed and its declaration is not.
        """
        if found.wrong is not None:
            raise found.wrong
        if found.fields.get("source") != "api":
            raise ConfigError(
                f"only the code knows what schedule {found.name} calls",
                advice=[f"streamq -A MODULE schedules run {found.name}"],
            )
        self.check_signed(found.name, found.fields)
        try:
            return Message.from_json(found.fields.get("message", ""))
        except DecodeError as error:
            raise ConfigError(
                f"schedule {found.name}: its message in Redis cannot be read: {error}",
                advice=["streamq schedules add replaces it", "streamq schedules rm removes it"],
            ) from None

    def check_signed(self, name: str, fields: Mapping[str, str]) -> None:
        """Raise SignatureInvalid where messages are signed and these fields are not."""
        if (signer := self.app.signer) is None:
            return
        id, queue, signed = signed_parts(name, fields)
        signature = fields.get("signature")
        signed |= {b"signature": signature.encode()} if signature else {}
        signer.check(id, queue, signed)

    def stored(self, names: Sequence[str] | None = None) -> list[StoredSchedule]:
        """Schedules as Redis holds them; all of them unless some are named."""
        due = self.store.names() if names is None else self.store.due(names)
        fields = self.store.about(list(due))
        return [
            StoredSchedule(name, {}, due[name], about)
            if isinstance(about, WrongType)
            else StoredSchedule(name, about, due[name])
            for name, about in zip(due, fields, strict=True)
            if about
        ]

    def message_of(self, call: Signature) -> Message:
        """The message of a call that is stored, without an id."""
        template = self.app.templates.template(call)
        args, kwargs = encoded(call, template, self.app.payloads)
        (message,) = Message.read(template.publication("", args, kwargs, given=False))
        fields = {name: value for name, value in message.fields.items() if name != "signature"}
        return msgspec.structs.replace(message, fields=fields)

    def signed(self, message: Message, id: str, more: Mapping[str, str]) -> Publication:
        """A stored message with its id and further fields, signed where messages are."""
        fields, expires = {**message.fields, **more}, message.expires
        if (signer := self.app.signer) is not None:
            if expires.startswith("+"):
                expires = str(self.app.broker.client.moment(int(expires[1:]) / 1000))
            entry = {name.encode(): bytes_of(value) for name, value in fields.items()}
            entry |= {b"expires": expires.encode()} if expires else {}
            key = message.routing_key.encode()
            fields["signature"] = signer.signature(id.encode(), key, entry).decode()
        return msgspec.structs.replace(
            message, id=id, window="none", fields=fields, expires=expires
        ).publication()


def signed_parts(name: str, fields: Mapping[str, str]) -> tuple[bytes, bytes, dict[bytes, bytes]]:
    """What the signature of a stored schedule covers: no message can have such an id."""
    signed = {name.encode(): fields[name].encode() for name in DESCRIBED if fields.get(name)}
    return f"schedule:{name}".encode(), b"", signed


def queues_of(message: Message) -> list[Queue]:
    """The queue that a stored message names, if it goes through no exchange."""
    return [] if message.exchange else [Queue(message.routing_key)]


class ScheduleSource:
    """The schedules that a supervisor fires: their declarations and messages."""

    def __init__(self, app: ScheduledApp, schedules: Schedules) -> None:
        self.app = app
        self.schedules = schedules

    def declared(self) -> list[tuple[Schedule, Timing, dict[str, str]]]:
        """The schedules that the code declares, with their timing and their description."""
        zone, found = self.app.conf.timezone, []
        for each in self.schedules:
            self.schedules.check_results(each)
            self.check_arguments(each)
            found.append((each, each.timing(zone), {**each.described(zone), **each.bounds()}))
        return found

    def check_arguments(self, schedule: Schedule) -> None:
        """Raise ConfigError if the arguments of a call cannot be sent, or do not fit its task."""
        call = schedule.call
        try:
            encoded(call, self.app.templates.template(call), self.app.payloads)
        except (TypeError, EncodeError) as error:
            raise ConfigError(f"schedule {schedule.name}: {error}") from None

    def stored(self, name: str, fields: Mapping[str, str]) -> tuple[Schedule, Timing]:
        """A schedule that needs no code, by its fields in Redis.

        Raises ConfigError or DecodeError for wrong ones, SignatureInvalid where messages are signed
        and these fields are not.
        """
        self.schedules.check_signed(name, fields)
        found = Schedule.stored(name, fields)
        return found, found.timing(self.app.conf.timezone)

    def publication(self, schedule: Schedule, id: str, nominal: int, missed: int) -> Publication:
        """The message of a tick, as the scripts take it."""
        more = {"tick": str(nominal)} | ({"missed": str(missed)} if missed else {})
        if schedule.message is not None:
            return self.schedules.signed(schedule.message, id, more)
        call = schedule.call
        call = replace(call, options={**call.options, "task_id": id})
        template = self.app.templates.template(call)
        args, kwargs = encoded(call, template, self.app.payloads)
        expires = self.app.moment(template, monotonic())
        flat = tuple(part for pair in more.items() for part in pair)
        found = template.publication(id, args, kwargs, given=True, expires=expires, more=flat)
        # Without a dedup window: that a moment runs once is the script's to see to.
        return (*found[:3], "none", *found[4:])

    def declare_missing(self, schedule: Schedule) -> None:
        """Declare the queues that the message of a schedule may have missed."""
        message = schedule.message
        if message is None:
            queues = self.app.templates.missed_by([schedule.call])
        else:
            queues = queues_of(message)
        if queues:
            self.app.broker.topology.declare(queues)
