"""prctl(2): what a process asks Linux: its name, the end of its parent, its orphans."""

import ctypes
import sys

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_GET_CHILD_SUBREAPER = 37

#: Looked up at the import, because little may be done between fork and exec; None elsewhere.
PRCTL = getattr(ctypes.CDLL(None), "prctl", None) if sys.platform == "linux" else None


def signal_at_parents_death(number: int) -> bool:
    """Have the kernel send this signal to us when our parent ends; False if it cannot.

    The parent may have ended before this call: compare ``os.getppid()`` after it.
    """
    if PRCTL is None:
        return False
    PRCTL(PR_SET_PDEATHSIG, number)
    return True


def name_process(name: str) -> None:
    """Set the name that ``ps -o comm`` and ``top`` show for us: 15 bytes at most."""
    if PRCTL is not None:
        PRCTL(PR_SET_NAME, name.encode())


def is_subreaper() -> bool:
    """Whether this process is a subreaper, by its own request or before it became a worker."""
    asked = ctypes.c_int(0)
    if PRCTL is not None:
        PRCTL(PR_GET_CHILD_SUBREAPER, ctypes.byref(asked), 0, 0, 0)
    return bool(asked.value)
