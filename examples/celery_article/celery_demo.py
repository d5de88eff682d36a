"""A Celery program after changing its imports and its app line.

streamq worker -A celery_demo -l info -Q demo --concurrency=3 -n worker1@%h --autoscale=3,1
python celery_demo.py
"""

from streamq import App, Exchange, Queue

app = App("celery_demo")
app.conf.task_serializer = "pickle"
app.conf.accept_content = ["json", "pickle"]

demo_exchange = Exchange("ex_demo", type="direct")
app.queues = [Queue("demo", demo_exchange, routing_key="demo")]


@app.task(acks_late=True)
def add(x, y):
    return x + y


if __name__ == "__main__":
    print(add.delay(4, 4).get(timeout=10))
    print(add.options(acks_late=False).delay(1, 2).get(timeout=10))
    result = add.apply_async((2, 3), exchange="ex_demo", routing_key="demo", acks_late=True)
    print(result.get(timeout=10))
