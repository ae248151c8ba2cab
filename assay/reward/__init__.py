"""The reward model: its checkpoint, its training, its evaluation on held-out pairs."""
