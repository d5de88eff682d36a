"""Reports: the page that follows them."""

from unittest import mock

import pytest
from celery import states
from celery.exceptions import SoftTimeLimitExceeded
from celery.result import EagerResult

from reports import tasks
from reports.models import Report


def test_a_report_adds_up_what_was_sold(eager, order):
    result = tasks.sales_report.delay()
    assert isinstance(result, EagerResult)
    assert result.state == states.SUCCESS
    assert result.result["sold"] == {"Tea": 2}
    assert Report.objects.get().text == "Tea: 2"


def test_a_report_without_orders_fails(db):
    result = tasks.sales_report.apply()
    assert result.state in states.EXCEPTION_STATES
    assert result.get(propagate=False).args == ("there are no orders to report",)
    assert "ValueError" in result.traceback


def test_a_forecast_ends_with_what_it_has_when_time_is_up(eager):
    with mock.patch("time.sleep", side_effect=[None, None, SoftTimeLimitExceeded()]):
        assert tasks.forecast.delay(10).get() == {"days": 2, "complete": False}


@pytest.mark.parametrize(
    ("state", "info", "said"),
    [
        ("PROGRESS", {"done": 1, "total": 4}, {"percent": 25}),
        (states.PENDING, None, {"note": "waiting, or not known"}),
    ],
)
def test_the_page_says_how_far_a_report_is(client, state, info, said):
    with mock.patch("reports.views.AsyncResult") as result:
        result.return_value.configure_mock(
            state=state, info=info, **{"ready.return_value": False},
            **{"successful.return_value": False, "failed.return_value": False},
        )  # fmt: skip
        answer = client.get("/reports/status/1/").json()
    assert answer == {"id": "1", "state": state, "ready": False, **said}
