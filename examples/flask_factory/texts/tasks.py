"""The tasks.  They use the database and ``current_app`` as the views do."""

from flask import current_app

from streamq.contrib.flask import Streamq
from texts import database

queue = Streamq()


@queue.task
def count_words(text_id: int) -> int:
    found = database.connection().execute("SELECT body FROM text WHERE id = ?", [text_id])
    words = len(found.fetchone()[0].split())
    database.connection().execute("UPDATE text SET words = ? WHERE id = ?", [words, text_id])
    current_app.logger.info("text %d has %d words", text_id, words)
    return words
