"""Names of ``kombu.common``: making a ``Broadcast`` queue says what there is instead."""

from streamq.celery.kombu.entities import Broadcast
from streamq.celery.utils import uuid

__all__ = ["Broadcast", "uuid"]
