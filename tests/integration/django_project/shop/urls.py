"""The addresses of the shop."""

from django.urls import path

from shop import views

urlpatterns = [path("order", views.order)]
