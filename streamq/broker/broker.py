"""The broker of an app: publisher, topology and results on shared connections."""

from collections.abc import Iterable, Sequence

from streamq.broker.aio import AsyncBroker, AsyncBrokers
from streamq.broker.confirmation import Confirmation, confirmations
from streamq.broker.publish_retry import FirstContact
from streamq.broker.publisher import Publisher
from streamq.broker.results import Results
from streamq.broker.topology import Topology
from streamq.config.config import Config
from streamq.routing import Queue
from streamq.transport.client import Client
from streamq.transport.keys import Keys


class Broker:
    """The broker: the parts that share one Redis and one namespace.  Connects on first use."""

    def __init__(self, url: str, conf: Config) -> None:
        self.url = url
        self.conf = conf
        self.keys = Keys(conf.namespace)
        self.client = Client(url, name="streamq")
        first_contact = FirstContact(url)
        self.publisher = Publisher(
            url, self.keys, first_contact, timeout=lambda: conf.publish_timeout
        )
        self.topology = Topology(self.client, self.keys)
        self.loops = AsyncBrokers(
            lambda: AsyncBroker(url, self.keys, first_contact, timeout=lambda: conf.publish_timeout)
        )
        self.results = Results(
            self.client,
            self.keys,
            self.loops,
            lifetimes=lambda: (conf.result_expires, conf.revoke_expires),
        )

    @property
    def asyncio(self) -> AsyncBroker:
        """The broker of the running event loop."""
        return self.loops.current()

    def confirmations(self, levels: Iterable[str]) -> tuple[Confirmation, ...]:
        """The confirmations for messages with these levels of ``confirm``."""
        conf = self.conf
        return confirmations(levels, conf.confirm_replicas, conf.confirm_timeout)

    def declare_again(self, queues: Sequence[Queue], began: float, *, reason: str) -> None:
        """Declare queues that a publish did not find, in the time that is left for it."""

        def declare(client: Client) -> None:
            Topology(client, self.keys).declare(queues, reason=reason)

        self.publisher.retry_until_deadline(declare, self.client, began)

    def moment(self, seconds: float, began: float) -> int:
        """The moment ``seconds`` from now, in ms of the server's clock, for this publish."""
        return self.publisher.retry_until_deadline(
            lambda client: client.moment(seconds), self.client, began
        )

    def close(self) -> None:
        """Close the idle connections; the next use opens new ones."""
        self.client.close()
        self.publisher.close()
        self.results.waiter.connection.drop()
