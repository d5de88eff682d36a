"""Layers of middleware around sending: every way to send passes through them."""

import asyncio
from dataclasses import replace

import pytest
from click.testing import CliRunner

import streamq
from streamq import Middleware, PartlyPublished, Unroutable
from streamq.cli.main import main


class Stamping(Middleware):
    """Notes every call that passes, and sends it with a header of its own."""

    def __init__(self, name="a", noted=None):
        self.name = name
        self.noted = [] if noted is None else noted

    def stamped(self, call):
        self.noted.append((self.name, *call.args))
        headers = {**call.options.get("headers", {}), self.name: len(self.noted)}
        return replace(call, options={**call.options, "headers": headers})

    def publish(self, call, next):
        return next(self.stamped(call))

    async def apublish(self, call, next):
        return await next(self.stamped(call))


class Refusing(Middleware):
    """Raises before a call with this argument is sent."""

    def __init__(self, wrong):
        self.wrong = wrong

    def publish(self, call, next):
        if self.wrong in call.args:
            raise PermissionError("not that one")
        return next(call)


@pytest.fixture
def headers(app):
    return app.task(name="headers", bind=True)(lambda self, x=0: self.request.headers)


def test_every_way_to_send_passes_through_the_layers(app, headers, drain):
    app.middleware = [layer := Stamping()]

    results = [
        headers.enqueue(1),
        headers.delay(2),
        headers.apply_async((3,)),
        headers.options(priority=1).enqueue(4),
        app.enqueue("headers", 5),
        streamq.enqueue(headers.s(6)),
        *app.enqueue_many(headers.s(x) for x in (7, 8)),
    ]
    drain(app)

    assert layer.noted == [("a", x) for x in range(1, 9)]
    assert [result.get(timeout=5) for result in results] == [{"a": x} for x in range(1, 9)]


def test_asyncio_passes_through_its_own_method(app, headers, drain):
    app.middleware = [layer := Stamping()]

    async def main():
        result = await headers.aenqueue(1)
        await app.aclose()
        return result

    result = asyncio.run(main())
    drain(app)

    assert (layer.noted, result.get(timeout=5)) == ([("a", 1)], {"a": 1})


def test_the_first_layer_is_the_outermost_and_the_last_list_counts(app, headers, drain):
    noted = []
    app.middleware = [Stamping("old", noted)]
    app.middleware = [Stamping("a", noted), Stamping("b", noted)]

    result = headers.enqueue(1)
    drain(app)

    assert noted == [("a", 1), ("b", 1)]
    assert result.get(timeout=5) == {"a": 1, "b": 2}


def test_a_layer_that_raises_sends_nothing(app, headers, streams):
    app.middleware = [Refusing(2), Stamping()]

    with pytest.raises(PermissionError):
        headers.enqueue(2)
    assert streams(app) == {}

    with pytest.raises(PartlyPublished, match="not that one") as stopped:
        app.enqueue_many(headers.s(x) for x in (1, 2, 3))

    assert isinstance(stopped.value.__cause__, PermissionError)
    assert streams(app) == {"default": 1}
    assert [result.id for result in stopped.value.accepted] != []
    assert [call.args for call in stopped.value.remaining] == [(2,), (3,)]


def test_a_layer_that_does_not_call_next_answers_itself(app, headers, streams):
    class Instead(Middleware):
        def publish(self, call, next):
            return app.result("another")

    app.middleware = [Instead()]

    assert headers.enqueue(1).id == "another"
    assert [result.id for result in app.enqueue_many([headers.s(1)])] == ["another"]
    assert streams(app) == {}


def test_a_layer_is_told_what_sending_raises(app, headers):
    told = []

    class Telling(Middleware):
        def publish(self, call, next):
            try:
                return next(call)
            except Unroutable as error:
                told.append(error)
                raise

    app.middleware = [Telling()]

    with pytest.raises(Unroutable):
        headers.options(exchange="nowhere").enqueue(1)
    assert len(told) == 1


def test_in_eager_mode_calls_pass_through_both_sides(make_app):
    app, noted = make_app(url="redis://localhost:1", task_always_eager=True), []

    class Both(Stamping):
        def run(self, task, next):
            noted.append(("run", *task.request.args))
            return next(task)

    app.middleware = [Both(noted=noted)]
    headers = app.task(name="headers", bind=True)(lambda self, x: self.request.headers)

    assert headers.enqueue(1).get() == {"a": 1}
    assert asyncio.run(headers.aenqueue(2)).get() == {"a": 3}
    assert [result.get() for result in app.enqueue_many([headers.s(3)])] == [{"a": 5}]
    assert noted == [(side, x) for x in (1, 2, 3) for side in ("a", "run")]

    headers.apply((4,))  # runs here and is not sent: the layers around the run alone

    assert noted[6:] == [("run", 4)]


def test_what_a_layer_raises_in_a_worker_the_task_has_raised(app, headers, drain):
    class Raising(Middleware):
        def run(self, task, next):
            raise PermissionError(f"{task.name} may not run")

    app.middleware = [Raising()]

    result = headers.enqueue(1)
    drain(app)

    with pytest.raises(PermissionError, match="headers may not run"):
        result.get(timeout=5)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return None", "not sent: middleware of the app returned None"),
        ("return len(5)", "middleware of the app, or the call, failed: TypeError: object of type"),
    ],
)
def test_a_layer_that_does_not_send_shows_no_traceback_on_the_command_line(
    server_url, redis, tmp_path, monkeypatch, body, said
):
    (tmp_path / f"odd_layers_{len(body)}.py").write_text(f"""
import streamq
app = streamq.App("odd", url={server_url!r})
@app.task(name="odd.add")
def add(x): return x
class Odd(streamq.Middleware):
    def publish(self, call, next):
        {body}
app.middleware = [Odd()]
""")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    done = CliRunner().invoke(main, ["-A", f"odd_layers_{len(body)}", "enqueue", "odd.add", "1"])

    assert done.exit_code == 1
    assert said in done.output
    assert "Traceback" not in done.output
