"""Attacks of TextAttack on a classifier. Import it after `import_textattack`.

An attack looks for a small change to a text that makes the model give up the right label. It sees the model's
probabilities and nothing else of it, for so many texts (its budget).

- `deep_word_bug`: typing errors (Gao et al. 2018, https://arxiv.org/abs/1801.04354), as TextAttack's recipe
  `DeepWordBugGao2018` has it.
- `wordnet`: synonyms, words in the order of probability-weighted word saliency (Ren et al. 2019,
  https://aclanthology.org/P19-1103), with the synonyms of our augmentation: those of TextAttack's `WordSwapWordNet` are
  of any sense, and many change what the text says (awesome to awful), which is no fault of the model.

Both leave what is no plain word (placeholders, names, mentions, tags, addresses) as it is.

TextAttack carries no types, hence the ignored subclass.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from textattack import Attack
from textattack.attack_results import SkippedAttackResult, SuccessfulAttackResult
from textattack.constraints.overlap import LevenshteinEditDistance
from textattack.constraints.pre_transformation import RepeatModification, StopwordModification
from textattack.goal_functions import UntargetedClassification
from textattack.models.wrappers import ModelWrapper
from textattack.search_methods import GreedyWordSwapWIR
from textattack.shared.utils import logger
from textattack.transformations import (
    CompositeTransformation,
    WordSwapNeighboringCharacterSwap,
    WordSwapRandomCharacterDeletion,
    WordSwapRandomCharacterInsertion,
    WordSwapRandomCharacterSubstitution,
)

from assay.augmentation.augmenter import PlainWords
from assay.augmentation.wordnet import WordNetSynonymSwap
from assay.core.seeds import seed_32

Outcome = Literal["succeeded", "failed", "skipped"]


@dataclass(frozen=True)
class Attacked:
    """How an attack on one text ended: `skipped`, with None in what follows, where the model was wrong from the start.

    Attributes:
        after: the text that the search ended with.
        queries: texts that the model was given, the unaltered one included.
        alterable: whether there was a word that the attack could change.
        changed_words: share of the words that are other words in `after`.
    """

    after: str | None
    outcome: Outcome
    queries: int
    alterable: bool | None
    changed_words: float | None


class Victim(ModelWrapper):  # type: ignore[misc]
    """A model as TextAttack wants it: a list of texts to their probabilities."""

    def __init__(self, probabilities: Callable[[list[str]], NDArray[np.float64]]) -> None:
        # TextAttack checks the class of `model`, to warn of those that it does not know.
        self.model = probabilities

    def __call__(self, text_input_list: list[str]) -> NDArray[np.float64]:
        """Probabilities, shape `(texts, k)`."""
        return self.model(text_input_list)


def build_attacks(
    probabilities: Callable[[list[str]], NDArray[np.float64]], query_budget: int, batch_size: int, wordnet: Path
) -> dict[str, Any]:
    """The attacks by name (TextAttack's `Attack`) on a model that gives `probabilities`, shape `(texts, k)`."""
    # It warns whenever it is given a model that it does not know.
    logger.setLevel(logging.ERROR)
    victim = Victim(probabilities)
    # Given the stop words, it need not look for a file of NLTK's.
    untouched = [RepeatModification(), StopwordModification(ENGLISH_STOP_WORDS), PlainWords()]
    typing_errors = CompositeTransformation(
        [
            WordSwapNeighboringCharacterSwap(),
            WordSwapRandomCharacterSubstitution(),
            WordSwapRandomCharacterDeletion(),
            WordSwapRandomCharacterInsertion(),
        ]
    )
    parts = {
        "deep_word_bug": ([*untouched, LevenshteinEditDistance(30)], typing_errors, GreedyWordSwapWIR()),
        "wordnet": (untouched, WordNetSynonymSwap(wordnet), GreedyWordSwapWIR("weighted-saliency")),
    }
    return {
        name: Attack(UntargetedClassification(victim, query_budget=query_budget, model_batch_size=batch_size), *of_one)
        for name, of_one in parts.items()
    }


def attack_text(attack: Any, text: str, target: int, seed: int) -> Attacked:
    """Attack a text of the class `target`; the outcome is a function of the attack, the text, it and the seed alone."""
    # With 64 bits, both of the global generators: TextAttack takes none, and draws from them.
    random.seed(seed)
    np.random.seed([seed_32(seed), seed // 2**32])
    # It clears them after an attack, but not after a text that it skips.
    attack.clear_cache()
    result = attack.attack(text, target)
    if isinstance(result, SkippedAttackResult):
        return Attacked(None, "skipped", result.num_queries, None, None)
    before, after = result.original_result.attacked_text, result.perturbed_result.attacked_text
    outcome: Outcome = "succeeded" if isinstance(result, SuccessfulAttackResult) else "failed"
    alterable = bool(attack.get_transformations(before, before))
    changed_words = len(before.all_words_diff(after)) / max(1, before.num_words)
    return Attacked(after.text, outcome, result.num_queries, alterable, changed_words)
