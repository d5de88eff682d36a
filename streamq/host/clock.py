"""Clocks of the system that cannot be frozen: timeouts end also in tests that freeze time.

``freezegun`` replaces the functions of ``time`` in every module that has them.  These are
the functions of a second instance of that module, which it does not find.
"""

from collections.abc import Callable
from importlib.machinery import BuiltinImporter, ModuleSpec

OWN = BuiltinImporter.create_module(ModuleSpec("time", None))
assert OWN is not None
BuiltinImporter.exec_module(OWN)

time: Callable[[], float] = OWN.time
time_ns: Callable[[], int] = OWN.time_ns
monotonic: Callable[[], float] = OWN.monotonic
monotonic_ns: Callable[[], int] = OWN.monotonic_ns
perf_counter: Callable[[], float] = OWN.perf_counter
