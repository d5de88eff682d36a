"""Tests of the application, with a worker that ends when it has run what waits."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from app import api
from fastapi.testclient import TestClient


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(api) as client:  # inside of the block, the lifespan has begun
        yield client


def work() -> None:
    """Run the tasks that wait."""
    subprocess.run([sys.executable, "-m", "streamq", "worker", "-A", "app", "--burst"], check=True)


def test_the_divisors_of_a_number(client):
    task = client.post("/divisors/12").json()["task"]
    assert client.get(f"/tasks/{task}").json() == {"state": "QUEUED", "divisors": None}

    work()

    assert client.get(f"/tasks/{task}/result").json() == [1, 2, 3, 4, 6, 12]
    assert client.get(f"/tasks/{task}").json()["state"] == "SUCCESS"


def test_a_large_number_is_refused(client):
    assert client.post("/divisors/10000000").status_code == 422
