"""The pages of the shop."""

from django.http import HttpResponse

from shop.models import Order
from shop.tasks import ship


def order(request):
    """Store an order, and ship it once that is committed."""
    order = Order.objects.create(note=request.GET["note"])
    result = ship.enqueue(order.pk)
    if "fail" in request.GET:
        raise ValueError(result.id)
    return HttpResponse(f"{result.id} {result.state}")
