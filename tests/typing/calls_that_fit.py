"""Calls that a type checker must accept, and what it must know about them."""

from collections.abc import Awaitable, Callable
from typing import Any, assert_type

import streamq
from streamq import App, Middleware, Result, Retry, Running, Signature, Task

app = App("typing")


@app.task
def add(x: int, y: int = 0) -> int:
    return x + y


@app.task(queue="mail", acks_late=False)
def send(address: str, *, subject: str = "") -> None: ...


@app.task(bind=True)
def fetch(self: Running, url: str) -> bytes:
    self.update_state("PROGRESS", {"url": url, "id": self.request.id})
    return url.encode()


@streamq.task
def double(x: float) -> float:
    return 2 * x


@app.task(bind=False, queue="mail")
def unbound(x: int) -> str:
    return str(x)


@streamq.task(bind=True)
def again(self: Running, x: int) -> int:
    if x == 1:
        raise self.retry(countdown=5)
    if x == 2:
        self.retry(exc=ValueError())
    elif x == 3:
        assert_type(self.retry(throw=False), Retry)
    else:
        return x
    return 0


@app.task(bind=True, max_retries=3)
def only_again(self: Running) -> int:
    self.retry()


assert_type(add(1, 2), int)
assert_type(unbound(1), str)
assert_type(unbound.enqueue(1), Result[str])
assert_type(again.enqueue(1), Result[int])
assert_type(add.enqueue(1, 2), Result[int])
assert_type(add.enqueue(1, 2).get(timeout=5), int)
assert_type(add.delay(1, y=2).get(), int)
assert_type(add.options(queue="demo").enqueue(1, 2).get(), int)
assert_type(add.options(queue="demo").options(priority=3).delay(1).get(), int)
assert_type(add.apply_async((1,), {"y": 2}, queue="demo").get(), int)
assert_type(add.apply((1, 2)).get(), int)
assert_type(add.enqueue_on_commit(1, 2).get(), int)
assert_type(add.options(queue="demo").delay_on_commit(1, y=2).get(), int)
assert_type(add.apply_async_on_commit((1,), {"y": 2}, using="other", queue="demo").get(), int)
assert_type(add.s(1, 2), Signature)
assert_type(app.enqueue_many(add.s(i, i) for i in range(3)), list[Result[Any]])

assert_type(send.enqueue("a@b", subject="hello"), Result[None])
assert_type(fetch("http://x"), bytes)
assert_type(fetch.enqueue("http://x"), Result[bytes])
assert_type(double.enqueue(1.5).get(), float)

assert_type(app.enqueue(add, 1, 2).get(), int)
assert_type(app.enqueue(add.options(queue="demo"), 1, 2).get(), int)
assert_type(app.enqueue("shop.tasks.add", 1, 2), Result[Any])
assert_type(app.enqueue(app.signature("shop.tasks.add", queue="demo"), 1, 2), Result[Any])
assert_type(app.enqueue(add.s(1, 2)), Result[Any])

assert_type(streamq.enqueue(add, 1, 2).get(), int)
assert_type(streamq.enqueue(add.options(queue="demo"), 1, y=2).get(), int)
assert_type(streamq.enqueue("shop.tasks.add", 1, "any"), Result[Any])
assert_type(streamq.enqueue(add.s(1, 2)), Result[Any])

for done in streamq.as_completed([add.enqueue(1, 2)], timeout=1):
    assert_type(done, Result[int])


async def producer() -> None:
    assert_type(await add.aenqueue(1, 2), Result[int])
    assert_type(await (await add.aenqueue(1, 2)).aget(timeout=1), int)
    assert_type(await add.options(queue="demo").aenqueue(1), Result[int])
    assert_type(await app.aenqueue(add, 1, 2), Result[int])
    assert_type(await app.aenqueue("shop.tasks.add", 1), Result[Any])
    assert_type(await streamq.aenqueue(add, 1, 2), Result[int])
    assert_type(await streamq.aenqueue("shop.tasks.add", 1), Result[Any])


def takes_a_task(task: Task[[str], int]) -> Result[int]:
    return task.enqueue("text")


class Layer(Middleware):
    def publish(self, call: Signature, next: Callable[[Signature], Result[Any]]) -> Result[Any]:
        return next(call)

    async def apublish(
        self, call: Signature, call_next: Callable[[Signature], Awaitable[Result[Any]]]
    ) -> Result[Any]:
        return await call_next(call)

    def run(self, task: Running, next: Callable[[Running], Any]) -> Any:
        return next(task) if task.request.retries < 3 else None


app.middleware = [Layer(), Middleware()]
assert_type(app.middleware, tuple[Middleware, ...])
