"""The pools of a runner: one task at a time, or many in greenlets."""
