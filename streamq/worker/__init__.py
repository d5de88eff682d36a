"""The processes of a worker: a supervisor, and the runners below it."""
