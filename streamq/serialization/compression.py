"""Compression, and decompression within limits.

A few kilobytes can expand to gigabytes, so decompression stops at the first byte over the
limit instead of checking the size afterwards.
"""

import difflib
import importlib
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from streamq.errors import ConfigError, DecodeError, SoftTimeLimitExceeded
from streamq.host.extras import not_installed

#: Bytes that any message may decompress to: the limit of an uncompressed message.
ALWAYS = 1 << 20
#: The largest window of Zstandard below its "ultra" levels, as a power of two: 8 MiB.
USUAL_WINDOW = 23


def compress(data: bytes, name: str) -> bytes:
    """Compress with the method of this name.  Raises ``ConfigError`` if there is none."""
    if name not in METHODS:
        raise ConfigError(unknown(name), known=THERE_IS, advice=suggest(name))
    return METHODS[name].compress(data)


def decompress(data: bytes, name: str, limit: int, ratio: float) -> bytes:
    """Decompress what ``compress`` wrote, up to ``limit`` bytes.

    Beyond 1 MiB, at most ``ratio`` times the compressed size.  Raises ``DecodeError`` for more,
    for broken ``data`` and for an unknown method, as the sender chose it.
    """
    if name not in METHODS:
        raise DecodeError(unknown(name), known=THERE_IS, advice=suggest(name))
    most = largest(len(data), limit, ratio)
    try:
        stream = METHODS[name].stream(most)
        # One byte more than allowed shows that there is more, or lets the stream reach its end.
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
    """The most bytes to which so many compressed bytes may expand."""
    return min(limit, max(ALWAYS, int(ratio * compressed)))


class Stream(Protocol):
    """A decompressor that writes a bounded number of bytes."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Method:
    """A compression method."""

    compress: Callable[[bytes], bytes]
    #: Makes a decompressor for so many bytes at most.
    stream: Callable[[int], Stream]


def load_zstd() -> Any:
    """Import Zstandard when first needed: before Python 3.14 it is an optional package."""
    try:
        return importlib.import_module(
            "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
        )
    except ImportError as error:
        raise not_installed("the library that zstd compression needs", "zstd") from error


def bounded_zstd(most: int) -> Any:
    """Make a decompressor with no more memory than ``most`` bytes of content need.

    Without that limit the header chooses the window, up to 128 MiB, however little follows.
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
