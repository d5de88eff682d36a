"""A tour of the shop: sends every kind of task to a worker, and prints what came of it.

python manage.py migrate
celery -A shop worker -Q celery,mail,pictures -c 2 &
python tour.py
"""

import os
import time
from collections import Counter
from datetime import timedelta
from decimal import Decimal

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
django.setup()

from celery import current_app  # noqa: E402 - Django comes first
from celery.exceptions import TaskRevokedError  # noqa: E402
from celery.result import AsyncResult  # noqa: E402
from django.conf import settings  # noqa: E402
from django.test import Client  # noqa: E402
from django.utils import timezone  # noqa: E402

from audit.models import Entry  # noqa: E402
from catalog import tasks as catalog  # noqa: E402
from catalog.models import Product  # noqa: E402
from mail import tasks as mail  # noqa: E402
from mail.models import Subscriber  # noqa: E402
from orders import tasks as orders  # noqa: E402
from orders.models import Order  # noqa: E402
from reports import tasks as reports  # noqa: E402
from shop.celery import debug_task  # noqa: E402

SECONDS = 30
client = Client(headers={"X-User": "ada"})


def wait_for(condition):
    end = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)
    return found


def subjects():
    """The subjects of all mail that was sent."""
    texts = [file.read_text() for file in settings.EMAIL_FILE_PATH.glob("*.log")]
    lines = "\n".join(texts).splitlines()
    return Counter(line.removeprefix("Subject: ") for line in lines if line.startswith("Subject: "))


def tour_of_orders():
    tea = Product.objects.create(name="Tea", price=Decimal("4.50"), stock=10)
    given = {"email": "ada@example.com", "product": tea.pk, "quantity": 2}
    made = client.post("/orders/", given, "application/json").json()
    page = f"/orders/{made['id']}/"
    wait_for(lambda: client.get(page).json()["status"] == "shipped")
    wait_for(lambda: subjects()[f"Your order {made['id']}"])
    print("order: shipped and confirmed")

    declined = Order.objects.create(email="declined@example.com", product=tea)
    failed = orders.charge_card.delay(declined.pk)
    print("declined:", repr(failed.get(timeout=SECONDS, propagate=False)), failed.state)
    wait_for(lambda: subjects()["orders.tasks.charge_card failed"])
    print("declined: the administrators know")

    large = Order.objects.create(email="bob@example.com", product=tea, quantity=99)
    try:
        orders.place_order.delay(large.pk).get(timeout=SECONDS)
    except orders.OutOfStock as error:
        print("too much:", error)

    print("refund: attempts", orders.refund_order.delay(made["id"]).get(timeout=SECONDS))
    orders.expire_unpaid_orders.delay(before=timezone.now() + timedelta(seconds=1))
    wait_for(lambda: not Order.objects.filter(status=Order.Status.NEW).exists())
    print("orders:", *sorted(Order.objects.values_list("status", flat=True)))


def tour_of_the_catalog():
    settings.PICTURES_DIR.mkdir(exist_ok=True)
    (settings.PICTURES_DIR / "tea.pgm").write_text("P2 8 4 255 " + "7 " * 32)
    Product.objects.update(picture="tea.pgm")
    for task_id in catalog.make_all_thumbnails.delay().get(timeout=SECONDS):
        print("thumbnail:", AsyncResult(task_id).get(timeout=SECONDS))

    table = settings.PICTURES_DIR / "products.csv"
    table.write_text("name,price,stock\nCoffee,9.90,5\nCocoa,3.20,7\n")
    print("imported:", catalog.import_products.delay(str(table)).get(timeout=SECONDS))

    coffee = Product.objects.get(name="Coffee")
    moment = timezone.now() + timedelta(hours=1)
    changed = catalog.set_price.delay(coffee.pk, Decimal("8"), valid_from=moment)
    print("price:", changed.get(timeout=SECONDS))

    print("indexed:", catalog.update_search_index.delay().get(timeout=SECONDS))
    skipped = catalog.update_search_index.delay()
    wait_for(lambda: skipped.state == "SKIPPED")
    print("indexed:", skipped.state, skipped.info)


def tour_of_mail():
    for name in ("ada", "bob", "eve"):
        Subscriber.objects.create(email=f"{name}@example.com")
    print("newsletter:", mail.send_newsletter.delay("News", "Tea is here.").get(timeout=SECONDS))
    wait_for(lambda: subjects()["News"] == 3)
    current_app.send_task("mail.admins", ("By name", "It works."))
    wait_for(lambda: subjects()["By name"])
    print("mail:", sorted(subjects().items()))


def tour_of_reports():
    page = client.post("/reports/sales/").json()["status_url"]
    wait_for(lambda: client.get(page).json()["ready"])
    answer = client.get(page).json()
    print("report:", answer["state"], answer["result"])

    late = reports.forecast.delay(100, 0.05).get(timeout=SECONDS)
    print("forecast: complete", late["complete"], 0 < late["days"] < 100)

    endless = reports.forecast.apply_async((100, 1), soft_time_limit=50, time_limit=60)
    wait_for(lambda: endless.state == "STARTED")
    client.delete(f"/reports/status/{endless.id}/")
    try:
        endless.get(timeout=SECONDS)
    except TaskRevokedError:
        print("stopped:", endless.state)

    nobody = client.get("/reports/status/nobody-knows-this/").json()
    print("unknown:", nobody["state"])
    reports.delete_old_reports.delay(days=30)
    debug_task.delay()


def tour_of_the_audit():
    entries = Entry.objects.exclude(task="").exclude(detail__in=["", "REVOKED"])
    last = ["reports.tasks.delete_old_reports", "shop.celery.debug_task"]
    wait_for(lambda: entries.filter(task__in=last).count() == 2)
    counted = Counter(entries.values_list("event", "task", "detail"))
    for (event, task, detail), number in sorted(counted.items()):
        print(f"audit: {number} × {event} {task} {detail}")
    users = entries.exclude(user="").values_list("task", flat=True).distinct().order_by("task")
    print("for ada:", *(name.rpartition(".")[2] for name in users))
    print("processes:", Entry.objects.filter(event="process").count() >= 2)
    print("ping:", [*map(dict, (answer for each in ping() for answer in each.values()))])


def ping():
    """What the living workers answer."""
    return current_app.control.ping(timeout=2)


if __name__ == "__main__":
    tour_of_orders()
    tour_of_the_catalog()
    tour_of_mail()
    tour_of_reports()
    tour_of_the_audit()
