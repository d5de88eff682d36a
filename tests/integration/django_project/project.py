"""The settings of the project; the tests give its Redis and its databases by the environment."""

import json
import os

SECRET_KEY = "for tests"
DEBUG = os.environ.get("DEBUG") == "1"
USE_TZ = True
ROOT_URLCONF = "shop.urls"
ALLOWED_HOSTS = ["*"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["streamq.contrib.django", "shop", *os.environ.get("MORE_APPS", "").split()]
SQLITE = {"ENGINE": "django.db.backends.sqlite3", "ATOMIC_REQUESTS": True}
DATABASES = {
    "default": {**SQLITE, "NAME": os.environ.get("DATABASE", ":memory:")},
    "other": {**SQLITE, "NAME": ":memory:"},
}
if "DATABASES" in os.environ:
    DATABASES = json.loads(os.environ["DATABASES"])
STREAMQ = {"RESULT_EXPIRES": "10m", **json.loads(os.environ.get("MORE_SETTINGS", "{}"))}
