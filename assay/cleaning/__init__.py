"""Cleaning rules on Polars columns, the chain that applies them, and the checks of columns."""
