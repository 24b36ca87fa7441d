"""What a folder of runs says: gathered, grouped by what must be equal, compared, and shown on a page."""
