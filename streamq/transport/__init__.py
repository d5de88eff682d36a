"""Connections to Redis, and what its answers mean: the only place that imports redis."""
