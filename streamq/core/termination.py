"""Signals that may end a running task."""

from signal import Signals

from streamq.core.text import nearest
from streamq.errors import ConfigError

#: Their names; SIGTERM raises inside the task, any other goes to its process.
ENDING = ("SIGTERM", "SIGKILL", "SIGINT", "SIGQUIT", "SIGABRT", "SIGUSR1", "SIGUSR2", "SIGHUP")

#: The number of the one that raises inside the task.
SIGTERM = int(Signals.SIGTERM)


def signal_name(given: str | int) -> str:
    """Return the name of a signal that may end a task: SIGTERM for "term", 15, "SIGTERM".

    Raises ConfigError for any other.
    """
    known = {str(int(each)): each.name for each in Signals}
    word = str(int(given) if isinstance(given, int) else given).upper()
    name = known.get(word, word if word.startswith("SIG") else f"SIG{word}")
    if name not in ENDING:
        near = None if name in Signals.__members__ else nearest(name, ENDING)
        raise ConfigError(
            f"no task is ended by the signal {given!r}",
            known={"signals": ", ".join(ENDING)},
            advice=[f"did you mean {near!r}?"] if near else (),
        )
    return name
