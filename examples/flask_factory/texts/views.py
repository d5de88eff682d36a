"""The pages: store a text, and see how many words it has."""

from flask import Blueprint, abort, jsonify, request, url_for
from flask.typing import ResponseReturnValue

from texts import database
from texts.tasks import count_words, queue

texts = Blueprint("texts", __name__)


@texts.post("/texts")
def add() -> ResponseReturnValue:
    body = request.get_json()["body"]
    stored = database.connection().execute("INSERT INTO text (body) VALUES (?)", [body])
    counted = count_words.enqueue(stored.lastrowid)
    return jsonify(
        text=url_for(".show", text_id=stored.lastrowid),
        task=url_for(".task", task_id=counted.id),
    ), 202


@texts.get("/texts/<int:text_id>")
def show(text_id: int) -> ResponseReturnValue:
    found = database.connection().execute("SELECT body, words FROM text WHERE id = ?", [text_id])
    row = found.fetchone() or abort(404)
    return jsonify(body=row[0], words=row[1])


@texts.get("/tasks/<task_id>")
def task(task_id: str) -> ResponseReturnValue:
    result = queue.result(task_id)
    return jsonify(state=result.state, words=result.get() if result.successful() else None)
