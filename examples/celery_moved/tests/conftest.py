"""Fixtures: products, an order, and a worker in a thread on the server of REDIS_URL."""

from decimal import Decimal

import pytest
from celery.contrib.pytest import (  # noqa: F401 - they are fixtures
    celery_app,
    celery_enable_logging,
    celery_includes,
    celery_worker,
    celery_worker_pool,
    use_celery_app_trap,
)
from django.conf import settings as django_settings

from catalog.models import Product
from orders.models import Order


@pytest.fixture(scope="session")
def celery_config():
    """Let the app of the tests use the server and the results of the project."""
    url = django_settings.CELERY_BROKER_URL
    return {"broker_url": url, "result_backend": url, "task_track_started": True}


@pytest.fixture(scope="session")
def celery_parameters():
    """Let the app of the tests have the task class of the project."""
    return {"task_cls": "shop.base:ShopTask"}


@pytest.fixture(scope="session")
def celery_worker_parameters():
    """A worker that answers at once; it need not prove that it does."""
    return {"perform_ping_check": False}


@pytest.fixture
def eager(settings):
    """Run tasks where they are sent."""
    settings.CELERY_TASK_ALWAYS_EAGER = True


@pytest.fixture
def tea(db):
    return Product.objects.create(name="Tea", price=Decimal("4.50"), stock=10)


@pytest.fixture
def order(tea):
    return Order.objects.create(email="ada@example.com", product=tea, quantity=2)


@pytest.fixture
def pictures(settings, tmp_path):
    """A folder for pictures, with one of 8 × 4 pixels."""
    settings.PICTURES_DIR = tmp_path
    rows = "\n".join(" ".join(str(x + y) for x in range(8)) for y in range(4))
    (tmp_path / "tea.pgm").write_text(f"P2\n8 4\n255\n{rows}\n")
    return tmp_path
