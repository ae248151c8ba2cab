"""TextAttack's augmenter, one copy of a text at a time, each a function of the text and a seed alone.

TextAttack's own `Augmenter` makes every possible change of a text to keep one of them at random, draws from the global
generators, and orders what it draws from by Python's hash seed. `KeyedAugmenter` takes word swaps whose candidates
depend on the word alone (`DrawnSwap`), and changes of a whole text (`TextChange`), and makes only the change that it
keeps. Import it after `import_textattack`.

TextAttack carries no types, hence the ignored subclasses.
"""

import random
from random import Random
from typing import Any

from textattack.augmentation import Augmenter
from textattack.constraints import PreTransformationConstraint
from textattack.constraints.pre_transformation import MinWordLength, RepeatModification
from textattack.shared import AttackedText
from textattack.transformations import Transformation, WordSwap

from assay.augmentation.words import MIN_CHARACTERS, count_words_to_alter, find_plain_words, replace_words


class PlainWords(PreTransformationConstraint):  # type: ignore[misc]
    """Allow only plain words: no stop word, no name, not part of a mention, tag, address or placeholder.

    TextAttack cuts `@friend`, `#happy` and `<URL>` down to the word inside, and compares stop words by case, so its own
    constraint would let all of these through.
    """

    def _get_modifiable_indices(self, current_text: Any) -> set[int]:
        text = current_text.text
        # TextAttack takes this for the border between two inputs, and loses what follows.
        if current_text.SPLIT_TOKEN in text:
            return set()
        plain = {start for start, _ in find_plain_words(text, 1)}
        indices = set()
        end = 0
        for index, word in enumerate(current_text.words):
            start = text.index(word, end)
            end = start + len(word)
            if start in plain:
                indices.add(index)
        return indices


class DrawnSwap(WordSwap):  # type: ignore[misc]
    """A word swap whose candidates depend on the word alone."""

    def draw(self, word: str, draws: Random) -> str | None:
        """One of the candidates for a plain word; None where there is none."""
        candidates = self._get_replacement_words(word)
        return draws.choice(candidates) if candidates else None


class TextChange(Transformation):  # type: ignore[misc]
    """A change of a text as a whole."""

    def change(self, text: str, share_of_words: float, draws: Random) -> str:
        """The text, changed; as it was, where there is nothing to change.

        Of its words `share_of_words` are changed, where the change is of single words.
        """
        raise NotImplementedError

    def _get_transformations(self, current_text: Any, indices_to_modify: Any) -> list[Any]:
        changed = self.change(current_text.text, 0.0, Random(random.getrandbits(64)))
        return [] if changed == current_text.text else [AttackedText(changed)]


class KeyedAugmenter(Augmenter):  # type: ignore[misc]
    """An augmenter that makes one copy of a text; `share_of_words` of its words are altered, at least one."""

    def __init__(self, transformation: DrawnSwap | TextChange, share_of_words: float) -> None:
        constraints = [RepeatModification(), MinWordLength(MIN_CHARACTERS), PlainWords()]
        super().__init__(transformation, constraints, pct_words_to_swap=share_of_words)

    def copy(self, text: str, seed: int) -> str:
        """The altered text; the text itself where there is nothing to alter."""
        draws = Random(seed)
        if isinstance(self.transformation, TextChange):
            return self.transformation.change(text, self.pct_words_to_swap, draws)
        spans = find_plain_words(text)
        draws.shuffle(spans)
        wanted = count_words_to_alter(text, self.pct_words_to_swap)
        altered: dict[tuple[int, int], str] = {}
        for start, end in spans:
            if len(altered) == wanted:
                break
            if (word := self.transformation.draw(text[start:end], draws)) is not None:
                altered[start, end] = word
        return replace_words(text, altered)

    def augment(self, text: str) -> list[str]:
        """As TextAttack's: a list of one copy, drawn from Python's global generator."""
        return [self.copy(text, random.getrandbits(64))]
