"""The services of a supervisor, one file each."""
