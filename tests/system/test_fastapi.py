"""The example with FastAPI: its own tests pass, which run a worker."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "fastapi_app"


def test_the_example_passes_its_tests(tmp_path, server_url, redis):
    folder = tmp_path / "example"
    shutil.copytree(EXAMPLE, folder)
    env = {name: value for name, value in os.environ.items() if not name.startswith("STREAMQ_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        env={**env, "PYTHONPATH": str(EXAMPLE.parents[1]), "STREAMQ_URL": server_url},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
