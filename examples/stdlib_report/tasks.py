"""One task: look into one Python file."""

import ast
import hashlib
from dataclasses import dataclass
from pathlib import Path

from streamq import App, Binding, Exchange, Queue

#: A file travels under the name of its module: module.argparse, module.json.decoder.
files = Exchange("files", type="topic")

app = App("stdlib_report")
app.queues = [
    Queue("modules", files, routing_key="module.*"),  # one word more: a single module
    Queue("packages", bindings=[Binding(files, "module.*.*.#")]),  # two or more: in a package
]


@dataclass(frozen=True)
class Report:
    lines: int
    functions: int
    classes: int
    longest: str
    longest_lines: int
    sha256: str


@app.task
def analyse(path: str) -> Report:
    """Count and measure.  A file that does not parse raises SyntaxError, and fails as a task."""
    source = Path(path).read_bytes()
    functions, classes, longest, most = 0, 0, "", 0
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.ClassDef):
            classes += 1
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions += 1
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > most:
                longest, most = node.name, lines
    digest = hashlib.sha256(source).hexdigest()
    return Report(len(source.splitlines()), functions, classes, longest, most, digest)
