"""Augmentation by TextAttack: recipes, word swaps, checks of augmented examples, attacks."""
