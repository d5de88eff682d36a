"""P2 and P12: what cannot be run is put aside, and never looked into."""

import pickle

import pytest

from streamq.errors import ContentDisallowed
from tests.system.test_dead_letters import (
    PICKLE,
    UNFIT,
    Touch,
    add,
    letter_of,
    served,  # noqa: F401 - a fixture
)


def test_messages_that_cannot_be_run_become_dead_letters(served):
    results = [add(served, **fields) for fields, _, _ in UNFIT]

    for result, (fields, reason, error) in zip(results, UNFIT, strict=True):
        with pytest.raises(error):
            result.get(timeout=10)
        letter = letter_of(served, result)
        assert letter["dead_reason"] == reason, fields
        assert letter["dead_error"]
        for name, value in fields.items():
            told = value.decode(errors="surrogateescape") if isinstance(value, bytes) else value
            assert letter[name] == told
    assert served.app.enqueue("tasks.echo", "still here").get(timeout=10) == "still here"
    served.at_rest()


def test_a_pickle_is_not_loaded_where_it_was_not_asked_for(served):
    trap = served.folder / "trap"
    data = pickle.dumps((Touch(trap),))
    result = add(served, task="tasks.echo", content_type=PICKLE, args=data)

    with pytest.raises(ContentDisallowed):
        result.get(timeout=10)

    assert not trap.exists()
    assert letter_of(served, result)["dead_reason"] == "content type not accepted"
