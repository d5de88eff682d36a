"""Compressed bytes come back as they were, and never as more than was agreed."""

import random
import subprocess
import sys
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.errors import ConfigError, DecodeError
from streamq.serialization.compression import ALWAYS, compress, decompress

MIB = 1024 * 1024
METHODS = ["zlib", "zstd"]


@pytest.mark.parametrize("name", METHODS)
@given(data=st.binary(max_size=5000))
def test_what_was_compressed_comes_back(name, data):
    assert decompress(compress(data, name), name, limit=MIB, ratio=100) == data


@pytest.mark.parametrize("name", METHODS)
def test_a_bomb_is_stopped_at_the_limit_without_being_unpacked(name):
    bomb = compress(bytes(100 * MIB), name)

    tracemalloc.start()
    try:
        with pytest.raises(DecodeError) as refused:
            decompress(bomb, name, limit=MIB, ratio=1_000_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert f"{len(bomb)} bytes of {name} hold more than {MIB} bytes" in str(refused.value)
    assert peak < 8 * MIB


@pytest.mark.parametrize("name", METHODS)
def test_the_ratio_stops_a_bomb_before_the_limit(name):
    bomb = compress(bytes(100 * MIB), name)

    with pytest.raises(DecodeError, match=f"more than {max(ALWAYS, 2 * len(bomb))} bytes"):
        decompress(bomb, name, limit=1000 * MIB, ratio=2)


@pytest.mark.parametrize("name", METHODS)
def test_short_repetitive_data_passes_whatever_its_ratio(name):
    data = bytes(ALWAYS)

    assert decompress(compress(data, name), name, limit=MIB, ratio=1) == data
    with pytest.raises(DecodeError):
        decompress(compress(data + b"\0", name), name, limit=MIB, ratio=1)


@pytest.mark.parametrize("name", METHODS)
def test_the_limit_is_reached_but_not_passed(name):
    data = random.Random(1).randbytes(100_000)
    packed = compress(data, name)

    assert decompress(packed, name, limit=len(data), ratio=100) == data
    with pytest.raises(DecodeError, match=f"more than {len(data) - 1} bytes"):
        decompress(packed, name, limit=len(data) - 1, ratio=100)


@pytest.mark.parametrize("name", METHODS)
def test_a_limit_below_the_free_size_still_holds(name):
    with pytest.raises(DecodeError, match="more than 10 bytes"):
        decompress(compress(b"eleven byte", name), name, limit=10, ratio=100)


@pytest.mark.parametrize("name", METHODS)
def test_every_shortened_stream_is_refused(name):
    packed = compress(b"some text, some more text, some text" * 3, name)

    for length in range(len(packed)):
        with pytest.raises(DecodeError, match=f"cannot be decompressed as {name}"):
            decompress(packed[:length], name, limit=MIB, ratio=100)


@pytest.mark.parametrize("name", METHODS)
def test_bytes_after_the_end_are_refused(name):
    packed = compress(b"text", name)

    with pytest.raises(DecodeError, match="5 bytes follow its end"):
        decompress(packed + b"extra", name, limit=MIB, ratio=100)


@pytest.mark.parametrize("name", METHODS)
def test_random_and_damaged_bytes_do_no_worse_than_a_decode_error(name):
    chance = random.Random(3)
    packed = compress(chance.randbytes(50) * 4, name)
    refused = 0

    for _ in range(10_000):
        if chance.random() < 0.3:
            data = chance.randbytes(chance.randrange(64))
        else:
            damaged = bytearray(packed)
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            data = bytes(damaged)
        try:
            decompress(data, name, limit=MIB, ratio=100)
        except DecodeError:
            refused += 1

    assert refused > 3000


def test_zlib_here_is_what_other_languages_call_zlib():
    assert zlib.decompress(compress(b"text", "zlib")) == b"text"


@pytest.mark.parametrize("name", ["gzip", "bzip2", "lzma", "brotli", "zlip", ""])
def test_an_unknown_method_is_a_mistake_of_the_sender_and_a_fault_of_a_message(name):
    with pytest.raises(ConfigError) as refused:
        compress(b"", name)
    with pytest.raises(DecodeError, match="no compression named"):
        decompress(b"", name, limit=MIB, ratio=100)

    assert "zlib, zstd" in str(refused.value)
    assert "did you mean 'zlib'?" in str(refused.value)


def test_a_missing_zstd_says_what_to_install():
    code = """
import sys
from streamq import errors
from streamq.serialization import compression
sys.modules["backports.zstd"] = sys.modules["compression.zstd"] = None
for act in (
    lambda: compression.compress(b"", "zstd"),
    lambda: compression.decompress(b"", "zstd", limit=1, ratio=1),
):
    try:
        act()
    except errors.ConfigError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.count('→ pip install "streamq[zstd]"') == 2
