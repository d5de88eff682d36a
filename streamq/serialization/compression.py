"""Compressed bytes, and back without being flooded.

A few kilobytes can claim to hold gigabytes, so decompression stops at the first byte too
many instead of looking at the size afterwards.
"""

import difflib
import importlib
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from streamq.errors import ConfigError, DecodeError, SoftTimeLimitExceeded

#: Bytes that any message may grow to: as many as one may have that is not compressed.
ALWAYS = 1 << 20
#: The window that any compressor of Zstandard uses below its "ultra" levels: 2^23 bytes.
USUAL_WINDOW = 23


def compress(data: bytes, name: str) -> bytes:
    """``data`` made smaller by the method of this name; ``ConfigError`` if there is none."""
    if name not in METHODS:
        raise ConfigError(unknown(name), known=THERE_IS, advice=suggest(name))
    return METHODS[name].compress(data)


def decompress(data: bytes, name: str, limit: int, ratio: float) -> bytes:
    """What ``compress`` was given, if it is at most ``limit`` bytes.

    More than ``ratio`` times the compressed size is refused as well, beyond 1 MiB.  Whatever
    is wrong with ``data``, or with a name that the sender chose, is a ``DecodeError``.
    """
    if name not in METHODS:
        raise DecodeError(unknown(name), known=THERE_IS, advice=suggest(name))
    most = largest(len(data), limit, ratio)
    try:
        stream = METHODS[name].stream(most)
        # One more than may be: enough to tell that there is more, and to see the end.
        content: bytes = stream.decompress(data, most + 1)
    except (ConfigError, SoftTimeLimitExceeded):
        raise
    except Exception as error:
        raise broken(data, name, str(error)) from error
    if len(content) > most:
        raise DecodeError(
            f"{len(data)} bytes of {name} hold more than {most} bytes",
            known={"limit": f"{limit} bytes", "ratio": f"{ratio:g} times what was received"},
            advice=["send less at once, or an id or a path by which the task finds it"],
        )
    if not stream.eof:
        raise broken(data, name, "the end is missing")
    if stream.unused_data:
        raise broken(data, name, f"{len(stream.unused_data)} bytes follow its end")
    return content


def largest(compressed: int, limit: int, ratio: float) -> int:
    """How many bytes may come out of so many compressed ones."""
    return min(limit, max(ALWAYS, int(ratio * compressed)))


class Stream(Protocol):
    """A decompressor that stops when it has written as much as it may."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Method:
    """One way to compress."""

    compress: Callable[[bytes], bytes]
    #: Makes a decompressor for so many bytes at most.
    stream: Callable[[int], Stream]


def load_zstd() -> Any:
    """Zstandard, imported when the first bytes need it: before Python 3.14 it is an extra."""
    try:
        return importlib.import_module(
            "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
        )
    except ImportError as error:
        raise ConfigError(
            "zstd compression needs a library", advice=['pip install "streamq[zstd]"']
        ) from error


def bounded_zstd(most: int) -> Any:
    """A decompressor that takes no more memory than so many bytes of content need.

    Its window is as large as the first bytes say, up to 128 MiB, however little follows.
    """
    zstd = load_zstd()
    window = max(USUAL_WINDOW, most.bit_length())
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: window})


METHODS = {
    "zlib": Method(zlib.compress, lambda most: zlib.decompressobj()),
    "zstd": Method(lambda data: load_zstd().compress(data), bounded_zstd),
}
THERE_IS = {"there is": ", ".join(METHODS)}


def unknown(name: str) -> str:
    return f"no compression named {str(name)[:60]!r}"


def suggest(name: str) -> list[str]:
    """The nearest name there is; gzip, the usual guess, is zlib with another header."""
    near = difflib.get_close_matches(str(name)[:60], METHODS, n=1)
    return [f"did you mean {(near or ['zlib'])[0]!r}?"]


def broken(data: bytes, name: str, why: str) -> DecodeError:
    return DecodeError(
        f"{len(data)} bytes cannot be decompressed as {name}",
        known={"reason": why, "begins": repr(bytes(data[:40]))},
    )
