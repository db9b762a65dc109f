"""Scores of generated images against a reference set, under a named protocol."""
