"""Word swaps and constraints for TextAttack. Import it after `import_textattack`.

TextAttack carries no types, hence the ignored subclasses.
"""

import re
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

from nltk.corpus.reader.wordnet import WordNetCorpusReader
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from textattack.augmentation import Augmenter
from textattack.constraints import PreTransformationConstraint
from textattack.constraints.pre_transformation import MinWordLength, RepeatModification
from textattack.transformations import (
    CompositeTransformation,
    WordSwap,
    WordSwapNeighboringCharacterSwap,
    WordSwapQWERTY,
    WordSwapRandomCharacterDeletion,
    WordSwapRandomCharacterInsertion,
)

MIN_CHARACTERS = 4
"""Shorter words are left alone: one letter off makes most of them another word, and their senses are many."""

MIN_SENSE_SHARE = 0.5
"""A word is swapped where at least this share of its occurrences in WordNet's tagged texts have one sense."""

LOWER_CASE = "abcdefghijklmnopqrstuvwxyz"

CONTRACTION = re.compile(
    "(ai|are|ca|could|did|does|do|had|has|have|is|should|was|were|wo|would)nt|(they|you)(re|ll|ve)|weve|(let|that|what)s"
)
"""Contractions as people type them; WordNet knows some of them as other words (cant, wont)."""

UNTOUCHED_TOKEN = re.compile(r"[@#<>/\\&_*=\d]|\w\.\w")
"""A token with one of these is a placeholder, a mention, a tag, an address, a number or markup."""


class PlainWords(PreTransformationConstraint):  # type: ignore[misc]
    """Allow only plain words: letters alone, no stop word, no name, not part of a mention, tag, address or placeholder.

    TextAttack cuts `@friend`, `#happy` and `<URL>` down to the word inside, and compares stop words by case, so its own
    constraint would let all of these through.
    """

    def _get_modifiable_indices(self, current_text: Any) -> set[int]:
        text = current_text.text
        # TextAttack takes this for the border between two inputs, and loses what follows.
        if current_text.SPLIT_TOKEN in text:
            return set()
        plain = set()
        end = 0
        for index, word in enumerate(current_text.words):
            start = text.index(word, end)
            end = start + len(word)
            if _is_plain(text, word, start, end):
                plain.add(index)
        return plain


def _is_plain(text: str, word: str, start: int, end: int) -> bool:
    if not (word.isascii() and word.isalpha() and (word.islower() or word.isupper() or word.istitle())):
        return False
    lowered = word.lower()
    if lowered in ENGLISH_STOP_WORDS or CONTRACTION.fullmatch(lowered):
        return False
    before, after = text[:start].split(" ")[-1], text[end:].split(" ")[0]
    if UNTOUCHED_TOKEN.search(before + word + after):
        return False
    starts_sentence = not text[:start].strip("\"'( ") or text[:start].rstrip("\"'( ")[-1:] in ".!?:"
    return starts_sentence or not word.istitle()


class WordNetSynonymSwap(WordSwap):  # type: ignore[misc]
    """Swap a word for a WordNet synonym in its most frequent sense.

    TextAttack's `WordSwapWordNet` offers the lemmas of every sense of every part of speech, in the order of a set,
    which varies with `PYTHONHASHSEED`. Here:

    1. The sense is the one most often tagged in WordNet's texts, and only where it has at least `MIN_SENSE_SHARE` of
       the word's occurrences. That settles the part of speech, too. A name (John) has no synonym.
    2. Candidates are its other lemmas for which this is the most frequent sense, too (so a disc is no record, and a
       night no dark), of at least `MIN_CHARACTERS`; in alphabetical order.
    3. A word in its base form is swapped, and one with a regular ending -s, which the synonym then gets. Other
       inflected forms are left alone: their synonyms would come in their base form. So are adjectives in -er and -est,
       which WordNet lists beside synonyms without the comparison (greatest, sterling).
    4. A synonym follows the case of the word.
    """

    def __init__(self, wordnet: Path) -> None:
        super().__init__()
        with warnings.catch_warnings():
            # No other languages: there is no Open Multilingual WordNet here.
            warnings.filterwarnings("ignore", message="The multilingual functions are not available")
            self._wordnet = WordNetCorpusReader(str(wordnet), None)
        self._synonyms = lru_cache(maxsize=None)(self._find_synonyms)

    def _get_replacement_words(self, word: str) -> list[str]:
        return [in_case_of(word, synonym) for synonym in self._synonyms(word.lower())]

    def _find_synonyms(self, word: str) -> tuple[str, ...]:
        base, sense = self._most_frequent_sense(word)
        if sense is None or word not in (base, with_s(base)):
            return ()
        if sense.pos() in "as" and base.endswith(("er", "est")):
            return ()
        synonyms = [
            name
            for name in sense.lemma_names()
            if name != base
            and len(name) >= MIN_CHARACTERS
            and name.isalpha()
            and name.islower()
            and self._most_frequent_sense(name) == (name, sense)
        ]
        return tuple(sorted(synonyms if word == base else map(with_s, synonyms)))

    def _most_frequent_sense(self, word: str) -> tuple[str, Any]:
        """The base form of a word in its most frequent sense, and that sense, or None where none is clearly ahead."""
        lemmas = [
            (base, lemma)
            for part in "nvar"
            if (base := self._wordnet.morphy(word, part)) is not None
            for lemma in self._wordnet.lemmas(base, part)
        ]
        counts = [lemma.count() for _, lemma in lemmas]
        most = max(counts, default=0)
        if most == 0 or most < MIN_SENSE_SHARE * sum(counts) or any(not lemma.name().islower() for _, lemma in lemmas):
            return word, None
        base, lemma = lemmas[counts.index(most)]
        return base, lemma.synset()


def with_s(word: str) -> str:
    """The regular plural of a noun, or third person of a verb."""
    if re.search("(s|x|z|ch|sh)$", word):
        return word + "es"
    if re.search("[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + "s"


def in_case_of(word: str, synonym: str) -> str:
    """The synonym in capitals or with a capital letter, as the word is."""
    if len(word) > 1 and word.isupper():
        return synonym.upper()
    return synonym.capitalize() if word[:1].isupper() else synonym


def synonym_augmenter(wordnet: Path, share_of_words: float) -> Any:
    """A TextAttack augmenter that swaps words for synonyms.

    Args:
        wordnet: folder that `readable_wordnet` gives.
        share_of_words: of the words of a text that are swapped; at least one.
    """
    return Augmenter(
        transformation=WordNetSynonymSwap(wordnet),
        constraints=[RepeatModification(), MinWordLength(MIN_CHARACTERS), PlainWords()],
        pct_words_to_swap=share_of_words,
    )


def character_noise_augmenter(share_of_words: float) -> Any:
    """A TextAttack augmenter that makes a typing error in words: letters swapped, left out, put in, or a key beside.

    The first and the last letter stay, as they mostly do when people mistype.

    Args:
        share_of_words: of the words of a text that get an error; at least one.
    """
    inner = {"skip_first_char": True, "skip_last_char": True}
    return Augmenter(
        transformation=CompositeTransformation(
            [
                WordSwapNeighboringCharacterSwap(**inner),
                WordSwapRandomCharacterDeletion(**inner),
                WordSwapRandomCharacterInsertion(letters_to_insert=LOWER_CASE, **inner),
                WordSwapQWERTY(**inner),
            ]
        ),
        constraints=[RepeatModification(), MinWordLength(MIN_CHARACTERS), PlainWords()],
        pct_words_to_swap=share_of_words,
    )
