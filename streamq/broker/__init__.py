"""What streamq says to Redis: one class per role, one method per script."""
