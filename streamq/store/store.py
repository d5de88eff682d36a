"""What an app uses in Redis: its publisher, topology and results on shared connections."""

from streamq.config import Config
from streamq.store.aio import AsyncStore
from streamq.store.client import Client
from streamq.store.keys import Keys
from streamq.store.publisher import Publisher
from streamq.store.results import Results
from streamq.store.topology import Topology


class Store:
    """The parts that share one Redis and one namespace.  Connects when first used."""

    def __init__(self, url: str, conf: Config) -> None:
        self.url = url
        self.keys = Keys(conf.namespace)
        self.client = Client(url, name="streamq")
        self.publisher = Publisher(url, self.keys, timeout=lambda: conf.publish_timeout)
        self.topology = Topology(self.client, self.keys)
        self.asyncio = AsyncStore(url, self.keys, timeout=lambda: conf.publish_timeout)
        self.results = Results(
            self.client,
            self.keys,
            self.asyncio,
            lives=lambda: (conf.result_expires, conf.revoke_expires),
        )

    def close(self) -> None:
        """Close the connections that nobody uses; the next use opens new ones."""
        self.client.close()
        self.publisher.close()
        self.results.waits.connection.drop()
