"""What is kept about tasks."""

from django.db import models


class Entry(models.Model):
    """Something that happened to a task."""

    at = models.DateTimeField(auto_now_add=True)
    event = models.CharField(max_length=20)
    task = models.CharField(max_length=200)
    task_id = models.CharField(max_length=200)
    user = models.CharField(max_length=100, blank=True)
    detail = models.TextField(blank=True)
