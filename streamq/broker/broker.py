"""What an app uses in Redis: its publisher, topology and results on shared connections."""

from collections.abc import Iterable, Sequence

from streamq.broker.aio import AsyncStore, AsyncStores
from streamq.broker.confirmation import Confirmation, confirmations
from streamq.broker.publish_retry import Contact
from streamq.broker.publisher import Publisher
from streamq.broker.results import Results
from streamq.broker.topology import Topology
from streamq.config.config import Config
from streamq.routing import Queue
from streamq.transport.client import Client
from streamq.transport.keys import Keys


class Store:
    """The parts that share one Redis and one namespace.  Connects when first used."""

    def __init__(self, url: str, conf: Config) -> None:
        self.url = url
        self.conf = conf
        self.keys = Keys(conf.namespace)
        self.client = Client(url, name="streamq")
        contact = Contact(url)
        self.publisher = Publisher(url, self.keys, contact, timeout=lambda: conf.publish_timeout)
        self.topology = Topology(self.client, self.keys)
        self.loops = AsyncStores(
            lambda: AsyncStore(url, self.keys, contact, timeout=lambda: conf.publish_timeout)
        )
        self.results = Results(
            self.client,
            self.keys,
            self.loops,
            lives=lambda: (conf.result_expires, conf.revoke_expires),
        )

    @property
    def asyncio(self) -> AsyncStore:
        """What the running event loop uses."""
        return self.loops.here()

    def confirmations(self, levels: Iterable[str]) -> tuple[Confirmation, ...]:
        """What messages with these levels of ``confirm`` need."""
        conf = self.conf
        return confirmations(levels, conf.confirm_replicas, conf.confirm_timeout)

    def declare_again(self, queues: Sequence[Queue], began: float, *, reason: str) -> None:
        """Declare what a publish has missed, in the time that is left of it."""

        def declare(client: Client) -> None:
            Topology(client, self.keys).declare(queues, reason=reason)

        self.publisher.persist(declare, self.client, began)

    def moment(self, seconds: float, began: float) -> int:
        """So many seconds from now by the server's clock, for a publish that began then."""
        return self.publisher.persist(lambda client: client.moment(seconds), self.client, began)

    def close(self) -> None:
        """Close the connections that nobody uses; the next use opens new ones."""
        self.client.close()
        self.publisher.close()
        self.results.waits.connection.drop()
