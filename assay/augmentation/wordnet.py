"""Synonyms from WordNet as TextAttack's word swap. Import it after `import_textattack`."""

import re
import warnings
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from nltk.corpus.reader.wordnet import WordNetCorpusReader

from assay.augmentation.augmenter import DrawnSwap
from assay.augmentation.words import MIN_CHARACTERS, match_case

MIN_SENSE_SHARE = 0.5
"""A word is swapped where at least this share of its occurrences in WordNet's tagged texts have one sense."""


class WordNetSynonymSwap(DrawnSwap):
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
        self._wordnet = open_wordnet(wordnet)
        self._synonyms = lru_cache(maxsize=None)(self._find_synonyms)
        self._sense = lru_cache(maxsize=None)(self._most_frequent_sense)

    def _get_replacement_words(self, word: str) -> list[str]:
        return [match_case(word, synonym) for synonym in self._synonyms(word.lower())]

    def _find_synonyms(self, word: str) -> tuple[str, ...]:
        base, sense = self._sense(word)
        if sense is None or word not in (base, add_s(base)):
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
            and self._sense(name) == (name, sense)
        ]
        return tuple(sorted(synonyms if word == base else map(add_s, synonyms)))

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


class EnglishWordNet(WordNetCorpusReader):  # type: ignore[misc]
    """NLTK's reader without two things that take most of its time.

    When it is made it maps all senses to another version of WordNet, for other languages; and it looks each count up in
    a file, again and again.
    """

    def map_wn(self, version: str = "wordnet") -> None:
        """No other version is asked for."""

    @cached_property
    def _counts(self) -> dict[str, int]:
        with self.open("cntlist.rev") as file:
            return {key: int(count) for key, _, count in map(str.split, file)}

    def lemma_count(self, lemma: Any) -> int:
        """How often the lemma is tagged in WordNet's texts."""
        return self._counts.get(lemma.key(), 0)


@lru_cache(maxsize=1)
def open_wordnet(folder: Path) -> EnglishWordNet:
    """NLTK's reader of the WordNet in a folder that it may read, opened once."""
    with warnings.catch_warnings():
        # No other languages: there is no Open Multilingual WordNet here.
        warnings.filterwarnings("ignore", message="The multilingual functions are not available")
        return EnglishWordNet(str(folder), None)


def add_s(word: str) -> str:
    """The regular plural of a noun, or third person of a verb."""
    if re.search("(s|x|z|ch|sh)$", word):
        return word + "es"
    if re.search("[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + "s"
