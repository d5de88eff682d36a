"""Tests of the application: the tasks run in the test itself, no worker and no Redis is needed."""

import pytest
from flask.testing import FlaskClient
from texts import create_app


@pytest.fixture
def client(tmp_path) -> FlaskClient:
    app = create_app(DATABASE=tmp_path / "texts.db", STREAMQ={"task_always_eager": True})
    return app.test_client()


def test_a_text_is_counted(client):
    added = client.post("/texts", json={"body": "to be or not to be"})

    assert added.status_code == 202
    assert client.get(added.json["text"]).json == {"body": "to be or not to be", "words": 6}


def test_an_unknown_text_is_not_found(client):
    assert client.get("/texts/1").status_code == 404
