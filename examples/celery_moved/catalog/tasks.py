"""Products: their pictures, prices and the search index."""

import csv
from decimal import Decimal

from celery import shared_task, states
from celery.exceptions import Ignore
from celery.utils.log import get_task_logger
from django.conf import settings
from django.db.models import F, Q
from django.utils import timezone

from .models import Product
from .pictures import shrink

logger = get_task_logger(__name__)


@shared_task(acks_late=True, reject_on_worker_lost=True, soft_time_limit=50, time_limit=60)
def make_thumbnail(product_id, width=4):
    """Make the small picture of a product; a worker that dies leaves it to another."""
    product = Product.objects.get(pk=product_id)
    source = settings.PICTURES_DIR / product.picture
    target = source.with_name(f"{source.stem}-small.pgm")
    size = shrink(source, target, width)
    Product.objects.filter(pk=product_id).update(thumbnail=target.name)
    return {"file": target.name, "size": size}


@shared_task
def make_all_thumbnails():
    """Send a task for each picture that has no small one yet; return their ids."""
    missing = Product.objects.exclude(picture="").filter(thumbnail="")
    return [make_thumbnail.delay(product.pk).id for product in missing]


@shared_task(bind=True)
def import_products(self, path):
    """Read products from a CSV file, and say how far it has come."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    for done, row in enumerate(rows, 1):
        values = {"price": Decimal(row["price"]), "stock": int(row["stock"])}
        Product.objects.update_or_create(name=row["name"], defaults=values)
        self.update_state(state="PROGRESS", meta={"done": done, "total": len(rows)})
    return len(rows)


@shared_task
def set_price(product_id, price, valid_from):
    """Change a price at a moment; return the old price, and how many seconds were left."""
    product = Product.objects.get(pk=product_id)
    old, product.price = product.price, price.quantize(Decimal("0.01"))
    product.save(update_fields=["price", "changed_at"])
    return {"old": old, "late_by": max(0.0, (timezone.now() - valid_from).total_seconds())}


@shared_task(bind=True)
def update_search_index(self):
    """Index what has changed.  Where nothing has, the task keeps a state of its own."""
    stale = Q(indexed_at=None) | Q(indexed_at__lt=F("changed_at"))
    changed = list(Product.objects.filter(stale).values_list("pk", flat=True))
    if not changed:
        self.update_state(state="SKIPPED", meta={"previous": states.SUCCESS})
        raise Ignore()
    return Product.objects.filter(pk__in=changed).update(indexed_at=timezone.now())
