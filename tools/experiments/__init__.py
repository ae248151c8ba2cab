"""Experiments beside the pipeline: benchmarks on other data, tuning."""
