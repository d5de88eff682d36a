"""Ids, and the arguments that the publish script gets."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from streamq.core.message import Message, MessageOptions, MessageTemplate, header_arguments
from streamq.core.names import own_id
from streamq.errors import DecodeError
from streamq.host.ids import new_id, new_ids
from streamq.routing import check_name


def make_template(**options):
    return MessageTemplate(
        MessageOptions(**{"task": "t", "exchange": "", "routing_key": "q"} | options)
    )


def test_ids_are_short_fit_into_keys_and_sort_by_time(monkeypatch):
    monkeypatch.setattr("streamq.host.clock.time_ns", lambda: 1_700_000_000_000_000_000)
    early = new_id()
    monkeypatch.setattr("streamq.host.clock.time_ns", lambda: 1_700_000_000_001_000_000)
    late = new_id()

    assert len(early) == len(late) == 26
    assert early < late
    assert early[:11] == f"{1_700_000_000_000:011x}"
    assert check_name(early, "id") == early


def test_ids_of_one_moment_differ():
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda _: new_id(), range(20_000)))

    assert len(set(ids)) == 20_000


def test_many_ids_at_once_are_like_those_made_one_by_one():
    ids = new_ids(5000)

    assert len(set(ids)) == 5000
    assert {len(id) for id in ids} == {26}
    assert all(set(id) <= set("0123456789abcdef") for id in ids)
    assert new_ids(0) == []


def test_a_message_typed_by_hand_is_named_after_its_entry():
    assert own_id("default", "1-0") == "default-1-0"


def test_the_arguments_of_the_script_are_in_order():
    template = make_template(exchange="ex", routing_key="k", extra=("shadow", "nice"))

    assert template.publication("ID", b"[1]", b"{}", given=False) == (
        *("ex", "k", "ID", 0, "1", "", "", ""),
        *(0,),
        *(4, "task", "t", "args", b"[1]", "kwargs", b"{}", "shadow", "nice"),
    )


def test_a_chosen_id_is_remembered_for_the_window():
    template = make_template(dedup_window=1.5, keep=False, priority="3")

    given = template.publication("ID", b"[]", b"{}", given=True)
    made = template.publication("ID", b"[]", b"{}", given=False)

    assert given[:6] == ("", "q", "ID", 1500, "0", "3")
    assert made[3] == 0


def test_headers_travel_as_tagged_text():
    template = make_template(exchange="ex", routing_key="", headers={"a": 1, "b": "x"})

    assert template.publication("ID", b"[]", b"{}", given=False)[8:13] == (
        2,
        "a",
        "i:1",
        "b",
        "s:x",
    )
    assert header_arguments(None) == header_arguments({}) == (0,)


@pytest.mark.parametrize(
    ("changes", "short"),
    [
        ({}, True),
        ({"keep": False}, True),
        ({"exchange": "ex"}, False),
        ({"priority": "3"}, False),
        ({"headers": {"a": 1}}, False),
    ],
)
def test_the_short_way_is_for_a_queue_by_name_without_priority_or_headers(changes, short):
    assert make_template(**changes).fits_plain_script is short


PUBLICATIONS = [
    make_template().publication("A", b"[1]", b"{}", given=False),
    make_template(
        exchange="ex",
        priority="3",
        keep=False,
        headers={"a": 1, "b": "ü"},
        due="+5",
        expires="99",
        extra=("compression", "gzip"),
    ).publication("B", b"\xff\x00", b"{}", given=True),
]


def on_the_wire(publication):
    return [part if isinstance(part, bytes) else str(part).encode() for part in publication]


@pytest.mark.parametrize("publication", PUBLICATIONS)
def test_a_message_is_the_same_after_it_was_carried_in_another_one(publication):
    (message,) = Message.read(publication)

    again = Message.from_json(message.to_json())

    assert again == message
    assert on_the_wire(again.publication()) == on_the_wire(publication)


def test_the_arguments_of_several_messages_are_taken_apart():
    first, second = Message.read([part for each in PUBLICATIONS for part in each])

    assert (first.id, second.id, second.window, second.keep) == ("A", "B", "none", False)
    assert second.headers == {"a": "i:1", "b": "s:ü"}
    assert first.entry == {b"id": b"A", b"task": b"t", b"args": b"[1]", b"kwargs": b"{}"}
    assert first.size == len("t[1]{}")
    assert b"base64" in second.to_json()
    assert b"exchange" not in first.to_json()


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"fields": {"task": 1}}', b'{"odd": 1}', b"\xff"]
)
def test_what_is_no_message_is_told_so(text):
    with pytest.raises(DecodeError):
        Message.from_json(text)
