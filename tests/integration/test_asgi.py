"""FastAPI and Starlette: the lifespan of streamq, alone and inside of another one."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from streamq.celery import current_app
from streamq.contrib.asgi import lifespan
from streamq.errors import ConfigError


@pytest.fixture
def double(app):
    return app.task(name="double")(lambda x: 2 * x)


def names(redis):
    """The names of the connections of streamq that are open."""
    return {each["name"] for each in redis.client_list() if each["name"].startswith("streamq")}


def test_connections_live_as_long_as_the_web_server(app, double, working, redis, eventually):
    async def ask(request):
        result = await double.aenqueue(int(request.query_params["x"]))
        return PlainTextResponse(str(await result.aget(timeout=5)))

    def ask_in_a_thread(request):
        result = double.enqueue(int(request.query_params["x"]))
        return PlainTextResponse(str(result.get(timeout=5)))

    routes = [Route("/async", ask), Route("/thread", ask_in_a_thread)]
    api = Starlette(routes=routes, lifespan=lifespan(app))

    for _ in range(2):  # the same application may be started again
        with working(app), TestClient(api) as client:
            assert client.get("/async", params={"x": 3}).text == "6"
            assert client.get("/thread", params={"x": 4}).text == "8"
            assert "streamq:asyncio" in names(redis)
        eventually(lambda: not names(redis))


def test_an_own_lifespan_may_contain_that_of_streamq(app, double, drain, redis, eventually):
    @asynccontextmanager
    async def own(api):
        async with lifespan(app):
            yield {"factor": 21}

    api = FastAPI(lifespan=own)

    @api.post("/")
    async def send(request: Request) -> str:
        return (await double.aenqueue(request.state.factor)).id

    with TestClient(api) as client:
        sent = client.post("/").json()
    eventually(lambda: not names(redis))

    assert drain(app) == 1
    assert app.result(sent).get(timeout=5) == 42


def test_a_lifespan_without_the_app_of_streamq_says_what_to_write():
    api = FastAPI(lifespan=lifespan)  # the framework calls it with itself

    with pytest.raises(ConfigError, match="not FastAPI") as refused, TestClient(api):
        pass
    assert "lifespan=lifespan(queue)" in str(refused.value)


def test_the_current_app_may_be_given():
    assert lifespan(current_app).apps == (current_app,)


def test_the_connections_of_the_event_loop_are_closed_before_it_ends(app, double, redis):
    async def serve():
        async with lifespan(app):
            await double.aenqueue(1)
            assert "streamq:asyncio" in names(redis)
        for _ in range(100):
            if not names(redis):
                return True
            await asyncio.sleep(0.01)
        return False

    assert asyncio.run(serve())
