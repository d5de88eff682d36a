"""What streamq keeps in Redis, and the only place that imports redis."""
