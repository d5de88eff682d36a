"""One thing that is wrong in a script."""

from dataclasses import dataclass

from tests.model.server import Edit

NEVER = "if false then"
LEASED = "if not redis.call('ZRANK', key_of('leases'), consumer) then"
SCORED = "if not redis.call('ZSCORE', key_of('leases'), consumer) then"
LEASES = "key_of('leases')"
XACK = "redis.call('XACK', key, 'workers', entry)"
SAME_CALL = ("if last == mark_of(number) then", "if last == mark then")


@dataclass(frozen=True, slots=True)
class Mutant:
    """What is wrong, where, and the profile in which it shows."""

    name: str
    edit: Edit
    profile: str = "everything"


def mutant(name: str, file: str, old: str, new: str = "", profile: str = "everything") -> Mutant:
    return Mutant(name, Edit(file, old, new), profile)


DEAD, ENDINGS, LATER = "includes/dead", "includes/finish", "includes/scheduled"
LETTER, MESSAGES, REQUEUE = "includes/dead_letter", "includes/messages", "includes/requeue"
NUMBERED, CHANNELS, RETRY = (
    "includes/consumer_calls",
    "includes/publisher_calls",
    "includes/run_again",
)
DESTINATIONS = "includes/destinations"
EMIT = "includes/emit"
