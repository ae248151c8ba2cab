"""Edits of params.yaml that keep its comments."""
