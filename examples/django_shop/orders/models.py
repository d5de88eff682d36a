"""What the shop stores."""

from django.db import models


class Order(models.Model):
    """An order of a customer; ``task`` is the id of the task that confirms it."""

    customer = models.EmailField()
    placed = models.DateTimeField(auto_now_add=True)
    confirmed = models.DateTimeField(null=True)
    task = models.CharField(max_length=200, default="")
