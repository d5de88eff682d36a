"""The clocks of this system, as they are: where tests freeze time, our waits still end.

``freezegun`` puts functions of its own in the place of those of ``time``, in every module that
holds them.  These are the functions of another instance of that module, which it does not know.
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
