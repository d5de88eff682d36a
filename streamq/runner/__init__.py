"""What every runner has, whichever pool it executes with: a desk, an intake, its slots."""
