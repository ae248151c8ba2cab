"""The report: plots, examples, and the sections on augmentation and language models."""
