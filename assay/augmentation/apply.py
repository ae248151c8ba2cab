"""Altered texts, by recipe: in this process, or distributed to workers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import joblib
from joblib.parallel import get_active_backend

from assay.augmentation.recipes import AnyRecipe, CharacterNoise, Eda, Synonym, WholeText, WordRecipe
from assay.augmentation.textattack_import import import_textattack, readable_wordnet
from assay.core.progress import progress

ROWS_PER_CHUNK = 2_000
"""Rows that a worker takes at a time. With fewer there are no workers: each takes seconds to import TextAttack."""


def hide_tokens(text: str, tokens: Sequence[str]) -> str:
    """The text with one's own tokens as placeholders (`<OWN_TOKEN_2>`), which recipes leave alone."""
    # The longer first: one may hold another.
    for number, token in sorted(enumerate(tokens, start=1), key=lambda one: -len(one[1])):
        text = text.replace(token, f"<OWN_TOKEN_{number}>")
    return text


def show_tokens(text: str, tokens: Sequence[str]) -> str:
    """The text with its tokens again."""
    for number, token in enumerate(tokens, start=1):
        text = text.replace(f"<OWN_TOKEN_{number}>", token)
    return text


def augment_texts(
    texts: Sequence[str], seeds: Sequence[int], recipe: AnyRecipe, scratch: Path, workers: int
) -> list[str]:
    """One altered copy of each text, a function of the text, its seed (of 64 bits) and the recipe alone.

    A text in which there is nothing to alter comes back as it is.

    Args:
        scratch: the folder that `write_textattack_data` has laid out.
        workers: processes; with joblib's backend of Ray, tasks at a time.
    """
    size = ROWS_PER_CHUNK
    starts = range(0, len(texts), size)
    # Ray's backend gives all at the end.
    return_as = "generator" if get_active_backend()[0].supports_return_generator else "list"
    results: Iterable[list[str]] = joblib.Parallel(n_jobs=min(workers, max(1, len(starts))), return_as=return_as)(
        joblib.delayed(augment_in_process)(texts[start : start + size], seeds[start : start + size], recipe, scratch)
        for start in starts
    )
    done = progress(results, f"augment {recipe.name}", total=len(starts), unit="chunk")
    return [text for part in done for text in part]


def augment_in_process(texts: Sequence[str], seeds: Sequence[int], recipe: AnyRecipe, scratch: Path) -> list[str]:
    """As `augment_texts`, in this process."""
    augmenter = _augmenter(recipe.model_dump_json(), type(recipe), scratch)
    return [str(augmenter.copy(text, seed)) for text, seed in zip(texts, seeds, strict=True)]


@lru_cache(maxsize=16)
def _augmenter(block: str, kind: type[AnyRecipe], scratch: Path) -> Any:
    """The augmenter of a recipe, made once in each process."""
    import_textattack(scratch)
    # Their classes are TextAttack's, which can be imported from here on.
    from assay.augmentation import augmenter, character_noise, text_changes

    recipe: Any = kind.model_validate_json(block)
    share = recipe.share_of_words if isinstance(recipe, WordRecipe) else 0.0
    transformation: Any
    if isinstance(recipe, Synonym):
        transformation = _synonyms(scratch)
    elif isinstance(recipe, CharacterNoise):
        transformation = character_noise.CharacterNoise(tuple(recipe.kinds))
    elif isinstance(recipe, Eda):
        transformation = text_changes.Eda(_synonyms(scratch), tuple(recipe.operations))
    else:
        assert isinstance(recipe, WholeText)
        transformation = text_changes.Contraction()
    return augmenter.KeyedAugmenter(transformation, share)


@lru_cache(maxsize=1)
def _synonyms(scratch: Path) -> Any:
    """One for all recipes with synonyms, since it remembers what it has looked up."""
    from assay.augmentation.wordnet import WordNetSynonymSwap

    return WordNetSynonymSwap(readable_wordnet(scratch))
