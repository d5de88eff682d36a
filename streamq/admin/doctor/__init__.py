"""Facts about a Redis, and what they mean for a queue."""
