"""Types and rules that producers and workers share; no I/O."""
