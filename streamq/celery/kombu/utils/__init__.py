"""Utilities by kombu's names."""

from streamq.celery.kombu.utils import json
from streamq.celery.utils import uuid

__all__ = ["json", "uuid"]
