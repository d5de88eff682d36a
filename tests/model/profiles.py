"""The profiles of the machine: no single mixture of events finds all mutants."""

from dataclasses import dataclass
from typing import Any

PLAIN: dict[str, Any] = {}
RANKED = {"max_priority": 2}
BRIEF = {"message_ttl": 5000}
SHORT = {"max_length": 2}
SENT_ON = {"dead_letter_exchange": "dlx", "dead_letter_routing_key": "dead"}
SENT_NOWHERE = {"dead_letter_exchange": "dlx", "dead_letter_routing_key": "nobody"}
IN_A_CIRCLE = {"dead_letter_exchange": "", "dead_letter_routing_key": "mail"}
MIXED = {**RANKED, **BRIEF, **SENT_ON}


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile: settings of queues, crashes allowed, dead letters kept, subjects left out."""

    settings: tuple[dict[str, Any], ...]
    allowed: int = 2
    most: int = 100
    without: frozenset[str] = frozenset()


PROFILES = {
    "everything": Profile((PLAIN, RANKED, BRIEF, SHORT, SENT_ON, SENT_NOWHERE, IN_A_CIRCLE, MIXED)),
    "crashes": Profile((PLAIN,), allowed=1, without=frozenset({"topology", "people", "jumps"})),
    "letters": Profile((PLAIN, SENT_ON, SENT_NOWHERE), most=2, without=frozenset({"jumps"})),
    "later": Profile((PLAIN, RANKED, BRIEF), without=frozenset({"people"})),
}
