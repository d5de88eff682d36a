"""The worker: one supervisor process, and the runner processes below it."""
