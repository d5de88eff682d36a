"""The table of orders."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Makes the table."""

    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Order",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("customer", models.EmailField(max_length=254)),
                ("placed", models.DateTimeField(auto_now_add=True)),
                ("confirmed", models.DateTimeField(null=True)),
                ("task", models.CharField(default="", max_length=200)),
            ],
        )
    ]
