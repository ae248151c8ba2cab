"""Scores of generated answers, and differences of two models on the same questions."""
