"""Optional packages: the check that one is installed."""

import importlib.util

from streamq.errors import ConfigError


def require(module: str, extra: str) -> None:
    """Raise ConfigError with the exact command if an optional package is not installed."""
    if importlib.util.find_spec(module) is None:
        raise ConfigError(f"{module} is not installed", advice=[f'pip install "streamq[{extra}]"'])
