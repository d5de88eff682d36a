"""A Flask application that counts words in the background: see README.md."""

from flask import Flask

from texts import database, views
from texts.tasks import queue


def create_app(**config: object) -> Flask:
    """Make the application; ``config`` is set before everything else reads it."""
    app = Flask(__name__)
    app.config["DATABASE"] = "texts.db"
    app.config["STREAMQ"] = {"task_time_limit": "1m", "result_expires": "1h"}
    app.config.from_prefixed_env()
    app.config.from_mapping(config)
    database.init_app(app)
    queue.init_app(app)
    app.register_blueprint(views.texts)
    return app
