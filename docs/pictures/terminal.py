"""The terminal picture: terminal.txt, which a real run has written → terminal.svg.

python docs/pictures/terminal.py             # draws what was recorded
python docs/pictures/terminal.py --record    # runs the quick start of the README first

A recording needs an environment with streamq and a server (`make demo` makes one).
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from docs.pictures.svg import MONO, document, rect, text

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TRANSCRIPT, PICTURE = HERE / "terminal.txt", HERE / "terminal.svg"

#: How the picture names the folder of the run, which is a temporary one.
FOLDER = "~/shop"
#: The worker's name, which would else be that of the machine.
SETTINGS = {"STREAMQ_WORKER_NAME": "worker@laptop", "STREAMQ_CONCURRENCY": "2"}
#: The commands of the second terminal, while a worker runs in the first.
COMMANDS = ("streamq enqueue tasks.add 2 3 --id first --wait", "streamq result first")
#: Seconds in which a worker must be ready, and the log of its task written.
PATIENCE = 20.0

#: Pixels: the width of a character, from line to line, around a terminal, and its bar.
CHARACTER, LINE, MARGIN, BAR = 8.0, 20, 20, 36
#: Characters in the widest line that fits.
COLUMNS = 92

STYLE = f"""
text {{ font: 13.3px {MONO}; fill: #e6edf3 }}
.terminal {{ fill: #161b22; stroke: #30363d }}
.bar {{ fill: #9da7b1; text-anchor: middle }}
.close {{ fill: #f85149 }}
.shrink {{ fill: #d29922 }}
.grow {{ fill: #3fb950 }}
.strong {{ font-weight: 700; fill: #ffffff }}
.good {{ fill: #3fb950 }}
.value {{ fill: #79c0ff }}
.quiet {{ fill: #9da7b1 }}
"""

ABOUT = "Two terminals: a worker starts and runs a task; a task is sent, and its result comes back."


@dataclass(frozen=True)
class Terminal:
    """What one terminal shows, under its title."""

    title: str
    lines: list[str]

    @property
    def height(self) -> float:
        return BAR + LINE * len(self.lines) + MARGIN


def terminals_in(transcript: str) -> list[Terminal]:
    """The terminals of a transcript; the title of each stands in a line ``== title``."""
    parts = re.split(r"^== (.+)\n", transcript, flags=re.M)[1:]
    return [
        Terminal(title, lines.rstrip("\n").split("\n"))
        for title, lines in zip(parts[::2], parts[1::2], strict=True)
    ]


def draw(transcript: str) -> str:
    """The picture of a transcript, both as text."""
    terminals = terminals_in(transcript)
    width = round(COLUMNS * CHARACTER + 2 * MARGIN)
    height = sum(terminal.height + MARGIN for terminal in terminals) - MARGIN
    parts, top = [], 0.0
    for terminal in terminals:
        parts += window(terminal, top, width)
        top += terminal.height + MARGIN
    return document(width, round(height), "streamq in two terminals", ABOUT, STYLE, parts)


def window(terminal: Terminal, top: float, width: int) -> Iterator[str]:
    """One terminal, from ``top`` pixels downwards."""
    yield rect(0.5, top + 0.5, width - 1, terminal.height - 1, "terminal", 10)
    for number, kind in enumerate(("close", "shrink", "grow")):
        yield f'<circle class="{kind}" cx="{20 + 20 * number}" cy="{top + 17:g}" r="5.5"/>'
    yield text(width / 2, top + 22, terminal.title, "bar")
    for number, line in enumerate(terminal.lines):
        if line:
            yield shown(line, top + BAR + LINE * number + 16)


def shown(line: str, y: float) -> str:
    """One line, coloured, as wide as its characters in whatever font shows it."""
    wide = f' xml:space="preserve" textLength="{len(line) * CHARACTER:g}"'
    if line.startswith("$ "):
        return text(MARGIN, y, f"**{line}**", more=wide)
    kind = {"✓": "good", "→": "value", " ": "quiet"}.get(line[0], "")
    return text(MARGIN, y, line, kind, wide)


# Recording


def record() -> str:
    """Run the quick start of the README; return what two terminals have shown."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "shop")
        folder.mkdir()
        (folder / "tasks.py").write_text(quick_start(), encoding="utf-8")
        try:
            worked, sent = run(folder)
        finally:
            output_of("streamq server stop --yes", folder)
        transcript = f"== worker\n$ streamq worker\n{worked}\n== producer\n{sent}"
        return transcript.replace(str(folder), FOLDER)


def quick_start() -> str:
    """The module of tasks in the quick start of the README."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return readme.partition("```python\n")[2].partition("```")[0]


def run(folder: Path) -> tuple[str, str]:
    """Start a worker, and send it a task; return what it has logged, and what was printed."""
    log = folder / "worker.log"
    with log.open("wb") as file:
        worker = subprocess.Popen(
            streamq("streamq worker"), cwd=folder, env=environment(), stdout=file, stderr=file
        )
    try:
        wait_for("  tasks ", log)
        sent = "".join(f"$ {command}\n{output_of(command, folder)}" for command in COMMANDS)
        wait_for(" ok in ", log)
        return log.read_text(encoding="utf-8").rstrip("\n"), sent
    finally:
        worker.send_signal(signal.SIGINT)
        worker.wait(timeout=30)


def streamq(command: str) -> list[str]:
    """The arguments of a command, with the interpreter that runs this script."""
    return [sys.executable, "-m", *command.split()]


def environment() -> dict[str, str]:
    """Ours, without settings of streamq but those of the recording."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STREAMQ_")}
    return {**kept, **SETTINGS, "PYTHONPATH": str(ROOT), "COLUMNS": str(COLUMNS)}


def output_of(command: str, folder: Path) -> str:
    """What a command prints.  Raises CalledProcessError if it fails."""
    done = subprocess.run(
        streamq(command), cwd=folder, env=environment(), capture_output=True, text=True, check=True
    )
    return done.stdout


def wait_for(words: str, log: Path) -> None:
    """Wait until a worker has logged this.  Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE
    while words not in log.read_text(encoding="utf-8"):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {words!r} in {log}")
        time.sleep(0.05)


if __name__ == "__main__":
    if "--record" in sys.argv:
        TRANSCRIPT.write_text(record(), encoding="utf-8")
    PICTURE.write_text(draw(TRANSCRIPT.read_text(encoding="utf-8")), encoding="utf-8")
