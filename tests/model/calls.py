"""What producers and consumers hand to the broker: calls, and the outcomes of runs."""

from dataclasses import dataclass, field

from tests.model.values import HOUR, Fields, Token


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One message as a producer sends it; ``due`` and ``expires`` are from now on."""

    key: str
    exchange: str = ""
    id: str = ""
    window: int | str = 0
    keep: bool = True
    priority: int = 0
    due: int | None = None
    expires: int | None = None
    fields: Fields = field(default_factory=dict)

    @property
    def chosen(self) -> bool:
        """Whether the caller has chosen the id, so that it may be used again."""
        return self.window != 0

    def argv(self) -> list[str | int]:
        moments = ["" if each is None else f"+{each}" for each in (self.due, self.expires)]
        pairs = [part for pair in self.fields.items() for part in pair]
        head = (self.exchange, self.key, self.id, self.window, int(self.keep), self.priority)
        return [*head, *moments, 0, len(self.fields), *pairs]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The outcome of one run: fields of the record, and what follows the message."""

    token: Token
    early: bool = False
    state: str = ""
    life: int = HOUR
    details: Fields = field(default_factory=dict)
    follow: tuple[str, ...] = ()

    def argv(self, *, counted: bool) -> list[str | int]:
        """The arguments for follow.lua, or with a ``counted`` group for settle.lua."""
        ack = "early" if self.early else "late"
        one = (1,) if counted else ()
        pairs = [part for pair in self.details.items() for part in pair]
        words = () if counted else (len(self.follow), *self.follow)
        where = (ack, self.token.stream, *one, self.token.entry, self.token.name)
        return [*where, self.state, self.life, len(self.details), *pairs, *words]
