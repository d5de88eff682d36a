"""Type checkers know what a call returns, and refuse arguments that do not fit."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "tests" / "typing"


def mypy(sample, folder):
    """The lines that mypy --strict complains of, and what it said."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--no-error-summary"),
            *("--cache-dir", str(folder), "--config-file", str(ROOT / "setup.cfg"), str(sample)),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    found = re.findall(rf"{sample.name}:(\d+): error: (.*)", done.stdout)
    assert done.returncode == bool(found), done.stdout + done.stderr
    return {int(line): text for line, text in found}


def pyright(sample, folder):
    """The lines that pyright complains of, and what it said."""
    pytest.importorskip("pyright", reason="pyright is not installed")
    (folder / "pyrightconfig.json").write_text(
        json.dumps({"include": ["."], "extraPaths": [str(ROOT)]})
    )
    shutil.copy(sample, folder)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pyright", "--outputjson"),
            *("--project", str(folder), "--pythonpath", sys.executable),
        ],
        capture_output=True,
        text=True,
        cwd=folder,
    )
    if done.returncode > 1 or not done.stdout.startswith("{"):
        pytest.skip(f"pyright cannot run here: {(done.stderr or done.stdout).strip()[-200:]}")
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == 1, report["summary"]
    return {
        each["range"]["start"]["line"] + 1: each["message"]
        for each in report["generalDiagnostics"]
        if each["severity"] == "error" and each["file"].endswith(sample.name)
    }


@pytest.fixture(scope="module")
def memory(tmp_path_factory):
    """A folder where mypy remembers streamq from one sample to the next."""
    return tmp_path_factory.mktemp("mypy")


@pytest.fixture(params=["mypy", "pyright"])
def check(request, memory, tmp_path):
    if request.param == "mypy":
        return lambda name: mypy(SAMPLES / name, memory)
    return lambda name: pyright(SAMPLES / name, tmp_path)


def test_calls_that_fit_are_accepted_and_their_types_known(check):
    assert check("calls_that_fit.py") == {}


def test_calls_that_do_not_fit_are_refused(check):
    name = "calls_that_do_not_fit.py"
    lines = (SAMPLES / name).read_text().splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# WRONG")}

    refused = check(name)

    missed = [lines[number - 1].strip() for number in sorted(wrong - set(refused))]
    assert not missed, f"accepted although wrong: {missed}"
    assert set(refused) == wrong, {n: refused[n] for n in set(refused) - wrong}
