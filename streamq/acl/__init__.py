"""Rights: what each role needs in Redis, and what is missing."""
