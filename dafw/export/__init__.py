"""Finished runs as single files that need no dafw: see `python -m dafw.export --help`."""
