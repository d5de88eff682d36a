"""What could turn data into code stands where it must, and nowhere else.

Each word has the files that may hold it, with the reason.  A new place is a decision.
"""

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "streamq"

LATE = "one command, or one library that is an extra, is loaded when it is first used"
NAMED = "modules that the app, its configuration or the command line names; never a message"
ASKED = "the serializer 'pickle', for those who name it in accept_content"
WRITTEN = "what a project's settings say of its certificates is written into its URL, unchanged"

#: What is looked for, and where it may stand.
BY_DESIGN = {
    r"\bpickle\.|import pickle": {"serialization/codec.py": ASKED},
    r"\bmarshal\b|\bshelve\b|\bdill\b|\bcloudpickle\b": {},
    r"yaml\.(unsafe_|full_)?load\b|\bUnsafeLoader|\bFullLoader": {},
    r"(?<![\w.])eval\(|(?<![\w.])exec\(|(?<![\w.\"])compile\(": {},
    r"\bimport_module\(|__import__": {
        "__init__.py": LATE,
        "celery/__init__.py": LATE,
        "cli/celery.py": LATE,
        "cli/import_rewrites.py": "the name of a function whose argument it rewrites",
        "cli/main.py": LATE,
        "cli/migrate.py": "a module of ours, to see whether it has the name of an import",
        "serialization/codec.py": LATE,
        "serialization/compression.py": LATE,
        "discovery.py": NAMED,
        "config/importing.py": NAMED,
        "producer/registry.py": NAMED,
    },
    r"shell\s*=\s*True|os\.system\(|os\.popen\(": {},
    r"verify\s*=\s*False|CERT_NONE|check_hostname\s*=\s*False|ssl_cert_reqs": {
        "celery/config_servers.py": WRITTEN,
        "transport/tls.py": "the URL of a user may ask for less; the word is checked",
    },
    r"\btempfile\.mktemp\b|\brandom\.(random|choice|getrandbits)\(": {},
    r"hexdigest\(\)\s*==|digest\(\)\s*==": {},
}


def found(pattern: str, files: dict[str, str]) -> dict[str, list[str]]:
    """The lines that match, by file."""
    lines = {
        name: [line.strip() for line in text.splitlines() if re.search(pattern, code(line))]
        for name, text in files.items()
    }
    return {name: hits for name, hits in lines.items() if hits}


def code(line: str) -> str:
    """A line without its comment."""
    return "" if line.lstrip().startswith("#") else line


def sources() -> dict[str, str]:
    return {str(path.relative_to(PACKAGE)): path.read_text() for path in PACKAGE.rglob("*.py")}


@pytest.mark.parametrize("pattern", BY_DESIGN)
def test_what_runs_data_stands_only_where_it_must(pattern):
    places = found(pattern, sources())

    strays = {name: hits for name, hits in places.items() if name not in BY_DESIGN[pattern]}
    assert not strays, strays


@pytest.mark.parametrize("pattern", [each for each, places in BY_DESIGN.items() if places])
def test_every_place_that_is_granted_is_needed(pattern):
    assert set(BY_DESIGN[pattern]) == set(found(pattern, sources()))


@pytest.mark.parametrize(
    ("line", "pattern"),
    [
        ("value = pickle.loads(data)", r"\bpickle\.|import pickle"),
        ("return yaml.load(text)", r"yaml\.(unsafe_|full_)?load\b|\bUnsafeLoader|\bFullLoader"),
        ("eval(text)", r"(?<![\w.])eval\(|(?<![\w.])exec\(|(?<![\w.\"])compile\("),
        ("  x = exec(text)", r"(?<![\w.])eval\(|(?<![\w.])exec\(|(?<![\w.\"])compile\("),
        ("importlib.import_module(name)", r"\bimport_module\(|__import__"),
        ("run(words, shell=True)", r"shell\s*=\s*True|os\.system\(|os\.popen\("),
    ],
)
def test_the_search_sees_what_it_looks_for(line, pattern):
    assert pattern in BY_DESIGN
    assert found(pattern, {"new.py": line}) == {"new.py": [line.strip()]}
