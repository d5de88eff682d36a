"""What Redis answers when it cannot, as it says it, and what a producer makes of it."""

from streamq.broker.publish_retry import FirstContact

LOADING = "LOADING Redis is loading the dataset in memory"
BUSY = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
READONLY = "READONLY You can't write against a read only replica."
MASTERDOWN = "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
UNBLOCKED = "UNBLOCKED force unblock from blocking operation, instance state changed"
CLUSTERDOWN = "CLUSTERDOWN The cluster is down"
MOVED = "MOVED 3999 127.0.0.1:6381"
MISCONF = "MISCONF Errors writing to the AOF file: No space left on device"
NOREPLICAS = "NOREPLICAS Not enough good replicas to write."
OOM = "OOM command not allowed when used memory > 'maxmemory'."
NOAUTH = "NOAUTH Authentication required."
WRONGPASS = "WRONGPASS invalid username-password pair or user is disabled."
NOPERM = "NOPERM User shop has no permissions to run the 'evalsha' command"
NOSCRIPT = "NOSCRIPT No matching script. Please use EVAL."
NOGROUP = "NOGROUP No such key '{streamq}:queue:default' or consumer group 'workers'"
KEY_GONE = "UNBLOCKED the stream key no longer exists"
WRONGTYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
CLIENTS = "ERR max number of clients reached"

#: Everything that a worker may be answered.
EVERY = (
    *(LOADING, BUSY, READONLY, MASTERDOWN, UNBLOCKED, CLUSTERDOWN, MOVED, MISCONF, NOREPLICAS),
    *(OOM, NOAUTH, WRONGPASS, NOPERM, NOSCRIPT, NOGROUP, KEY_GONE, WRONGTYPE, CLIENTS),
)


def code_of(text: object) -> str | None:
    """The name of a test for this error."""
    if not isinstance(text, str) or " " not in text:
        return None
    return {KEY_GONE: "KEY-GONE", CLIENTS: "CLIENTS"}.get(text, text.partition(" ")[0])


def known():
    """The contact of who has reached its Redis before."""
    first_contact = FirstContact("redis://h")
    first_contact.made = True
    return first_contact


#: What people write where a URL should stand; SECRET is what nobody may see of it.
MALFORMED = [
    "redis//:SECRET@h",
    "redis//me:SECRET@h:6379/0",
    "redis:/:SECRET@h",
    "redis:SECRET@h",
    "redis:me:SECRET@h",
    "redis/:SECRET@h",
    "redis:///:SECRET@h",
    "redis:///SECRET@h",
    "redis:://:SECRET@h",
    "redis:\\\\:SECRET@h",
    "redis\uff1a//:SECRET@h",
    "redis%3A//:SECRET@h",
    "://:SECRET@h",
    "//:SECRET@h",
    "//SECRET@h",
    ":SECRET@h",
    "SECRET@h",
    "SECRET/SECRET@h",
    "redis://:SECRET",
    "redis://me:SECRET",
    "redis//:SECRET",
    "redis:SECRET",
    "redis://me:SECRET%40h",
    "redis://:SECRET#h",
    "redis://me/SECRET@h",
    "redis://:SECRET@h:port",
    "redis://u:SEC@RET:SECRET@h",
    "redis://h:6379:SECRET",
    "redis://h:6379 SECRET",
    "redis://h -a SECRET",
    "redis:// :SECRET@h",
    "redis://:SECRET\n@h",
    "redis://h/0?PassWord=SECRET#SECRET",
    "redis://h/0;password=SECRET",
    "redis://h/0#password=SECRET",
    "host=h password=SECRET",
    "password=SECRET",
    "sentinel//:SECRET@h:1,h:2/s?sentinel_password=SECRET",
    "rediss:/SECRET@h",
    "redis://[::1:SECRET@h",
]
