"""Optional packages: the check that one is there, and the error that says how to install it."""

import importlib.util

from streamq.errors import ConfigError


def require(module: str, extra: str) -> None:
    """Raise ConfigError with the exact command if an optional package is not installed."""
    if importlib.util.find_spec(module) is None:
        raise not_installed(module, extra)


def not_installed(package: str, extra: str) -> ConfigError:
    """The error for an optional package that is not there; ``extra`` brings it."""
    return ConfigError(f"{package} is not installed", advice=[f'pip install "streamq[{extra}]"'])
