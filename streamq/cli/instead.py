"""Commands of Celery that streamq lacks, and what to type instead; nothing is imported here."""

from collections.abc import Mapping

WATCH = "streamq workers ls, streamq queues ls, streamq result ID"

#: Commands of a later version → what to type until then.
LATER: Mapping[str, str] = {
    "events": WATCH,
    "flower": WATCH,
    "graph": WATCH,
}
#: Commands that stay Celery's → what to type instead.
INSTEAD: Mapping[str, str] = {
    "amqp": "streamq exchanges, streamq queues, streamq redis COMMAND…",
    "list": "streamq exchanges ls",
    "logtool": "streamq worker --log-format json, whose lines jq and others read",
    "multi": "one unit of systemd or supervisord for each worker: streamq worker -n NAME@%h …",
    "report": "streamq doctor, streamq config show, streamq --version",
    "shell": "python, and import the app there",
    "upgrade": "old names of settings are understood as they are",
}
#: ``streamq NAME`` for those that ``streamq celery`` has, or that are called otherwise.
AT_THE_ROOT: Mapping[str, str] = {
    **INSTEAD,
    "call": "streamq enqueue TASK ARGS…",
    "purge": "streamq queues purge QUEUE, or streamq celery purge for all queues of the app",
}
#: ``streamq celery NAME``; at the root, ``migrate`` is another command.
OF_CELERY: Mapping[str, str] = {
    **INSTEAD,
    "migrate": "let Celery's workers empty their queues; streamq's start empty",
}
