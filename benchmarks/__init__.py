"""How fast streamq is, beside a bare loop and beside its peers: ``python -m benchmarks``."""
