"""Guards against what Redis and the network may do: part B of the fault matrix."""

from tests.guards.guard import Guard

GUARDS: list[Guard] = []
