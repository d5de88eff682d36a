"""The protocol version of a namespace: who writes another one is refused.

Workers store the version with the publish script.  A producer reads it once, before its first
publish; where none is stored, no worker has been there.
"""

from typing import Any

from streamq.errors import ConfigError
from streamq.transport.decode import text
from streamq.transport.keys import Keys
from streamq.transport.replies import Denied, Refused, raised

#: The version of the names of keys and fields, and of the arguments of the publish script: it
#: must be the same for all producers and workers of one namespace.
PROTOCOL = "3"


def protocol_question(keys: Keys) -> tuple[str, ...]:
    """The command that reads the protocol version of a namespace."""
    return ("HGET", keys.script("publish"), "protocol")


def check_protocol(reply: Any, keys: Keys) -> None:
    """Raise ConfigError if the answer to ``protocol_question`` is another version than ours.

    An older user may have no right to ask, and the key may be another program's: then nothing
    is known, and nothing refused.  Raises other error replies.
    """
    if isinstance(reply, Denied | Refused):
        return
    if raised(reply) is not None and text(reply) != PROTOCOL:
        raise ConfigError(
            f"this namespace is used with protocol {text(reply)}, this streamq speaks {PROTOCOL}",
            known={"key": keys.script("publish")},
            advice=["use the same version everywhere, or another namespace"],
        )
