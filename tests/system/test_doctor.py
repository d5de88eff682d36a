"""``streamq doctor`` as people and deploys use it."""

import json
import subprocess
import sys
from typing import Any

import pytest


def doctor(site: Any, *words: str, code: int = 0, url: str = "") -> str:
    """Run it; what it printed, errors after the rest."""
    env = {**site.env, **({"STREAMQ_URL": url} if url else {})}
    command = [sys.executable, "-m", "streamq", "doctor", *words]
    ran = subprocess.run(
        command, cwd=site.folder, env=env, capture_output=True, text=True, timeout=30
    )
    assert ran.returncode == code, f"{ran.returncode}: {ran.stdout}{ran.stderr}"
    assert "Traceback" not in ran.stderr
    return ran.stdout + ran.stderr


def test_a_server_as_it_should_be_has_no_problem(site):
    said = doctor(site)

    assert "AOF everysec: a crash of the server loses nothing" in said
    assert not [line for line in said.splitlines() if line.startswith(("problem", "warning"))]


def test_a_problem_ends_with_one_and_says_what_to_do(site):
    site.redis.config_set("maxmemory", 1 << 30)
    site.redis.config_set("maxmemory-policy", "allkeys-lru")

    lines = doctor(site, code=1).splitlines()

    place = next(i for i, line in enumerate(lines) if line.startswith("problem  eviction"))
    assert "allkeys-lru" in lines[place]
    assert "→ CONFIG SET maxmemory-policy noeviction" in lines[place + 1]


def test_a_worker_serves_a_server_that_may_delete_what_it_likes(site):
    """The doctor says what that may cost; whoever set it may mean it."""
    site.write("\n@app.task\ndef plain():\n    return 1\n")
    site.redis.config_set("maxmemory-policy", "allkeys-lru")

    worker = site.worker("-c", 1)

    assert site.send("plain").get(timeout=10) == 1
    assert "allkeys-lru, without effect as long as maxmemory is 0" in doctor(site)
    assert worker.stop() == 0


def test_programs_get_the_same(site):
    site.redis.config_set("appendonly", "no")

    told = json.loads(doctor(site, "--json"))

    assert told["level"] == "warning"
    (found,) = [check for check in told["checks"] if check["check"] == "persistence"]
    assert found["level"] == "warning"
    assert found["says"].startswith("none: a crash of the server loses everything")
    assert found["advice"]


@pytest.mark.parametrize("words", [[], ["--json"], ["--assert-clean"]])
def test_a_server_that_is_not_there_ends_with_69(site, words):
    said = doctor(site, *words, code=69, url=f"unix://{site.folder}/nobody")

    assert "cannot reach Redis" in said


def test_a_password_is_never_shown(site):
    site.redis.execute_command("ACL", "SETUSER", "me", "on", ">s3cret", "~*", "&*", "+@all")

    said = doctor(site, url=f"{site.server.url}?username=me&password=s3cret")

    assert "user me has the rights of workers and producers" in said
    assert "s3cret" not in said


def test_a_site_at_rest_is_clean_and_one_at_work_is_not(site):
    site.write(
        """
        @app.task
        def add(x, y):
            return x + y
        """
    )
    result = site.send("add", 1, 2)

    said = doctor(site, "--assert-clean", code=1)
    assert "default holds 1 message, 0 of them read by a worker" in said
    assert json.loads(doctor(site, "--assert-clean", "--json", code=1))["clean"] is False

    site.worker("-c", 1)
    assert result.get(timeout=20) == 3
    assert "at rest" in doctor(site, "--assert-clean")
    assert "1 worker up" in doctor(site)
