"""What is built is what runs: from sdist to wheel, installed, editable, and as a checkout."""

import importlib.metadata
import json
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: Loads every script, and says where streamq and its scripts lie.
LOAD_ALL = """
import json, streamq, sys
from streamq.transport import scripts
print(json.dumps({
    "package": streamq.__file__,
    "folder": str(scripts.folder()),
    "shas": {name: scripts.load(name).sha for name in scripts.names()},
}))
"""


def run(*command, cwd, **more):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=cwd, **more
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def loaded_by(python, cwd):
    """What this interpreter loads, asked from outside the repository."""
    return json.loads(run(python, "-c", LOAD_ALL, cwd=cwd))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the files that the build reads: building leaves traces beside them."""
    folder = tmp_path_factory.mktemp("checkout") / "streamq"
    skipped = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("streamq", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=skipped)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def checkout(source, tmp_path_factory):
    """What a plain checkout loads, without an install."""
    code = f"import sys; sys.path.insert(0, {str(source)!r})\n{LOAD_ALL}"
    return json.loads(run(sys.executable, "-c", code, cwd=tmp_path_factory.mktemp("elsewhere")))


def environment(folder):
    """An environment that sees the libraries of this one, but not its streamq."""
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    (site / "libraries.pth").write_text("\n".join(libraries))
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    """An interpreter with a setuptools that can build; fetched if the one here is too old."""
    pytest.importorskip("build", reason="the package build is not installed")
    python = environment(tmp_path_factory.mktemp("builder"))
    if int(importlib.metadata.version("setuptools").partition(".")[0]) < 77:
        try:
            install(python, "--ignore-installed", "setuptools>=77")
        except AssertionError as error:
            pytest.skip(f"setuptools here is too old, and no newer one can be had: {error}")
    return python


def install(python, *what):
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    run(*pip, *what, cwd=python.parent)


@pytest.fixture(scope="module")
def built(source, builder, tmp_path_factory):
    """The sdist, and the wheel that was built from it and from nothing else."""
    folder = tmp_path_factory.mktemp("dist")
    run(builder, "-m", "build", "--no-isolation", "-o", folder, source, cwd=folder)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The interpreter of an environment with the wheel in it."""
    python = environment(tmp_path_factory.mktemp("installed"))
    install(python, "--no-index", "--ignore-installed", built[1])
    return python


def files(folder, pattern):
    """The paths of files below a folder, relative to it."""
    return {str(path.relative_to(folder)) for path in folder.rglob(pattern)}


def test_a_plain_checkout_works_without_an_install(source, checkout):
    assert checkout["package"] == str(source / "streamq" / "__init__.py")
    assert checkout["folder"] == str(source / "scripts" / "lua")
    assert set(checkout["shas"]) == {path.stem for path in (source / "scripts/lua").glob("*.lua")}


def test_the_sdist_carries_every_script(source, built):
    with tarfile.open(built[0]) as sdist:
        carried = {name.partition("/")[2] for name in sdist.getnames()}

    assert {f"scripts/lua/{path}" for path in files(source / "scripts/lua", "*.lua")} <= carried


def test_the_wheel_built_from_it_carries_the_scripts_and_every_module(source, built):
    with zipfile.ZipFile(built[1]) as wheel:
        carried = set(wheel.namelist())

    scripts = {f"streamq/lua/{path}" for path in files(source / "scripts/lua", "*.lua")}
    modules = {f"streamq/{path}" for path in files(source / "streamq", "*.py")}
    assert not scripts - carried
    assert not modules - carried
    assert "streamq/py.typed" in carried


def test_the_wheel_carries_nothing_else(built):
    with zipfile.ZipFile(built[1]) as wheel:
        outside = [n for n in wheel.namelist() if not n.startswith(("streamq/", "streamq-"))]

    assert not outside


def test_the_wheel_works_where_it_is_installed(installed, checkout, tmp_path):
    home = str(installed.parents[1])

    loaded = loaded_by(installed, tmp_path)

    assert loaded["package"].startswith(home)
    assert loaded["folder"].startswith(home)
    assert loaded["shas"] == checkout["shas"]


def test_the_wheel_works_as_a_zip_file_too(built, checkout, tmp_path):
    code = f"import sys; sys.path.insert(0, {str(built[1])!r})\n{LOAD_ALL}"

    loaded = json.loads(run(sys.executable, "-c", code, cwd=tmp_path))

    assert loaded["package"].startswith(str(built[1]))
    assert loaded["shas"] == checkout["shas"]


def test_the_installed_command_runs(installed, tmp_path):
    said = run(installed.with_name("streamq"), "--help", cwd=tmp_path)

    assert "worker" in said
    assert "enqueue" in said


def test_an_editable_install_uses_the_scripts_of_the_checkout(source, builder, checkout, tmp_path):
    install(builder, "--no-build-isolation", "--editable", source)

    loaded = loaded_by(builder, tmp_path)

    assert loaded["package"] == str(source / "streamq" / "__init__.py")
    assert loaded["folder"] == str(source / "scripts" / "lua")
    assert loaded["shas"] == checkout["shas"]
