"""The page that starts a report, and the page that shows how far it has come."""

from celery import states
from celery.result import AsyncResult
from django.http import JsonResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from .tasks import sales_report


@require_POST
def start(request):
    """Start a report; the answer says where to ask for it."""
    result = sales_report.delay()
    url = reverse("report-status", args=[result.id])
    return JsonResponse({"id": result.id, "status_url": url}, status=202)


@require_http_methods(["GET", "DELETE"])
def status(request, task_id):
    """Tell how far a report has come; DELETE stops it."""
    result = AsyncResult(task_id)
    if request.method == "DELETE":
        result.revoke(terminate=True)
        return JsonResponse({"id": task_id, "state": states.REVOKED})
    answer = {"id": task_id, "state": result.state, "ready": result.ready()}
    if answer["state"] == "PROGRESS":
        info = result.info or {}  # of this moment: it may have ended since
        answer["percent"] = 100 * info.get("done", 1) // info.get("total", 1)
    elif result.successful():
        answer["result"] = result.get()
        answer["done_at"] = result.date_done.isoformat()
    elif result.failed():
        answer["error"] = f"{type(result.info).__name__}: {result.info}"
        answer["traceback"] = result.traceback
    elif answer["state"] == states.PENDING:
        answer["note"] = "waiting, or not known"
    return JsonResponse(answer)
