"""Integrations with web frameworks; each is an extra of its own."""
