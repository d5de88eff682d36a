"""Guards against what may be wrong with messages and results: part C of the fault matrix."""

from tests.guards.guard import Guard

GUARDS: list[Guard] = []
