"""Experiments beside the pipeline: the augmentation ablation, benchmarks on other data, tuning."""
