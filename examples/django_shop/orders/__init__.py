"""Orders: what is stored, the pages, and the tasks."""
