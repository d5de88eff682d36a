"""One SQLite connection for each application context: each request, and each run of a task."""

import sqlite3

from flask import Flask, current_app, g

SCHEMA = "CREATE TABLE IF NOT EXISTS text (id INTEGER PRIMARY KEY, body TEXT, words INTEGER)"


def connection() -> sqlite3.Connection:
    """The connection of this context; opened by the first call."""
    if "database" not in g:
        g.database = sqlite3.connect(current_app.config["DATABASE"], isolation_level=None)
        g.database.execute(SCHEMA)
    return g.database


def close(error: BaseException | None) -> None:
    """Close the connection at the end of the context."""
    opened = g.pop("database", None)
    if opened is not None:
        opened.close()


def init_app(app: Flask) -> None:
    app.teardown_appcontext(close)
