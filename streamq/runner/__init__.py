"""One process that runs tasks."""
