"""Files of settings: ``streamq.toml``, or ``[tool.streamq]`` in ``pyproject.toml``."""

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

from streamq.config.given import GivenValue
from streamq.errors import ConfigError
from streamq.host.launch import working_folder


def of_nearest_file(folder: Path | None) -> Iterator[GivenValue]:
    """Yield the settings of the nearest file: in this folder, else in the nearest one above."""
    start = folder.absolute() if folder else Path(working_folder())
    for place in (start, *start.parents):
        for read in (read_streamq_toml, read_pyproject):
            path, settings = read(place)
            if settings is None:
                continue
            origin = f"{path.name} ({path.parent})"
            yield from (
                GivenValue(n.replace("-", "_"), value, origin) for n, value in settings.items()
            )
            return


def read_streamq_toml(folder: Path) -> tuple[Path, dict[str, object] | None]:
    path = folder / "streamq.toml"
    content = read_if_there(path)
    return path, None if content is None else parse(content, path)


def read_pyproject(folder: Path) -> tuple[Path, dict[str, object] | None]:
    path = folder / "pyproject.toml"
    content = read_if_there(path)
    if content is None or b"streamq" not in content:  # no need to parse it, or to report its errors
        return path, None
    tools = parse(content, path).get("tool")
    settings = tools.get("streamq") if isinstance(tools, dict) else None
    if settings is not None and not isinstance(settings, dict):
        raise ConfigError(f"tool.streamq in {path} is not a table", advice=["[tool.streamq]"])
    return path, settings


def read_if_there(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        if not os.path.exists(path):  # a folder above that may not be searched
            return None
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def parse(content: bytes, path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(content.decode())
    except ValueError as error:  # not TOML, or not UTF-8
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
