"""Products: pictures, prices, and the search index."""

from datetime import timedelta
from decimal import Decimal
from unittest import mock

from django.utils import timezone

from catalog import tasks
from catalog.models import Product


def test_a_thumbnail_is_smaller(eager, tea, pictures):
    Product.objects.update(picture="tea.pgm")
    made = tasks.make_thumbnail.delay(tea.pk).get()
    assert made == {"file": "tea-small.pgm", "size": (4, 2)}
    lines = (pictures / "tea-small.pgm").read_text().splitlines()
    assert lines == ["P2 4 2 255", "0 2 4 6", "2 4 6 8"]


def test_all_thumbnails_are_tasks_of_their_own(tea, pictures):
    Product.objects.update(picture="tea.pgm")
    with mock.patch("catalog.tasks.make_thumbnail.delay") as delay:
        delay.return_value.id = "1"
        assert tasks.make_all_thumbnails() == ["1"]
    delay.assert_called_once_with(tea.pk)


def test_an_import_says_how_far_it_is(eager, db, tmp_path):
    file = tmp_path / "products.csv"
    file.write_text("name,price,stock\nTea,4.50,10\nCoffee,9.90,5\n")
    with mock.patch("catalog.tasks.import_products.update_state") as update_state:
        assert tasks.import_products.apply((str(file),)).get() == 2
    assert update_state.call_args_list == [
        mock.call(state="PROGRESS", meta={"done": 1, "total": 2}),
        mock.call(state="PROGRESS", meta={"done": 2, "total": 2}),
    ]
    assert Product.objects.get(name="Coffee").price == Decimal("9.90")


def test_a_price_is_changed(tea):
    changed = tasks.set_price(tea.pk, Decimal("5"), timezone.now() + timedelta(hours=1))
    assert changed == {"old": Decimal("4.50"), "late_by": 0.0}
    tea.refresh_from_db()
    assert tea.price == Decimal("5.00")


def test_only_what_has_changed_is_indexed(eager, tea):
    assert tasks.update_search_index.delay().get() == 1
    result = tasks.update_search_index.apply()
    assert result.state == "IGNORED"
