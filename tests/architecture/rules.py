"""The rules of the architecture: layers, walls, exceptions and limits; stated here, once.

A module may import modules of a row below its own, or of its own row; imports must not go in a
circle, late imports included.  ``tests/test_architecture.py`` checks the package against them.
"""

from collections.abc import Mapping

#: From the bottom to the top.  A name alone is that module; ``runner.*`` is a whole package.
LAYERS: Mapping[str, str] = {
    "facts": "arguments errors states",
    "host": "host host.*",
    "core": "routing context schedule core core.*",
    "serialization": "serialization serialization.*",
    "config": "config config.*",
    "transport": "transport transport.*",
    "acl": "acl acl.*",
    "broker": "broker broker.*",
    "admin": "admin admin.*",
    "devserver": "devserver devserver.*",
    "calls": "middleware result signals tasks",
    "producer": "producer producer.*",
    "execution": "execution execution.*",
    "app": "app api discovery",
    "package": "streamq",
    "runner": "runner runner.*",
    "worker": "worker worker.*",
    "celery": "celery celery.*",
    "cli": "cli cli.* __main__",
    "contrib": "contrib contrib.*",
}

#: Which modules may import inside of a function: what they may import so, and why.
LATE: Mapping[str, tuple[str, str]] = {
    "streamq": (
        "streamq.*",
        "`import streamq` takes a few milliseconds: a public name is imported when it is first "
        "used, and a program that patches the standard library can do so before",
    ),
    "cli.*": (
        "streamq.* rich.*",
        "a command imports its own part alone: `streamq --help` would take a quarter of a second "
        "if it imported workers, the doctor and rich",
    ),
}
#: Who may load a module by its name as text.
BY_NAME = (
    "streamq celery serialization.codec serialization.compression config.importing "
    "producer.registry discovery cli.*"
)

#: Libraries, modules and functions that only some modules may use, and why.
WALLS = {
    "redis hiredis": (
        "transport.*",
        "every command to Redis goes through transport/",
    ),
    "subprocess multiprocessing signal os.fork os.kill os.waitpid os.execv os._exit": (
        "devserver.* runner.* worker.* cli.* __main__ core.termination",
        "only workers, runners and the development server handle processes",
    ),
    "threading select": (
        "transport.* broker.* devserver.* runner.* worker.* cli.* celery.contrib.testing.worker",
        "only modules that wait or work use threads",
    ),
    "asyncio": (
        "broker.aio transport.aio_connection transport.loops",
        "producers for asyncio use broker/aio",
    ),
    "gevent": (
        "runner.pools.gevent runner.pools.greenlet_forks runner.pools.hub_watchdog "
        "runner.gevent_main",
        "only a process started for gevent may load it",
    ),
    "click": ("cli.*", "only the command line writes to a terminal"),
    "rich": ("cli.* worker.*", "only output for people is drawn"),
    "os.environ os.getenv os.putenv": (
        "config.config host.launch devserver.* runner.inherited",
        "settings are read once, by config; launch reads the name by which a folder was entered; "
        "a worker passes its signal settings on when it reloads",
    ),
}

#: What may do no I/O and ask no clock: it computes results from its arguments alone.
PURE = "core core.* serialization serialization.*"
#: What such modules must not import.
IMPURE = (
    "socket ssl select selectors threading subprocess multiprocessing asyncio concurrent "
    "logging pathlib tempfile shutil signal redis streamq.host.clock"
)
#: What they may import all the same: ``Signals`` is an enumeration of names and numbers.
ALLOWED_IMPURE = {"core.termination": "signal.Signals"}
#: Built-in functions that do I/O.
IO_FUNCTIONS = frozenset({"open", "print", "input"})

#: Functions of ``time`` that tests freeze: ``streamq.host.clock`` has them as they were before.
CLOCKS = frozenset(
    {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"}
    | {"localtime", "gmtime", "strftime", "ctime", "asctime"}
)
TODAY = frozenset({"now", "utcnow", "today"})
FROZEN = "that a test may freeze: use host.clock"

#: The random generator to use: others repeat after a user's seed, and in forked children.
CHANCE = "random.SystemRandom"

#: Modules that only a newer Python has.
NEWER_PYTHON = "annotationlib"

LONGEST_FUNCTION, LONGEST_FILE = 60, 400
#: Parameters of a constructor, without ``self``; and modules in the root of the package.
MOST_PARAMETERS, MOST_ROOT_MODULES = 6, 20
#: Classes of the public API whose options are the parameters of their constructors.
OPTIONS_CLASSES = frozenset({"App", "Queue", "Exchange"})
#: Packages whose names users import from them, and from no module inside: as Celery has them,
#: or as Django imports them.
NAMED_PACKAGES = frozenset(
    {"streamq", "streamq.contrib.django", "streamq.celery", "streamq.celery.app"}
    | {"streamq.celery.kombu", "streamq.celery.kombu.utils", "streamq.celery.utils"}
)
#: Classes with more parameters than allowed, and why.
TOO_MANY_PARAMETERS: dict[str, str] = {}
