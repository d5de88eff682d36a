"""The duties of a supervisor, one file each."""
