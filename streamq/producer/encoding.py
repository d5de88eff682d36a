"""The arguments of a call: checked against its task, and encoded."""

from streamq.core.message import MessageTemplate
from streamq.errors import EncodeError
from streamq.serialization.codec import encode_json
from streamq.serialization.payload import Payloads
from streamq.tasks import Signature, flattened


def encoded(
    signature: Signature, template: MessageTemplate, payloads: Payloads
) -> tuple[bytes, bytes]:
    """Check the arguments of a call against its task; return args and kwargs, encoded.

    Raises TypeError if they do not fit the task's function, EncodeError if they cannot be sent.
    """
    args, kwargs = signature.args, signature.kwargs
    if signature.task is not None:
        signature.task.check(args, kwargs)
    try:
        if template.plain:
            written_args = encode_json(args)
            written_kwargs = encode_json(kwargs) if kwargs else b"{}"
        else:
            format = (template.serializer, template.compression)
            written_args = payloads.write(args, *format, "the arguments")
            written_kwargs = payloads.write(kwargs, *format, "the arguments")
    except EncodeError as error:
        return encoded(flattened(signature, error), template, payloads)
    size = len(written_args) + len(written_kwargs)
    if size > payloads.limit:
        raise payloads.too_large(size, "the arguments")
    return written_args, written_kwargs
