"""The patches of gevent and eventlet in the standard library, and which pools can run with them.

In a sequential pool a patched wait would not wait for the system, and limits would reach no task.
"""

import sys
from collections.abc import Collection
from typing import Any

from streamq.errors import ConfigError

#: The modules whose patches matter.
PATCHED = (
    *("os", "queue", "select", "selectors", "signal", "socket", "ssl", "subprocess"),
    *("thread", "threading", "time"),
)


#: The modules that patch, if they are imported.
GEVENT, EVENTLET = "gevent.monkey", "eventlet.patcher"


def patched() -> list[str]:
    """The modules that gevent or eventlet has patched."""
    return [*patched_by_gevent(), *patched_by_eventlet()]


def patched_by_gevent() -> list[str]:
    """The modules that gevent has patched."""
    monkey: Any = sys.modules.get(GEVENT)
    if monkey is None or not monkey.is_anything_patched():
        return []
    return [name for name in PATCHED if monkey.is_module_patched(name)]


def patched_by_eventlet() -> list[str]:
    """The modules that eventlet has patched."""
    patcher: Any = sys.modules.get(EVENTLET)
    done: Collection[str] = getattr(patcher, "already_patched", ())
    return [name for name in PATCHED if name in done]


def check_patches(pool: str) -> None:
    """Check that this pool can run with what has been patched.  Raises ConfigError."""
    if names := patched_by_eventlet():
        raise ConfigError(
            "no pool can run what eventlet has patched",
            known={"patched": ", ".join(names)},
            advice=[
                "take eventlet.monkey_patch() out of what the worker imports",
                "--pool gevent  runs tasks in greenlets, without a patch of yours",
            ],
        )
    if pool != "gevent" and (names := patched_by_gevent()):
        raise ConfigError(
            f"the pool {pool} cannot run what gevent has patched",
            known={"patched": ", ".join(names)},
            advice=[
                "--pool gevent  runs these tasks in greenlets",
                "else take gevent.monkey.patch_all() out of what the worker imports; a web server "
                "that needs it can call it in a module of its own",
            ],
        )
