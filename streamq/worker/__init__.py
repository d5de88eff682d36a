"""One supervisor process, and the runners below it."""
