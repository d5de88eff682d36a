"""A FastAPI application that sends tasks and tells how far they are.

streamq worker -A app
fastapi dev app.py, or: uvicorn app:api
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request

from streamq import App, ResultTimeout
from streamq.contrib.asgi import lifespan

queue = App("numbers", task_time_limit="1m")


@queue.task
def divisors(number: int) -> list[int]:
    return [each for each in range(1, number + 1) if number % each == 0]


@asynccontextmanager
async def own_lifespan(api: FastAPI) -> AsyncIterator[dict[str, int]]:
    """What lives as long as the server; FastAPI(lifespan=lifespan(queue)) if there is no more."""
    async with lifespan(queue):
        yield {"largest": 1_000_000}


api = FastAPI(lifespan=own_lifespan)


@api.post("/divisors/{number}", status_code=202)
async def begin(number: int, request: Request) -> dict[str, str]:
    if number > request.state.largest:
        raise HTTPException(422, "this number is too large")
    result = await divisors.aenqueue(number)
    return {"task": result.id}


@api.get("/tasks/{id}")
def state(id: str) -> dict[str, Any]:
    """How far the task is.  Asking Redis blocks, so this is no async function."""
    result = queue.result(id)
    return {"state": result.state, "divisors": result.get() if result.successful() else None}


@api.get("/tasks/{id}/result")
async def wait(id: str, seconds: float = 10) -> list[int]:
    """The divisors, as soon as they are known."""
    try:
        return await queue.result(id).aget(timeout=seconds)
    except ResultTimeout as error:
        raise HTTPException(504, str(error)) from None
