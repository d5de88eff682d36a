"""Configuration: the settings, and the sources of their values."""
