"""Scores of a model that need no target label: one file each."""
