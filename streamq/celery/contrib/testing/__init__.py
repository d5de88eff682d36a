"""Workers and apps for tests, by the names of Celery."""
