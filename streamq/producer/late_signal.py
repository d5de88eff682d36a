"""Signals of an app that are sent once: on_after_configure and on_after_finalize."""

from collections.abc import Callable
from typing import Any

from streamq.signals import Signal


class LateSignal(Signal):
    """A signal that is sent once; who connects afterwards is called at once."""

    sender: Any = None

    def connect(
        self,
        receiver: Callable[..., Any] | None = None,
        sender: Any = None,
        weak: bool = False,
        dispatch_uid: Any = None,
    ) -> Any:
        """Connect a function; if the signal was sent already, call it now."""
        found = super().connect(receiver, sender, weak, dispatch_uid)
        if receiver is not None and self.sender is not None:
            receiver(signal=self, sender=self.sender)
        return found

    def send_once(self, sender: Any) -> None:
        """Send the signal, unless it was sent."""
        if self.sender is None:
            self.sender = sender
            self.send(sender)
