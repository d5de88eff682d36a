"""Pages about orders."""

import json

from django.db import transaction
from django.http import JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_GET, require_POST

from .models import Order
from .tasks import place_order


@require_POST
def create(request):
    """Keep an order, and place it when it is sure to be in the database."""
    given = json.loads(request.body)
    with transaction.atomic():
        order = Order.objects.create(
            email=given["email"], product_id=given["product"], quantity=given.get("quantity", 1)
        )
        transaction.on_commit(lambda: place_order.delay(order.pk))
    return JsonResponse({"id": order.pk, "status": order.status}, status=201)


@require_GET
def show(request, pk):
    """Tell the status of an order."""
    order = get_object_or_404(Order, pk=pk)
    return JsonResponse({"id": order.pk, "status": order.status, "receipt": order.receipt})
