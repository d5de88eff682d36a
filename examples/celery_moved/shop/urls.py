"""The pages of the shop; all of them answer JSON."""

from django.urls import path

from orders import views as orders
from reports import views as reports

urlpatterns = [
    path("orders/", orders.create),
    path("orders/<int:pk>/", orders.show),
    path("reports/sales/", reports.start),
    path("reports/status/<str:task_id>/", reports.status, name="report-status"),
]
