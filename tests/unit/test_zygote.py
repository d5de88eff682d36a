"""A program that a zygote becomes is as after an exec, and the zygote ends with its client."""

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap

import pytest

from tests.edits import CHECKOUT
from tests.processes import alive, until
from tests.zygote import Forked, start

PROBE = """
import json, os, resource, signal, sys, time
mask = os.umask(0)
print(json.dumps({
    "umask": mask,
    "blocked": signal.SIGUSR2 in signal.pthread_sigmask(signal.SIG_BLOCK, ()),
    "ignored": signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN,
    "limit": resource.getrlimit(resource.RLIMIT_NOFILE),
    "hour": time.localtime(0).tm_hour,
    "encoding": sys.stdout.encoding.lower(),
    "errors": [sys.stdin.errors, sys.stdout.errors, sys.stderr.errors],
    "folder": os.getcwd(),
    "environment": dict(os.environ),
    "words": sys.argv[1:],
    "path": sys.path,
    "open": [number for number in range(3, 64) if os.path.exists(f"/proc/self/fd/{number}")],
}))
"""


@pytest.fixture
def probe(tmp_path):
    """What a program finds, and how it was started."""
    (tmp_path / "probe.py").write_text(PROBE)

    def probe(begin=start, **env):
        env = {**os.environ, "PYTHONPATH": str(CHECKOUT), **env}
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True}
        process = begin("probe", ["a", "b c"], cwd=tmp_path, env=env, **options)
        said, _ = process.communicate(timeout=30)
        return json.loads(said), isinstance(process, Forked)

    return probe


def executed(module, words, **options):
    """Start a program by an exec."""
    return subprocess.Popen([sys.executable, "-m", module, *words], **options)


def test_a_fork_finds_what_a_program_finds_after_an_exec(probe):
    after_fork, forked = probe(ANSWER="42")
    after_exec, _ = probe(executed, ANSWER="42")

    assert forked
    assert after_fork == after_exec


def test_the_world_of_the_moment_reaches_the_program(probe):
    mask = os.umask(0o077)
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    try:
        found, forked = probe()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        signal.signal(signal.SIGUSR2, before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
        os.umask(mask)

    assert not forked
    assert (found["umask"], found["blocked"], found["ignored"]) == (0o077, True, True)
    assert found["limit"] == [soft - 1, hard]


def test_the_time_zone_of_the_environment_is_that_of_the_program(probe):
    found, _ = probe(TZ="XYZ-3:30")

    assert found["hour"] == 3


#: A program with a zygote, of which a fork lives on and holds all that it had open.
CLIENT = """
import os, sys, time
from tests.zygote import Forked, Zygote

zygote = Zygote("json")
Forked(zygote, "json.tool", ["/dev/null"], stderr=-3).wait()
here = f"/proc/{os.getpid()}/task/{os.getpid()}/children"
(process,) = open(here).read().split()
lasting = os.fork()
if not lasting:
    os.close(1)
    time.sleep(60)
    os._exit(0)
print(process, lasting, flush=True)
END
"""


@pytest.mark.parametrize("end", ["sys.exit()", "os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_a_zygote_ends_with_its_client_though_a_fork_of_that_lives(end):
    said = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CLIENT).replace("END", end)],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        timeout=8,
    ).stdout
    zygote, lasting = map(int, said.split())

    try:
        assert alive(lasting)
        until(lambda: not alive(zygote), "the zygote is gone", seconds=5)
    finally:
        os.kill(lasting, signal.SIGKILL)
