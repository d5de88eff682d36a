"""Celery's names on streamq: a Celery project runs after its imports have been changed."""
