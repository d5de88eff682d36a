"""Tasks for Django, by the names of Celery."""
