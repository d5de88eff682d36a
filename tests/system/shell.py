"""A folder with the app of a shop, and commands that are run in it as a user would."""

import json
import os
import pty
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, NoReturn

from streamq.cli.command import GivenOptions
from streamq.cli.main import main
from tests.edits import CHECKOUT
from tests.zygote import start

TASKS = """
import os, time
from streamq import App, Exchange, Queue

app = App("shop")
events = Exchange("events", type="topic")
app.queues = [
    Queue("default"),
    Queue("mail", events, routing_key="mail.#"),
    Queue("audit", events, routing_key="#"),
]

@app.task
def add(x: int, y: int) -> int:
    return x + y

@app.task
def fail():
    raise ValueError("not today")

@app.task
def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)
"""


class Shell:
    """A folder, and commands run in it as a user would."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.env = {
            **{name: value for name, value in os.environ.items() if "STREAMQ" not in name},
            "STREAMQ_URL": url,
            "PYTHONPATH": str(CHECKOUT),
        }
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *words: str | bytes, **options: Any) -> subprocess.Popen[str]:
        """Start a command."""
        env = {**self.env, **options.pop("env", {})}
        standard = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
        process = start(
            "streamq",
            [os.fsdecode(word) for word in words],
            cwd=self.folder,
            env=env,
            text=True,
            **{"stdin": subprocess.DEVNULL, **standard, **options},
        )
        self.started.append(process)
        return process

    def __call__(self, *words: str | bytes, code: int = 0, **env: str) -> str:
        """Run a command; what it printed: on stdout if it went well, else on stderr."""
        out, err = self.start(*words, env=env).communicate(timeout=30)
        process = self.started[-1]
        assert process.returncode == code, f"{process.returncode}: {out}{err}"
        assert "Traceback" not in err
        self.err = err
        return out if code == 0 else err

    def quick(self, *words: str, code: int = 0) -> str:
        """The same in a fork of this process, which has imported everything already."""
        status, printed = self.ended(*words)
        assert status == code, f"{status}: {printed}{self.err}"
        return printed or self.err

    def ended(self, *words: str) -> tuple[int, str]:
        """The exit code of a command, in such a fork, and what it printed on stdout."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            child = os.fork()
            if not child:
                self.become(words, out.fileno(), err.fileno())
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            for file in (out, err):
                file.seek(0)
            printed, self.err = out.read(), err.read()
        assert "Traceback" not in self.err
        return status, printed

    def become(self, words: tuple[str, ...], out: int, err: int) -> NoReturn:
        """Be the command that this command line is, then end."""
        code = 99
        try:
            os.chdir(self.folder)
            os.environ.clear()
            os.environ.update(self.env)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out, 1)
            os.dup2(err, 2)
            sys.stdin = open(0)  # noqa: SIM115 - it is closed with the process
            sys.stdout, sys.stderr = (open(number, "w") for number in (1, 2))  # noqa: SIM115
            code = main.run(list(words), GivenOptions())
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def json(self, *words: str, code: int = 0) -> Any:
        """What a command answers a program."""
        return json.loads(self.quick(*words, "--json", code=code))

    def at_terminal(self, answer: str, *words: str) -> tuple[int, str]:
        """Run a command at a terminal, answering what it asks; its exit code and its stderr."""
        ours, theirs = pty.openpty()
        try:
            process = self.start(*words, stdin=theirs)
            os.write(ours, f"{answer}\n".encode())
            _, err = process.communicate(timeout=30)
            return process.returncode, err
        finally:
            os.close(ours)
            os.close(theirs)

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=20)
