"""What a process keeps of streamq.celery: the current app, shared tasks, warnings."""

from collections.abc import Iterator
from contextlib import contextmanager

from streamq.celery.app.options import warned
from streamq.celery.current import CurrentApp
from streamq.celery.shared import makers


@contextmanager
def forgotten() -> Iterator[None]:
    """Begin a block without any of it; put back what there was."""
    before, shared, said = (CurrentApp.app, CurrentApp.default), dict(makers), set(warned)
    CurrentApp.app = CurrentApp.default = None
    makers.clear()
    warned.clear()
    try:
        yield
    finally:
        CurrentApp.app, CurrentApp.default = before
        makers.clear()
        makers.update(shared)
        warned.clear()
        warned.update(said)
