"""Producers: from a call to a published message."""
