"""The payment service, which a real shop would reach over the network."""

import uuid


class ServiceDown(Exception):
    """The service did not answer; it may the next time."""


class CardDeclined(Exception):
    """The service refused the card."""


def charge(email, amount):
    """Charge a card; return the number of the receipt."""
    if email.startswith("declined"):
        raise CardDeclined(email)
    return f"R-{uuid.uuid4().hex[:8]}"


def refund(receipt):
    """Give money back."""
    return True
