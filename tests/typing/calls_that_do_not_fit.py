"""Calls that a type checker must refuse, each on a line marked WRONG, and no other line."""

import streamq
from streamq import App, Running

app = App("typing")


@app.task
def add(x: int, y: int = 0) -> int:
    return x + y


@app.task(bind=True)
def fetch(self: Running, url: str) -> bytes:
    return url.encode()


@app.task(bind=False)
def unbound(x: int) -> str:
    return str(x)


@streamq.task(bind=True)
def again(self: Running, x: int) -> int:
    return x


add()  # WRONG
unbound("1")  # WRONG
unbound.enqueue()  # WRONG
again.enqueue()  # WRONG
again.enqueue("1")  # WRONG
add("1")  # WRONG
add.enqueue()  # WRONG
add.enqueue(1, 2, 3)  # WRONG
add.enqueue("1", 2)  # WRONG
add.enqueue(1, z=2)  # WRONG
add.delay(1, y="2")  # WRONG
add.s("1")  # WRONG
add.options(queue="demo").enqueue("1")  # WRONG
add.options(queue="demo").s(1, 2, 3)  # WRONG
add.apply_async(1)  # WRONG
fetch.enqueue()  # WRONG
fetch.enqueue(1)  # WRONG
fetch.enqueue(fetch, "http://x")  # WRONG
app.enqueue(add, "1")  # WRONG
app.enqueue(add, 1, 2, 3)  # WRONG
app.enqueue(add.options(queue="demo"), "1")  # WRONG
app.enqueue(3)  # WRONG
streamq.enqueue(add)  # WRONG
streamq.enqueue(add, "1", 2)  # WRONG
streamq.enqueue(add, 1, 2, countdown=5)  # WRONG
streamq.enqueue(add.options(queue="demo"), "1")  # WRONG
text: str = add.enqueue(1, 2).get()  # WRONG


async def producer() -> None:
    await add.aenqueue("1")  # WRONG
    await streamq.aenqueue(add, "1")  # WRONG
    await app.aenqueue(add, "1")  # WRONG
    number: str = await (await add.aenqueue(1)).aget()  # WRONG
    print(number)
