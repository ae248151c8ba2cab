"""Altered copies of texts by TextAttack: the work that worker processes do."""

import random
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stages.lib.textattack_import import import_textattack, readable_wordnet

RecipeName = Literal["synonym", "character_noise"]


def altered_copies(
    texts: list[str], seeds: list[int], recipe: RecipeName, share_of_words: float, scratch: Path
) -> list[str]:
    """One altered copy of each text, a function of the text, its seed and the recipe alone.

    A text without a word that the recipe may alter comes back as it is.

    Args:
        texts: shape `(n,)`.
        seeds: of 64 bits, shape `(n,)`.
        recipe: name of the recipe.
        share_of_words: of the words of a text that are altered; at least one.
        scratch: the folder that `write_textattack_data` has laid out.
    """
    augmenter = _augmenter(recipe, share_of_words, scratch)
    copies = []
    for text, seed in zip(texts, seeds, strict=True):
        # TextAttack takes no generator: it draws from both of the global ones.
        random.seed(seed)
        np.random.seed([seed % 2**32, seed // 2**32])
        copies.append(augmenter.augment(text)[0])
    return copies


@lru_cache(maxsize=4)
def _augmenter(recipe: RecipeName, share_of_words: float, scratch: Path) -> Any:
    """The TextAttack augmenter of a recipe, made once in each process."""
    import_textattack(scratch)
    # Its classes are TextAttack's, which can be imported from here on.
    from stages.lib.word_swaps import character_noise_augmenter, synonym_augmenter

    if recipe == "synonym":
        return synonym_augmenter(readable_wordnet(scratch), share_of_words)
    return character_noise_augmenter(share_of_words)
