"""The pages of the shop; they answer in JSON."""

from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from orders.models import Order
from orders.tasks import confirm
from streamq.contrib.django import app


@csrf_exempt
@require_POST
def place(request: HttpRequest) -> JsonResponse:
    """Place an order.  It is confirmed after the commit, which comes after this function."""
    order = Order.objects.create(customer=request.POST["customer"])
    order.task = confirm.enqueue_on_commit(order.pk).id
    order.save(update_fields=["task"])
    return JsonResponse({"order": reverse("order", args=[order.pk])}, status=202)


def show(request: HttpRequest, pk: int) -> JsonResponse:
    """Show an order, and how far its confirmation is."""
    order = get_object_or_404(Order, pk=pk)
    return JsonResponse(
        {
            "customer": order.customer,
            "confirmed": order.confirmed,
            "task": "" if order.confirmed else app.result(order.task).state,
        }
    )
