"""What the shop stores."""

from django.db import models


class Order(models.Model):
    """An order."""

    note = models.CharField(max_length=100, default="")
