"""From a call to a message that is published."""
