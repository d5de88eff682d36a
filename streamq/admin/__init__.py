"""Inspection and repair of a namespace: queues, workers, dead letters and the doctor."""
