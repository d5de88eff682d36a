"""The command line of the project that the tests of ``streamq.contrib.django`` use."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project")
    execute_from_command_line(sys.argv)
