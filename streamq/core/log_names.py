"""Names of loggers whose lines carry the name and the id of the task that logs."""

#: The logger above all those of ``streamq.get_task_logger``.
TASKS = "streamq.task"
#: Loggers of tasks with names of their own.
TASK_LOGGERS: set[str] = set()


def is_of_tasks(name: str) -> bool:
    """Whether the logger of this name is one of tasks."""
    return name.startswith(TASKS) or name in TASK_LOGGERS
