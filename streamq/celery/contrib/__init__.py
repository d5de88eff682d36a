"""What Celery has beside its core, by its names."""
