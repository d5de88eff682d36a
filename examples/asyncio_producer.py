"""Sending and waiting from asyncio.

streamq worker -A asyncio_producer
python asyncio_producer.py
"""

import asyncio

from streamq import App

app = App("asyncio_producer")


@app.task
def square(x: int) -> int:
    return x * x


async def main() -> None:
    results = await asyncio.gather(*(square.aenqueue(x) for x in range(10)))
    print(await asyncio.gather(*(result.aget(timeout=10) for result in results)))


if __name__ == "__main__":
    asyncio.run(main())
