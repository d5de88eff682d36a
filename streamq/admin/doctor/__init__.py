"""The doctor: gathers facts about a Redis and its namespace, and checks them."""
