"""The signals of sending, and the fields by which a message tells which task sent it."""

import asyncio

import pytest

from streamq import signals


@pytest.fixture
def connected():
    """``connected(signal, receiver)`` until the test has ended."""
    made = []

    def connect(signal, receiver):
        signal.connect(receiver, weak=False)
        made.append((signal, receiver))

    yield connect
    for signal, receiver in made:
        assert signal.disconnect(receiver)


@pytest.fixture
def headers(app):
    return app.task(name="headers", bind=True)(lambda self, x=0: self.request.headers)


def test_headers_that_a_receiver_adds_travel_with_the_message(app, headers, drain, connected):
    told = []

    def before(sender, headers, body, routing_key, **kwargs):
        told.append((sender, body[0], routing_key, headers["id"]))
        headers["user"] = f"u{len(told)}"

    connected(signals.before_task_publish, before)
    sent = []
    connected(signals.after_task_publish, lambda headers, **kwargs: sent.append(headers["id"]))

    results = [
        headers.enqueue(1),
        headers.options(headers={"own": "yes"}).delay(2),
        *app.enqueue_many(headers.s(x) for x in (3, 4)),
        asyncio.run(send_from_asyncio(app, headers)),
    ]
    assert drain(app) == 5

    ids = [result.id for result in results]
    assert told == [("headers", (x,), "default", id) for x, id in enumerate(ids, 1)]
    assert sent == ids
    found = [result.get(timeout=5) for result in results]
    assert [each["user"] for each in found] == ["u1", "u2", "u3", "u4", "u5"]
    assert found[1] == {"own": "yes", "user": "u2"}


async def send_from_asyncio(app, headers):
    result = await headers.aenqueue(5)
    await app.aclose()
    return result


def test_a_call_that_is_not_accepted_has_not_been_sent(app, headers, connected):
    sent = []
    connected(signals.after_task_publish, lambda **kwargs: sent.append(kwargs))

    with pytest.raises(LookupError):
        headers.options(exchange="nowhere").enqueue()

    assert sent == []


def test_a_call_that_is_run_where_it_is_made_is_not_published(make_app, connected):
    told = []
    connected(signals.before_task_publish, lambda **kwargs: told.append(kwargs))
    task = make_app(task_always_eager=True).task(name="here")(lambda: 1)

    assert [task.delay().get(), task.apply().get()] == [1, 1]
    assert told == []


def test_a_message_tells_which_task_has_sent_it_and_which_was_the_first(app, drain):
    @app.task(name="leaf", bind=True)
    def leaf(self):
        return [self.request.parent_id, self.request.root_id]

    @app.task(name="middle", bind=True)
    def middle(self):
        plain, *many = leaf.enqueue(), *app.enqueue_many([leaf.s(), leaf.s()])
        here = leaf.apply().get(allow_join=True)
        ids = [plain.id, *(result.id for result in many)]
        return [self.request.parent_id, self.request.root_id, here, ids]

    @app.task(name="first")
    def first():
        return middle.options(headers={"x": 1}).enqueue().id

    began = first.enqueue()
    assert drain(app) == 5

    inner = began.get(timeout=5)
    parent, root, here, leaves = app.result(inner).get(timeout=5)
    assert (parent, root) == (began.id, began.id)
    assert here == [inner, began.id]
    assert [app.result(id).get(timeout=5) for id in leaves] == [[inner, began.id]] * 3


def test_receivers_are_told_the_line_of_a_call_and_may_name_a_header_like_a_fact(
    app, headers, drain, connected
):
    told = []

    def before(sender, headers, **kwargs):
        told.append((headers["parent_id"], headers["root_id"], headers["id"]))
        headers["lang"] = "de"

    middle = app.task(name="middle")(lambda: headers.enqueue().id)
    first = app.task(name="first")(lambda: middle.enqueue().id)
    connected(signals.before_task_publish, before)
    one = first.enqueue()
    assert drain(app) == 3

    two = one.get(timeout=5)
    three = app.result(two).get(timeout=5)
    assert told == [(None, one.id, one.id), (one.id, one.id, two), (two, one.id, three)]
    assert app.result(three).get(timeout=5) == {"lang": "de"}


def test_signed_messages_of_a_task_are_taken(make_app, drain):
    app = make_app(signing="required", signing_keys="a:" + "s" * 40)
    leaf = app.task(name="leaf", bind=True)(lambda self: self.request.parent_id)
    first = app.task(name="first")(lambda: leaf.enqueue().id)

    began = first.enqueue()
    assert drain(app) == 2

    assert app.result(began.get(timeout=5)).get(timeout=5) == began.id
