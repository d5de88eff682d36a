"""Names of messages and of classes, as Redis and other processes know them."""

from streamq.host.modules import module_of_class


def own_id(queue: str, entry: str) -> str:
    """The id of a message that was added without one, by hand for instance."""
    return f"{queue}-{entry}"


def named(id: bytes, generation: bytes) -> bytes:
    """The name of a message by its id and generation; no id holds a colon."""
    return id if generation == b"1" else b"%s::%s" % (id, generation)


def type_name(cls: type) -> str:
    """The dotted name of a class as other processes know it; builtins go by their bare name."""
    bare = cls.__qualname__
    return bare if cls.__module__ == "builtins" else f"{module_of_class(cls)}.{bare}"
