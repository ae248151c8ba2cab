"""Changes of a text as a whole: easy data augmentation and contractions.

Import it after `import_textattack`.
"""

import re
from pathlib import Path
from random import Random

import yaml
from textattack.shared.data import EXTENSION_MAP

from assay.augmentation.augmenter import DrawnSwap, TextChange
from assay.augmentation.recipes import EdaOperation
from assay.augmentation.words import Span, count_words_to_alter, find_plain_words, replace_words
from assay.core.patterns import fill_patterns


class Eda(TextChange):
    """One of the four operations of easy data augmentation (Wei & Zou 2019, section 2), on plain words alone.

    So no negation, name, number or placeholder is moved, deleted or replaced. All `operations` are as likely; the next
    is made where one finds nothing to do. The `synonyms` are for `replace` and `insert`.
    """

    def __init__(self, synonyms: DrawnSwap, operations: tuple[EdaOperation, ...]) -> None:
        self.synonyms = synonyms
        self.operations = operations

    def change(self, text: str, share_of_words: float, draws: Random) -> str:
        """The text after one operation."""
        spans = find_plain_words(text)
        wanted = count_words_to_alter(text, share_of_words)
        draws.shuffle(spans)
        for operation in draws.sample(self.operations, len(self.operations)):
            if operation == "swap":
                changed = self._swapped(text, spans, wanted)
            elif operation == "delete":
                changed = self._without(text, spans, wanted)
            else:
                changed = self._with_synonyms(text, spans, wanted, draws, keep=operation == "insert")
            if changed != text:
                return changed
        return text

    def _swapped(self, text: str, spans: list[Span], wanted: int) -> str:
        """Pairs of words, each in the place of the other."""
        words = {}
        for left, right in list(zip(spans[::2], spans[1::2], strict=False))[:wanted]:
            words[left], words[right] = text[slice(*right)], text[slice(*left)]
        return replace_words(text, words)

    def _without(self, text: str, spans: list[Span], wanted: int) -> str:
        """The text without some words, but never without the last of those that may go."""
        gone = spans[: min(wanted, len(spans) - 1)]
        # With a space beside each.
        return replace_words(text, {(start, end + 1 if text.startswith(" ", end) else end): "" for start, end in gone})

    def _with_synonyms(self, text: str, spans: list[Span], wanted: int, draws: Random, *, keep: bool) -> str:
        """Words replaced by synonyms or, with `keep`, synonyms put in beside some plain word."""
        words: dict[Span, str] = {}
        places = draws.sample(spans, len(spans)) if keep else spans
        for span, place in zip(spans, places, strict=True):
            if len(words) == wanted:
                break
            if (synonym := self.synonyms.draw(text[slice(*span)], draws)) is not None:
                words[place] = f"{text[slice(*place)]} {synonym.lower()}" if keep else synonym
        return replace_words(text, words)


EXTENDED = {contracted: full for contracted, full in EXTENSION_MAP.items() if contracted not in ("ain't", "ma'am")}
CONTRACTIONS = {full.lower(): contracted for contracted, full in EXTENDED.items()}
CONTRACTIONS |= {contracted.lower(): full for contracted, full in EXTENDED.items()}
"""From each form, in lower case, to the other: contracted to written out and back.

Forms that stand for several others (cannot, is not: the contraction of several) go to the most common one.
"""
LONGEST_FIRST = "|".join(sorted(map(re.escape, CONTRACTIONS), key=lambda form: (-len(form), form)))
CONTRACTION = re.compile(rf"(?<![\w'@#<])({LONGEST_FIRST})(?![\w'>])", re.IGNORECASE)
_PATTERNS = fill_patterns(yaml.safe_load(Path(__file__).with_name("contractions.yaml").read_text(encoding="utf-8")), {})
HAVE_FOLLOWS = {ending: (verb, re.compile(_PATTERNS[ending])) for ending, verb in (("'s", "has"), ("'d", "had"))}
"""Words before which `he's` is *he has* and `he'd` *he had*; else they are *he is* and *he would*."""


class Contraction(TextChange):
    """Contract two words, or write a contraction out (CheckList's invariance test; Ribeiro et al. 2020).

    TextAttack's `WordSwapContract` finds a contraction only where every word before it may be altered, too.
    """

    def change(self, text: str, share_of_words: float, draws: Random) -> str:
        """The text with one form, drawn from all that it has, in the other form."""
        found = list(CONTRACTION.finditer(text.replace("\u2019", "'")))
        if not found:
            return text
        match = draws.choice(found)
        form = CONTRACTIONS[match.group().lower()]
        verb, follows = HAVE_FOLLOWS.get(match.group()[-2:].lower(), ("", None))
        if follows and follows.match(text, match.end()):
            form = f"{form.rsplit(' ', 1)[0]} {verb}"
        if match.group().isupper():
            form = form.upper()
        elif match.group()[0].isupper():
            form = form[0].upper() + form[1:]
        return replace_words(text, {match.span(): form})
