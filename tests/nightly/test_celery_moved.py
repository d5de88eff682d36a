"""The Celery project of the examples does the same on Celery and, moved, on streamq.

It costs two minutes: it installs Celery and Django into environments of their own, once, and runs
the project's tests and a worker with each of the two.
"""

import os
import re
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import free_ports
from tests.edits import CHECKOUT
from tests.environments import environment, our_requirements, requirements_of
from tests.moved_project import KEPT, Project, copied, moved
from tests.servers import Server, running

#: Environments are made in the first test that needs them.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def tcp_server(server_program: str) -> Iterator[Server]:
    """A server that is also reached by TCP: the two have different words for a socket."""
    (port,) = free_ports(1)
    with (
        tempfile.TemporaryDirectory(prefix="streamq-moved-", ignore_cleanup_errors=True) as folder,
        running(server_program, Path(folder), "--bind", "127.0.0.1", "--port", str(port)) as server,
    ):
        server.url = f"redis://127.0.0.1:{port}/0"
        yield server


@pytest.fixture(params=["celery", "streamq"])
def project(request: pytest.FixtureRequest, tmp_path: Path, tcp_server: Server) -> Project:
    """The project as it is kept, on Celery; or moved, on streamq."""
    tcp_server.client.flushall()
    kept = {name: text for name, text in os.environ.items() if not name.startswith("STREAMQ_")}
    kept.pop("PYTHONPATH", None)
    env = {**kept, "REDIS_URL": tcp_server.url, "PYTHONDONTWRITEBYTECODE": "1"}
    wanted = requirements_of(KEPT / "requirements.txt")
    if request.param == "celery":
        python = environment("celery", wanted)
        return Project(copied(tmp_path / "shop"), python, ["celery"], env)
    others = [each for each in wanted if not each.startswith("celery")]
    python = environment("streamq", [*others, *our_requirements()])
    env["PYTHONPATH"] = str(CHECKOUT)
    env["STREAMQ_SCHEDULER"] = "false"  # as Celery without beat: the tour counts what has run
    return Project(moved(tmp_path / "shop"), python, ["streamq", "celery"], env)


def test_its_tests_pass(project):
    said = project.run("-m", "pytest", "-q", "-p", "no:cacheprovider")
    passed = re.search(r"^(\d+) passed", said, re.M)
    assert passed, said
    assert int(passed[1]) >= 41


#: What the tour prints, on either.
TOUR = """\
order: shipped and confirmed
declined: CardDeclined('declined@example.com') FAILURE
declined: the administrators know
too much: order 3: fewer than 99 are left
refund: attempts 1
orders: cancelled cancelled refunded
thumbnail: {'file': 'tea-small.pgm', 'size': [4, 2]}
imported: 2
price: {'old': Decimal('9.90'), 'late_by': 0.0}
indexed: 3
indexed: SKIPPED {'previous': 'SUCCESS'}
newsletter: 3
mail: [('By name', 1), ('News', 3), ('Your order 1', 1), ('orders.tasks.charge_card failed', 1)]
report: SUCCESS {'report': 1, 'orders': 3, 'sold': {'Tea': 102}}
forecast: complete False True
stopped: REVOKED
unknown: PENDING
audit: 1 × ended catalog.tasks.import_products SUCCESS
audit: 1 × ended catalog.tasks.make_all_thumbnails SUCCESS
audit: 1 × ended catalog.tasks.make_thumbnail SUCCESS
audit: 1 × ended catalog.tasks.set_price SUCCESS
audit: 1 × ended catalog.tasks.update_search_index IGNORED
audit: 1 × ended catalog.tasks.update_search_index SUCCESS
audit: 2 × ended mail.admins SUCCESS
audit: 1 × ended mail.tasks.confirm_order SUCCESS
audit: 4 × ended mail.tasks.send_mail SUCCESS
audit: 1 × ended mail.tasks.send_newsletter SUCCESS
audit: 2 × ended orders.tasks.cancel_order SUCCESS
audit: 1 × ended orders.tasks.charge_card FAILURE
audit: 1 × ended orders.tasks.charge_card SUCCESS
audit: 1 × ended orders.tasks.expire_unpaid_orders SUCCESS
audit: 1 × ended orders.tasks.place_order FAILURE
audit: 1 × ended orders.tasks.place_order SUCCESS
audit: 1 × ended orders.tasks.refund_order SUCCESS
audit: 1 × ended orders.tasks.ship_order SUCCESS
audit: 1 × ended reports.tasks.delete_old_reports SUCCESS
audit: 1 × ended reports.tasks.forecast SUCCESS
audit: 1 × ended reports.tasks.sales_report SUCCESS
audit: 1 × ended shop.celery.debug_task SUCCESS
audit: 1 × failed orders.tasks.charge_card CardDeclined: declined@example.com
audit: 1 × failed orders.tasks.place_order OutOfStock: order 3: fewer than 99 are left
for ada: confirm_order send_mail charge_card place_order ship_order sales_report
processes: True
ping: [{'ok': 'pong'}]
"""


def test_a_worker_does_what_the_tour_asks_for(project):
    project.run("manage.py", "migrate")
    worker = project.start()
    try:
        said = project.run("tour.py")
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=60) == 0, project.log
    assert said == TOUR
