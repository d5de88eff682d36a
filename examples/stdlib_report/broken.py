# This file is broken on purpose: its task fails, and the report says so.
def unfinished(:
