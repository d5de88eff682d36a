"""The addresses of the shop."""

from django.urls import path
from orders import views

urlpatterns = [
    path("orders/", views.place, name="orders"),
    path("orders/<int:pk>/", views.show, name="order"),
]
