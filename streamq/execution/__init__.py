"""From a message that was received to how its run ended."""
