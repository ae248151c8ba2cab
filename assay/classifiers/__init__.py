"""Text classifiers: checkpoints, the training loop, baselines, prediction."""
