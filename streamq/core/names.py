"""Names of messages and classes, as they appear in Redis."""

from streamq.host.modules import module_of_class


def own_id(queue: str, entry: str) -> str:
    """Make the id of a message that was added without one, by hand for instance."""
    return f"{queue}-{entry}"


def named(id: bytes, generation: bytes) -> bytes:
    """Make the name of a message of its id and generation; no id contains a colon."""
    return id if generation == b"1" else b"%s::%s" % (id, generation)


def type_name(cls: type) -> str:
    """The dotted name of a class in other processes; a builtin has its bare name."""
    bare = cls.__qualname__
    return bare if cls.__module__ == "builtins" else f"{module_of_class(cls)}.{bare}"
