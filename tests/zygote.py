"""The zygote: a process that has imported modules already, and forks to become programs.

To start Python and import streamq takes 0.4 s of processor time, and the tests start thousands of
workers.  A zygote imports once; each program is a fork of it with the state of a new process:
environment, working folder, standard streams, ``sys.argv``, ``sys.path`` and ``__main__`` are as
after ``python -m MODULE``.  A zygote is started by exec before it has threads.  It has one client
and ends with it, because a fork of the client may hold the other end of the link for longer.

    zygote = Zygote("streamq.worker.boot", "streamq.cli.worker")
    process = Forked(zygote, "streamq", ["worker", "-A", "tasks"], cwd=folder, env=env)

``Forked`` is a ``subprocess.Popen`` whose program is a child of the zygote, which reports its end.
"""

import atexit
import json
import os
import re
import runpy
import select
import socket
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any, NoReturn

CHECKOUT = str(Path(__file__).resolve().parents[1])
#: Bytes of the longest order: an environment and a command line.
LONGEST = 1 << 20


class Zygote:
    """The client of a zygote, which is started when it is first needed."""

    def __init__(self, *modules: str) -> None:
        self.modules = modules
        self.lock = threading.Lock()
        self.link: socket.socket | None = None

    def connect(self) -> socket.socket:
        """The link to the zygote, which is started if it does not run."""
        if self.link is None:
            self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            numbers = [str(theirs.fileno()), str(os.getpid())]
            process = subprocess.Popen(
                [sys.executable, __file__, *numbers, *self.modules],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a worker in a terminal ends at SIGHUP
            )
            theirs.close()
            atexit.register(self.close, process, os.getpid())
        return self.link

    def close(self, process: subprocess.Popen[bytes], owner: int) -> None:
        """End the zygote by closing its link, unless this is a fork of its client."""
        assert self.link is not None
        if owner == os.getpid():
            self.link.shutdown(socket.SHUT_RDWR)  # also if a fork has it open
            process.wait(timeout=10)
        self.link.close()

    def ask(self, order: dict[str, Any], descriptors: tuple[int, ...] = ()) -> int:
        """Send an order to the zygote; return the number that it answers."""
        with self.lock:
            link = self.connect()
            socket.send_fds(link, [json.dumps(order).encode()], list(descriptors))
            return int(link.recv(100))


class Forked(subprocess.Popen[Any]):
    """A program that a fork of a zygote runs, with the interface of any other process."""

    def __init__(self, zygote: Zygote, module: str, args: list[str], **options: Any) -> None:
        self.zygote, self.module = zygote, module
        self.ended = -1
        super().__init__([sys.executable, "-m", module, *args], **options)

    def _execute_child(
        self, args: list[str], executable: Any, preexec_fn: Any, close_fds: Any, pass_fds: Any,
        cwd: Any, env: Any, startupinfo: Any, creationflags: Any, shell: Any,
        p2cread: int, p2cwrite: int, c2pread: int, c2pwrite: int, errread: int, errwrite: int,
        *rest: Any,
    ) -> None:  # fmt: skip
        """Let the zygote fork, instead of the fork and exec of ``Popen``."""
        streams = [(p2cread, 0), (c2pwrite, 1), (errwrite, 2)]
        order = {
            "module": self.module,
            "args": args[3:],
            "cwd": os.fspath(cwd or os.getcwd()),
            "env": dict(os.environ if env is None else env),
        }
        given = tuple(ours if ours != -1 else standard for ours, standard in streams)
        self.pid = self.zygote.ask(order, given)
        self.ended = os.pidfd_open(self.pid)
        self._child_created = True  # type: ignore[attr-defined]
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]

    def reap(self, pid: int, flags: int) -> tuple[int, int]:
        """The answer of ``os.waitpid`` if the program were a child of this process."""
        if flags & os.WNOHANG and not select.select([self.ended], [], [], 0)[0]:
            return 0, 0
        return pid, self.zygote.ask({"reap": pid})

    def _internal_poll(self, _deadstate: Any = None, **_: Any) -> Any:
        return super()._internal_poll(_deadstate, _waitpid=self.reap)  # type: ignore[misc]

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        return self.reap(self.pid, wait_flags)

    def _handle_exitstatus(self, *status: Any) -> None:
        super()._handle_exitstatus(*status)  # type: ignore[misc]
        os.close(self.ended)


#: The zygote of workers and commands: it has imported all that a worker needs.
STREAMQ = Zygote("redis", "streamq.cli.shared", "streamq.cli.worker", "streamq.worker.boot")
#: The zygote of tests on a changed checkout: it has imported no module of streamq.
PYTEST = Zygote("pytest", "redis")

#: Options of Popen that a fork supports as an exec does.
CARRIED = frozenset({"cwd", "env", "stdin", "stdout", "stderr", "text"})
#: Variables that Python and the C library read once, when a process starts.
AT_START = re.compile(r"PYTHON(?!PATH$|DONTWRITEBYTECODE$)|LANG$|LC_|MALLOC_|LD_|TZ$")


def inherited_state() -> str:
    """The state that a program inherits from the process that execs it: umask, signals, limits."""
    status = Path("/proc/thread-self/status").read_text()
    taken = re.findall(r"^(?:Umask|SigBlk|SigIgn):.*\n", status, re.M)
    return "".join(taken) + Path("/proc/self/limits").read_text()


#: The inherited state of the zygotes.
OURS = inherited_state()


def start(module: str, args: list[str], **options: Any) -> subprocess.Popen[Any]:
    """Start ``python -m MODULE ARGS``: by a fork where that makes no difference, else by exec."""
    env = options.get("env") or os.environ
    given, ours = (
        {name: value for name, value in each.items() if AT_START.match(name)}
        for each in (env, os.environ)
    )
    tree = env.get("PYTHONPATH", "")
    alike = given == ours and inherited_state() == OURS and os.pathsep not in tree
    if not alike or not CARRIED.issuperset(options):
        return subprocess.Popen([sys.executable, "-m", module, *args], **options)
    return Forked(STREAMQ if tree == CHECKOUT else PYTEST, module, args, **options)


# The zygote itself


def serve(link: socket.socket, client: int) -> dict[str, Any]:
    """Carry out orders until the client is gone; return, in a child, the order for it."""
    while True:
        if client in select.select([link, client], [], [])[0]:
            os._exit(0)
        text, descriptors, *_ = socket.recv_fds(link, LONGEST, 3)
        if not text:
            os._exit(0)
        order = json.loads(text)
        if "reap" in order:
            _, answer = os.waitpid(order["reap"], 0)
        else:
            answer = os.fork()
            if answer == 0:
                link.close()
                os.close(client)
                for ours, standard in zip(descriptors, (0, 1, 2), strict=True):
                    os.dup2(ours, standard)
                    os.close(ours)
                return dict(order)
        for ours in descriptors:
            os.close(ours)
        link.send(str(answer).encode())


def become(order: dict[str, Any]) -> NoReturn:
    """Run the program of an order as ``python -m MODULE`` would in its folder and environment."""
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    for number, (name, mode) in enumerate([("stdin", "r"), ("stdout", "w"), ("stderr", "w")]):
        errors = getattr(sys, name).errors  # as Python chose them for the locale
        stream = open(number, mode, errors=errors)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    paths = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:] = [os.getcwd(), *paths, *sys.path]
    sys.argv[:] = ["", *order["args"]]
    sys.orig_argv[:] = [sys.executable, "-m", order["module"], *order["args"]]
    sys.modules["__main__"] = types.ModuleType("__main__")
    runpy._run_module_as_main(order["module"])  # type: ignore[attr-defined]
    sys.exit()


def main() -> NoReturn:
    """Import the modules of the command line, then serve the client."""
    number, client, *modules = sys.argv[1:]
    try:
        ended = os.pidfd_open(int(client))
    except ProcessLookupError:
        sys.exit()
    here = str(Path(__file__).parent)
    sys.path[:] = [path for path in sys.path if path != here]
    sys.path.insert(0, CHECKOUT)
    for module in modules:
        __import__(module)
    sys.path.remove(CHECKOUT)
    become(serve(socket.socket(fileno=int(number)), ended))


if __name__ == "__main__":
    main()
