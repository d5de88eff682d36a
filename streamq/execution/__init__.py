"""Execution: from a delivery to its outcome."""
