"""A server for the model: it looks at all keys at once, those of no namespace too."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import running


@pytest.fixture(scope="session")
def server_url(server_program: str) -> Iterator[str]:
    """The URL of a server that is no cluster, whatever the other tests have."""
    with (
        tempfile.TemporaryDirectory(prefix="streamq-model-", ignore_cleanup_errors=True) as folder,
        running(server_program, Path(folder), "--appendonly", "no") as server,
    ):
        yield server.url
