"""The steps of histories: a bench with two queues and a consumer, and what it does often."""

import json
from typing import Any

from tests.model.bench import Bench
from tests.model.calls import Ending
from tests.model.ends import ending
from tests.model.profiles import PLAIN
from tests.model.values import Token

DEAD_LETTER = ("dead_letter", "rejected", "no")
AT_ONCE = ("later", "+0", "", "retries", "1")


def bench_for(server: Any) -> Bench:
    """The queues `mail` and `morgue`, and a consumer `c`; two dead letters are kept."""
    bench = Bench(server, most=2)
    bench.declare_exchange("dlx", "direct")
    declare(bench, "mail", PLAIN)
    bench.declare_queue("morgue", "{}", {}, "dead")
    bench.register("c")
    return bench


def declare(bench: Bench, name: str, settings: dict[str, Any]) -> None:
    bench.declare_queue(name, json.dumps(settings, separators=(",", ":")), settings)


def take(bench: Bench, id: str, consumer: str = "c", **options: Any) -> Token:
    """Send a message and read it; return its token."""
    bench.send(bench.message("mail", id=id, **options))
    (token,) = bench.read(consumer, "mail")
    return token


def done(token: Token, early: bool = False) -> Ending:
    return ending(token, "SUCCESS", early)
