"""What people ask of Redis, and repair there."""
