"""How a runner executes tasks: one by one, or in greenlets."""
