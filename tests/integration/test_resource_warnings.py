"""Programs that end without closing anything leave no warning."""

import re
import subprocess
import sys

import pytest

#: Sends two calls, which no worker runs, and waits for one of them.
ASYNCIO = """
import asyncio, streamq

app = streamq.App()

async def main():
    result, other = [await app.aenqueue("nobody.knows", n) for n in range(2)]
    tasks = [asyncio.create_task(other.aget()) for _ in range(3)]
    try:
        await result.aget(timeout=0.1)
    except streamq.ResultTimeout:
        print("sent")

asyncio.run(main())
"""
TWO_LOOPS = ASYNCIO + "asyncio.run(main())\n"
CLOSED = ASYNCIO.replace("    try:", "    await app.aclose()\n    try:")
OWN_LOOP = re.sub("    tasks = .*\n", "", ASYNCIO).replace(
    "asyncio.run(main())",
    "loop = asyncio.new_event_loop(); loop.run_until_complete(main())\n"
    "loop.run_until_complete(app.aclose()); loop.close()",
)
PLAIN = """
import streamq

app = streamq.App()
result = app.enqueue("nobody.knows", 1)
try:
    result.get(timeout=0.1)
except streamq.ResultTimeout:
    print("sent", result.state)
"""
#: The app of a project, which lives as long as its module.
TASKS = """
import streamq

app = streamq.App()

@app.task
def add(x, y): return x + y
"""


def run(*words, url, cwd):
    """Run Python with its warnings of resources; it has nothing to say on standard error."""
    done = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={"STREAMQ_URL": url, "PYTHONPATH": ":".join(sys.path), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    "program",
    [ASYNCIO, TWO_LOOPS, CLOSED, OWN_LOOP, PLAIN],
    ids=["asyncio", "two loops", "aclose", "own loop", "plain"],
)
def test_a_program_that_closes_nothing_ends_without_a_warning(program, server_url, redis, tmp_path):
    assert "sent" in run("-c", program, url=server_url, cwd=tmp_path)


@pytest.mark.parametrize(
    "words",
    [["queues", "ls"], ["enqueue", "tasks.add", "1", "2"], ["doctor", "--json"], ["redis", "PING"]],
    ids=lambda words: words[0],
)
def test_a_command_ends_without_a_warning(words, server_url, redis, tmp_path):
    (tmp_path / "tasks.py").write_text(TASKS)
    assert run("-m", "streamq", *words, url=server_url, cwd=tmp_path)
