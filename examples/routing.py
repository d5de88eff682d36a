"""Messages find their queues through exchanges.

streamq worker -A routing
python routing.py
"""

from streamq import App, Binding, Exchange, Queue, Unroutable

orders = Exchange("orders", type="topic")

app = App("routing")
app.queues = [
    Queue("europe", bindings=[Binding(orders, "order.eu.*")]),
    Queue("audit", bindings=[Binding(orders, "order.#")]),
]


@app.task
def record(order: int) -> str:
    return f"order {order} is recorded"


if __name__ == "__main__":
    # Bound to both queues: the message becomes two tasks, one in each.
    result = record.options(exchange="orders", routing_key="order.eu.new").enqueue(1)
    for queue, text in sorted(result.get(timeout=10).items()):
        print(f"{queue}: {text}")

    result = record.options(exchange="orders", routing_key="order.us.new").enqueue(2)
    print(result.get(timeout=10))

    try:
        record.options(exchange="orders", routing_key="invoice.new").enqueue(3)
    except Unroutable as error:
        print(str(error).splitlines()[0])
