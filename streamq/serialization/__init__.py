"""Serialization: values to bytes and back, compressed and signed."""
