"""Exceptions by kombu's names: those of streamq."""

from streamq.errors import (
    BrokerUnavailable,
    ContentDisallowed,
    DecodeError,
    EncodeError,
    StreamqError,
)

__all__ = [
    "ConnectionError",
    "ContentDisallowed",
    "DecodeError",
    "EncodeError",
    "KombuError",
    "OperationalError",
    "SerializationError",
]

KombuError = StreamqError
OperationalError = BrokerUnavailable
ConnectionError = BrokerUnavailable
#: For ``except``: what encoding and decoding raise.
SerializationError = (EncodeError, DecodeError)
