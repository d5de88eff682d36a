"""The runner: one process that executes tasks."""
