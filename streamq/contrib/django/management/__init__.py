"""What ``manage.py`` can do with streamq."""
