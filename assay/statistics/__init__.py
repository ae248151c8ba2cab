"""Scores and their uncertainty: classification metrics, the bootstrap, detection metrics."""
