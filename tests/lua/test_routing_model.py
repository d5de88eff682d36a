"""Routing against an independent model of AMQP's rules, on random topologies.

The model knows bindings only, no index; its topic matcher is the recursive definition
from the AMQP text.  The scripts must agree with it whatever was declared, bound,
unbound and deleted before.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import fakeredis
import pytest
import redis as redis_py
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamq.transport.scripts import load, refusal

ROOT = "{model}"


# The model


@dataclass(frozen=True)
class Bound:
    """One binding.  ``arguments`` are (name, type name, value), sorted: 1, 1.0 and True differ."""

    exchange: str
    kind: str
    name: str
    key: str
    arguments: tuple[tuple[str, str, Any], ...] = ()


@dataclass
class Model:
    exchanges: dict[str, str] = field(default_factory=dict)
    alternates: dict[str, str] = field(default_factory=dict)
    queues: set[str] = field(default_factory=set)
    bindings: set[Bound] = field(default_factory=set)

    def route(self, exchange: str, key: str, headers: dict[str, Any]) -> set[str] | None:
        if exchange == "":
            return self.queues & {key}
        if exchange not in self.exchanges:
            return None
        return self.reach(exchange, key, headers, set())

    def reach(self, exchange: str, key: str, headers: dict[str, Any], seen: set[str]) -> set[str]:
        if exchange in seen or exchange not in self.exchanges:
            return set()
        seen.add(exchange)
        hits = set(self.matching(exchange, key, headers))
        found = {b.name for b in hits if b.kind == "queue"}
        further = sorted(b.name for b in hits if b.kind == "exchange")
        if not hits and exchange in self.alternates:
            further = [self.alternates[exchange]]
        for name in further:
            found |= self.reach(name, key, headers, seen)
        return found

    def matching(self, exchange: str, key: str, headers: dict[str, Any]) -> Iterator[Bound]:
        kind = self.exchanges[exchange]
        for binding in self.bindings:
            if binding.exchange != exchange:
                continue
            if (
                kind == "fanout"
                or (kind == "direct" and binding.key == key)
                or (kind == "topic" and topic_matches(words(binding.key), words(key)))
                or (kind == "headers" and headers_match(binding.arguments, headers))
            ):
                yield binding


def words(key: str) -> list[str]:
    return key.split(".") if key else []


def topic_matches(pattern: list[str], key: list[str]) -> bool:
    """`*` matches exactly one word, `#` zero or more."""
    match pattern:
        case []:
            return not key
        case ["#", *rest]:
            return any(topic_matches(rest, key[i:]) for i in range(len(key) + 1))
        case [first, *rest]:
            return bool(key) and first in ("*", key[0]) and topic_matches(rest, key[1:])
    raise AssertionError(pattern)


def headers_match(arguments: tuple[tuple[str, str, Any], ...], headers: dict[str, Any]) -> bool:
    how = next((value for name, _, value in arguments if name == "x-match"), "all")
    asked = [
        (name, type_name, value)
        for name, type_name, value in arguments
        if name != "x-match" and (how.endswith("-with-x") or not name.startswith("x-"))
    ]
    checks = [
        name in headers
        and (value is None or (type_name, value) == (type(headers[name]).__name__, headers[name]))
        for name, type_name, value in asked
    ]
    return all(checks) if how.startswith("all") else any(checks)


# The scripts


@dataclass
class Server:
    """Runs scripts by their text, so that a test can run them changed or without flags."""

    client: Any
    root: str = ROOT
    flags: bool = True
    edits: tuple[tuple[str, str], ...] = ()

    def run(self, name: str, *argv: str | int) -> Any:
        text = load(name).text
        if not self.flags:
            text = text.partition("\n")[2]
        if name == "publish":
            for old, new in self.edits:
                assert old in text, f"the mutant no longer applies: {old}"
                text = text.replace(old, new)
        try:
            return self.client.eval(text, 1, self.root, *argv)
        except redis_py.ResponseError as error:
            return refusal(error.args[0].removeprefix("ERR "))[0]

    def publish(self, exchange: str, key: str, headers: dict[str, Any]) -> set[str] | None:
        """The queues that really have the message now; nothing may stay in them."""
        flat = flattened(headers)
        argv = [exchange, key, "", 0, 0, "", "", "", len(headers), *flat, 1, "task", "t"]
        answer = self.run("publish", "", "", *argv)
        queues = self.client.hkeys(f"{self.root}:queues")
        holding = {q for q in queues if self.client.xlen(f"{self.root}:queue:{q}") == 1}
        for queue in holding:
            self.client.xtrim(f"{self.root}:queue:{queue}", maxlen=0, approximate=False)
        if answer == "NOEXCHANGE":
            return None
        assert holding == (set() if answer == "UNROUTABLE" else set(answer[0].split(":")))
        return holding

    def explain(self, exchange: str, key: str, headers: dict[str, Any]) -> Any:
        return self.run("explain_route", exchange, key, *flattened(headers))


def tagged(value: Any) -> str:
    match value:
        case None:
            return "v:"
        case bool():
            return f"b:{str(value).lower()}"
        case int() | float():
            return f"{type(value).__name__[0]}:{value!r}"
    return f"s:{value}"


def flattened(headers: dict[str, Any]) -> list[str]:
    return [text for name, value in headers.items() for text in (name, tagged(value))]


# What is tried

EXCHANGES = ["e", "e?=&", "é b"]
QUEUES = ["q", "q?=& %", "ü"]
WORD = st.sampled_from(["a", "b", "*", "#", "", "#", "é", "*a", "a#"])
KEY = st.one_of(
    st.lists(WORD, max_size=3).map(".".join),
    st.lists(st.sampled_from(["a", "#"]), max_size=5).map(".".join),
    st.sampled_from(["", "queue:q:a", "a?a", "a\nb", "a\0b", "%41", "q", "\r\n", "."]),
)
NAME = st.sampled_from(["a", "b", "x-c", "a", "b", "B", "", "a=s:1&"])
VALUE = st.sampled_from([None, 1, 1.0, 1, "1", True, "1", False, 0, "", "s:1", "é&=?%\n", "true"])
HEADERS = st.dictionaries(NAME, VALUE, max_size=4)
MATCH = st.sampled_from([{}, *({"x-match": m} for m in ("all", "any", "all-with-x", "any-with-x"))])
ARGUMENTS = st.builds(lambda match, asked: {**asked, **match}, MATCH, HEADERS)
EXCHANGE = st.sampled_from(EXCHANGES)
QUEUE = st.sampled_from(QUEUES)
DESTINATION = st.one_of(
    st.tuples(st.just("queue"), QUEUE),
    st.tuples(st.just("queue"), QUEUE),
    st.tuples(st.just("exchange"), EXCHANGE),
)
BINDING = st.tuples(EXCHANGE, DESTINATION, KEY, ARGUMENTS)
ACT = st.one_of(
    st.tuples(st.just("unbind one of"), st.integers(0, 100)),
    st.tuples(st.just("unbind"), BINDING),
    st.tuples(st.just("delete_queue"), QUEUE),
    st.tuples(st.just("delete_exchange"), EXCHANGE),
)
BINDS = st.lists(st.tuples(st.just("bind"), BINDING), min_size=3, max_size=15)
TYPE = st.sampled_from(["topic", "headers", "topic", "headers", "direct", "fanout"])
TOPOLOGY = st.fixed_dictionaries(
    {
        "exchanges": st.dictionaries(EXCHANGE, TYPE, min_size=2),
        "alternates": st.dictionaries(EXCHANGE, EXCHANGE, max_size=3),
        "queues": st.sets(QUEUE, min_size=2),
        "acts": st.builds(
            lambda first, undone, again: [*first, *undone, *again],
            BINDS,
            st.lists(ACT, max_size=4),
            st.lists(st.one_of(BINDS.map(lambda binds: binds[0]), ACT), max_size=6),
        ),
    }
)
QUESTIONS = st.lists(
    st.tuples(st.sampled_from([*EXCHANGES, *EXCHANGES, ""]), KEY, HEADERS),
    min_size=10,
    max_size=20,
)


def one_exchange(kind: str, key: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """A plan of nothing but bindings from one exchange to queues, and questions to it."""
    to_queue = st.tuples(st.just("queue"), QUEUE)
    binding = st.tuples(st.just("e"), to_queue, key, ARGUMENTS)
    plan = {
        "exchanges": st.just({"e": kind}),
        "alternates": st.just({}),
        "queues": st.just(QUEUES),
        "acts": st.lists(st.tuples(st.just("bind"), binding), min_size=3, max_size=8),
    }
    questions = st.lists(st.tuples(st.just("e"), key, HEADERS), min_size=10, max_size=20)
    return st.tuples(st.fixed_dictionaries(plan), questions)


DENSE_KEY = st.lists(st.sampled_from(["a", "*", "#", ""]), max_size=4).map(".".join)
TRIALS = {
    "everything": st.tuples(TOPOLOGY, QUESTIONS),
    "topics": one_exchange("topic", DENSE_KEY),
    "headers": one_exchange("headers", st.just("")),
}


def build(server: Server, plan: dict[str, Any]) -> Model:
    """Do everything in the plan on the server and in the model; their answers must agree."""
    server.client.flushall()
    model = Model(exchanges=plan["exchanges"], queues=plan["queues"])
    model.exchanges, model.queues = dict(model.exchanges), set(model.queues)
    model.alternates = {k: v for k, v in plan["alternates"].items() if k in model.exchanges}
    declare(server, model)
    for act, what in plan["acts"]:
        if act == "bind":
            bind(server, model, *what)
        elif act == "unbind":
            unbind(server, model, bound(model, *what))
        elif act == "unbind one of" and model.bindings:
            unbind(server, model, sorted(model.bindings, key=repr)[what % len(model.bindings)])
        elif act == "delete_queue":
            delete_queue(server, model, what)
        elif act == "delete_exchange":
            delete_exchange(server, model, what)
    return model


def declare(server: Server, model: Model) -> None:
    for name, kind in model.exchanges.items():
        argv = (name, kind, model.alternates.get(name, ""))
        assert server.run("declare_exchange", *argv) == [1]
    for name in model.queues:
        assert server.run("declare_queue", name, "{}") == [1]


def bound(
    model: Model, exchange: str, destination: tuple[str, str], key: str, arguments: dict[str, Any]
) -> Bound:
    if model.exchanges.get(exchange) != "headers":
        arguments = {}
    listed = sorted((k, type(v).__name__, v) for k, v in arguments.items())
    return Bound(exchange, *destination, key, tuple(listed))


def argv_of(binding: Bound) -> list[str]:
    pairs = [text for name, _, value in binding.arguments for text in (name, tagged(value))]
    return [binding.exchange, binding.kind, binding.name, binding.key, *pairs]


def bind(server: Server, model: Model, *what: Any) -> None:
    binding = bound(model, *what)
    answer = server.run("bind", *argv_of(binding))
    known = model.queues if binding.kind == "queue" else model.exchanges
    if binding.exchange not in model.exchanges:
        assert answer == "NOEXCHANGE"
    elif binding.name not in known:
        assert answer == ("NOQUEUE" if binding.kind == "queue" else "NOEXCHANGE")
    else:
        assert answer == (binding not in model.bindings)
        model.bindings.add(binding)


def unbind(server: Server, model: Model, binding: Bound) -> None:
    assert server.run("unbind", *argv_of(binding)) == (binding in model.bindings)
    model.bindings.discard(binding)


def delete_queue(server: Server, model: Model, name: str) -> None:
    gone = {b for b in model.bindings if (b.kind, b.name) == ("queue", name)}
    assert server.run("delete_queue", name) == (len(gone) if name in model.queues else -1)
    model.queues.discard(name)
    model.bindings -= gone


def delete_exchange(server: Server, model: Model, name: str) -> None:
    gone = {
        b for b in model.bindings if b.exchange == name or (b.kind, b.name) == ("exchange", name)
    }
    assert server.run("delete_exchange", name) == (len(gone) if name in model.exchanges else -1)
    model.exchanges.pop(name, None)
    model.alternates.pop(name, None)
    model.bindings -= gone


def check(server: Server, model: Model, questions: list[Any]) -> None:
    for exchange, key, headers in questions:
        expected = model.route(exchange, key, headers)
        assert server.publish(exchange, key, headers) == expected
        check_explanation(server, model, exchange, key, headers, expected)


def check_explanation(
    server: Server,
    model: Model,
    exchange: str,
    key: str,
    headers: dict[str, Any],
    expected: set[str] | None,
) -> None:
    answer = server.explain(exchange, key, headers)
    if expected is None:
        assert answer == "NOEXCHANGE"
        return
    queues, *steps = answer
    assert set(filter(None, queues.split(":"))) == expected
    told = sorted(tuple(step[:1]) + tuple(step[3:5]) for step in steps if step[2] == "binding")
    visited = {step[0] for step in steps}
    matched = [b for x in visited if x for b in model.matching(x, key, headers)]
    assert told == sorted((b.exchange, f"{b.kind}:{b.name}", b.key) for b in matched)
    assert {step[3].partition(":")[2] for step in steps if step[3][:5] == "queue"} == expected


def index(server: Server) -> dict[str, Any]:
    names = server.client.keys(f"{server.root}:*")
    hashes = [name for name in names if ":queue:" not in name]
    return {name.removeprefix(server.root): server.client.hgetall(name) for name in hashes}


# The tests


@pytest.fixture(params=["server", "fakeredis"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    if request.param == "server":
        yield Server(request.getfixturevalue("redis"))
        return
    with fake_client() as client:
        yield Server(client, flags=False)


@contextmanager
def fake_client() -> Iterator[Any]:
    client = fakeredis.FakeRedis(decode_responses=True, encoding_errors="surrogateescape")
    yield client
    client.close()


SETTINGS = settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def each(server: Server, drawn: Any, attempt: Callable[[Any], None]) -> None:
    """Try out what Hypothesis draws; fakeredis is slow, and what it runs is the same Lua."""
    few = settings(SETTINGS, max_examples=SETTINGS.max_examples if server.flags else 10)
    few(given(drawn)(attempt))()


@pytest.mark.parametrize("trial", TRIALS)
def test_every_message_goes_where_the_model_says(server, trial):
    def attempt(tried):
        plan, questions = tried
        check(server, build(server, plan), questions)

    each(server, TRIALS[trial], attempt)


def test_the_index_is_the_same_as_one_built_at_once(server):
    def attempt(plan):
        model = build(server, plan)
        fresh = Server(server.client, "{fresh}", server.flags)
        copy = Model(dict(model.exchanges), dict(model.alternates), set(model.queues))
        declare(fresh, copy)
        for binding in sorted(model.bindings, key=repr):
            assert fresh.run("bind", *argv_of(binding)) == 1
        assert index(server) == index(fresh)

    each(server, TOPOLOGY, attempt)


def test_unbinding_everything_leaves_no_index_and_deleting_everything_no_key(server):
    def attempt(plan):
        model = build(server, plan)
        for binding in sorted(model.bindings, key=repr, reverse=True):
            unbind(server, model, binding)
        assert not server.client.keys("*:routes:*")
        assert not server.client.keys("*:bindings:*")
        for name in list(model.queues):
            delete_queue(server, model, name)
        for name in list(model.exchanges):
            delete_exchange(server, model, name)
        assert server.client.keys("*") == []

    each(server, TOPOLOGY, attempt)


MUTANTS = {
    "# means one word or more": (
        "topics",
        ("if node.hash then", "if false then"),
        (
            "if node.star then",
            "if node.hash then paths[#paths + 1] = path .. '.#' end if node.star then",
        ),
    ),
    "# means at most one word": ("topics", ("string.sub(path, -2) == '.#'", "false")),
    "* is not looked at": ("topics", ("if node.star then", "if false then")),
    "a last, empty word is forgotten": (
        "topics",
        ("if not dot then", "if not dot then if from > #key then return words end"),
    ),
    "neighbouring headers do not combine": ("headers", ("last[path] + 1", "last[path] + 2")),
    "types of headers do not matter": (
        "headers",
        ("escaped(headers[i + 1])", "'s' .. escaped(string.sub(headers[i + 1], 2))"),
    ),
    "alternates are always tried": ("everything", ("if next(hits) == nil then", "if true then")),
    "alternates are never tried": ("everything", ("if next(hits) == nil then", "if false then")),
    "exchanges are not followed": ("everything", ("if kind == 'exchange' then", "if false then")),
    "a copy for each binding": ("everything", ("elseif not reached[target] then", "else")),
}
