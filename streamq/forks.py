"""Noticing that this process has been forked, without asking the kernel each time."""

import os


class Forks:
    """How many forks lie between this process and the one that imported this.

    To compare that costs a twentieth of ``os.getpid``.  What forks without telling Python is
    not counted.
    """

    def __init__(self) -> None:
        self.count = 0
        os.register_at_fork(after_in_child=self.another)

    def another(self) -> None:
        """Count one more: this is the child."""
        self.count += 1


FORKS = Forks()
