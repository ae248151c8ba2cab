"""Causal language models: chat template, checkpoints, generation, TRL's trainers."""
