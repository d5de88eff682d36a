"""Payloads: values serialized and compressed within limits, and read back."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from streamq.errors import DecodeError, EncodeError
from streamq.serialization.codec import allowed, decode, decode_json, encode, encode_json
from streamq.serialization.compression import compress, decompress, largest

#: The most headers, and their bytes: headers are for routing, data belongs in arguments.
MOST_HEADERS = 64
LONGEST_HEADERS = 8192


class JsonForm:
    """How uncompressed JSON is written and read, for callers that need no limits."""

    __slots__ = ()
    to_json = staticmethod(encode_json)
    from_json = staticmethod(decode_json)


@dataclass(frozen=True, slots=True)
class Payloads(JsonForm):
    """The reader and writer of values, with limits.

    ``accept`` names the content types that may be read, ``limit`` bounds the bytes that
    are written, ``decompressed_limit`` and ``ratio`` what compressed bytes may become.
    """

    accept: Collection[str]
    limit: int
    decompressed_limit: int
    ratio: float

    def write(self, value: Any, serializer: str, compression: str | None, what: str) -> bytes:
        """Encode and compress a value.  Raises EncodeError if it is too large."""
        data = encode(value, serializer)
        if compression is not None:
            size, data = len(data), compress(data, compression)
            if size > largest(len(data), self.decompressed_limit, self.ratio):
                raise EncodeError(
                    f"{what} of {size:,} bytes would not be decompressed again",
                    known={
                        "limits": f"{self.decompressed_limit:,} bytes, {self.ratio:g} times "
                        f"the compressed {len(data):,}"
                    },
                    advice=["send less at once, or a reference instead of the data"],
                )
        if len(data) > self.limit:
            raise self.too_large(len(data), what)
        return data

    def too_large(self, size: int, what: str) -> EncodeError:
        """Make the error of a value over the limit."""
        return EncodeError(
            f"{what} of {size:,} bytes is over the limit of {self.limit:,}",
            advice=["send a reference (a key, a path) instead of the data"],
        )

    def not_read(self, size: int) -> DecodeError:
        """Make the error of a received message over the limit of this process."""
        return DecodeError(
            f"arguments of {size:,} bytes are over the message_limit of {self.limit:,}",
            advice=["give producers and workers the same message_limit"],
        )

    def read(self, data: bytes, content_type: str | None, compression: str | None) -> Any:
        """Decompress and decode bytes.

        Raises ContentDisallowed for a content type that is not accepted, before decoding, and
        DecodeError for bytes that are not of their content type.
        """
        if content_type is not None:
            allowed(content_type, self.accept)
        elif "json" not in self.accept:
            allowed("json", self.accept)
        if compression is not None:
            data = decompress(data, compression, self.decompressed_limit, self.ratio)
        if content_type is None:
            return decode_json(data)
        return decode(data, content_type)


def check_headers(data: bytes) -> None:
    """Raise DecodeError for headers over the limits that producers keep."""
    if len(data) > LONGEST_HEADERS:
        raise DecodeError(f"headers of {len(data):,} bytes; {LONGEST_HEADERS:,} may be")
    if data.count(b":") > MOST_HEADERS:
        found = decode_json(data)
        if isinstance(found, dict) and len(found) > MOST_HEADERS:
            raise DecodeError(f"{len(found)} headers; {MOST_HEADERS} may be")


def as_text(data: bytes | None, what: str) -> str | None:
    """Decode a field that must be text.  Raises DecodeError if it is not UTF-8."""
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise DecodeError(f"{what} is not UTF-8: {data[:40]!r}") from None
