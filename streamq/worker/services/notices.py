"""Notices: what the notifier has received is passed on to all services."""

from streamq.broker.leases import Renewal
from streamq.broker.notifier import Notifier
from streamq.errors import BrokerUnavailable
from streamq.worker.services.service import EACH_ROUND, Service
from streamq.worker.services.services import Services


class Notices(Service):
    """The service that listens to notices; one that arrives begins a round."""

    moment = EACH_ROUND

    def __init__(self, notifier: Notifier, services: Services) -> None:
        self.notifier = notifier
        self.services = services
        #: Whether to look after the connection: once after each renewal.
        self.check_connection = False

    def begin(self) -> None:
        """Listen before the worker shows itself."""
        self.notifier.listen()

    def on_renewal(self, news: Renewal) -> None:
        """Have the connection checked in this round."""
        self.check_connection = True

    def run(self) -> None:
        """Pass on the notices that have arrived, each as its words."""
        if self.check_connection:
            self.check_connection = False
            self.listen()
        for words in self.notifier.notices():
            self.services.on_notice(words)

    def listen(self) -> None:
        """Listen to notices, if possible: renewals say the same, so no service waits for it."""
        try:
            self.notifier.listen()
        except BrokerUnavailable as error:
            self.services.failures.log("Notifier.listen", error, "is tried again")

    def fileno(self) -> int:
        """The descriptor of the notifier; -1 while it is not connected."""
        return self.notifier.fileno()
