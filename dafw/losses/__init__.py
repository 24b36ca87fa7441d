"""Losses that several methods share, as pure functions; a file a family."""
