"""The arguments of a call: checked against its task, and encoded."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from streamq.core.message import MessageTemplate
from streamq.errors import EncodeError
from streamq.serialization.annotations import json_form
from streamq.serialization.payload import Payloads
from streamq.serialization.strict_json import EnumNotRepresentable
from streamq.tasks import Signature


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
            written_args = payloads.to_json(args)
            written_kwargs = payloads.to_json(kwargs) if kwargs else b"{}"
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


def flattened(signature: Signature, refused: EncodeError) -> Signature:
    """Replace the Enums of a call that JSON cannot represent by what it can.

    Only where the task's annotations turn the value back into the Enum.  Raises ``refused``,
    the error of encoding the call, if that has another reason or no annotation helps.
    """
    if signature.task is None or not isinstance(refused.__cause__, EnumNotRepresentable):
        raise refused
    converter = signature.task.converter

    def flat(place: int | str, value: Any) -> Any:
        return json_form(value, converter.conversion_of(place) if converter else None)

    try:
        return replace(
            signature,
            args=tuple(flat(index, value) for index, value in enumerate(signature.args)),
            kwargs={name: flat(name, value) for name, value in signature.kwargs.items()},
        )
    except EncodeError:  # it names the one argument only
        raise refused from refused.__cause__


def written(call: Signature, name: str, write: Callable[[Any], bytes]) -> bytes:
    """Encode ``args`` or ``kwargs`` (``name``) of a call with ``write``."""
    try:
        return write(getattr(call, name))
    except EncodeError as refused:
        return write(getattr(flattened(call, refused), name))
