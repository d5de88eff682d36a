"""Names of kombu that projects use beside Celery's: queues, exchanges, serializers."""

from streamq.celery.kombu import serialization
from streamq.celery.kombu.entities import (
    BrokerConnection,
    Producer,
    binding,
)
from streamq.celery.kombu.entities import KombuConnection as Connection
from streamq.celery.kombu.entities import KombuConsumer as Consumer
from streamq.celery.kombu.entities import KombuExchange as Exchange
from streamq.celery.kombu.entities import KombuQueue as Queue
from streamq.celery.utils import uuid

__all__ = [
    "BrokerConnection",
    "Connection",
    "Consumer",
    "Exchange",
    "Producer",
    "Queue",
    "binding",
    "serialization",
    "uuid",
]
