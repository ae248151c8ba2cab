"""Which words of a text may be altered: plain ones, and no name, number, placeholder, mention, tag or address."""

import re

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

MIN_CHARACTERS = 4
"""Shorter words are left alone: one letter off makes most of them another word, and their senses are many."""

Span = tuple[int, int]
"""Where a word starts and ends in its text."""

CONTRACTION = re.compile(
    "(ai|are|ca|could|did|does|do|had|has|have|is|should|was|were|wo|would)nt|(they|you)(re|ll|ve)|weve|(let|that|what)s"
)
"""Contractions as people type them; WordNet knows some of them as other words (cant, wont)."""

UNTOUCHED_TOKEN = re.compile(r"[@#<>/\\&_*=\d]|\w\.\w")
"""A token with one of these is a placeholder, a mention, a tag, an address, a number or markup."""

TOKEN = re.compile(r"\S+")
WORD = re.compile(r"[\w'\-]+")
"""As TextAttack cuts words; what else it counts among them occurs in untouched tokens alone."""

ALL_WORDS = re.compile(r"[\w'\-*@]*\w[\w'\-*@]*")


def count_words_to_alter(text: str, share_of_words: float) -> int:
    """As TextAttack counts them: the share of all words, rounded down, and at least one."""
    return max(1, int(share_of_words * len(ALL_WORDS.findall(text))))


def is_plain_word(word: str) -> bool:
    """Whether a word, by itself, is one that may be altered: ASCII letters in one of the usual cases, no stop word."""
    if not (word.isascii() and word.isalpha() and (word.islower() or word.isupper() or word.istitle())):
        return False
    lowered = word.lower()
    return lowered not in ENGLISH_STOP_WORDS and not CONTRACTION.fullmatch(lowered)


def find_plain_words(text: str, min_characters: int = MIN_CHARACTERS) -> list[Span]:
    """Where the plain words of a text are, in their order; shorter ones are skipped. The time is linear in the text.

    A word with a capital letter is taken for a name, unless it starts a sentence.
    """
    spans = []
    for token in TOKEN.finditer(text):
        if UNTOUCHED_TOKEN.search(token.group()):
            continue
        for found in WORD.finditer(text, token.start(), token.end()):
            word = found.group().lstrip("'-")
            if len(word) < min_characters or not is_plain_word(word):
                continue
            start = found.end() - len(word)
            if not word.istitle() or _starts_sentence(text, start):
                spans.append((start, found.end()))
    return spans


def _starts_sentence(text: str, start: int) -> bool:
    """Whether nothing, or the end of a sentence, comes before a place in the text."""
    while start and text[start - 1] in "\"'( ":
        start -= 1
    return start == 0 or text[start - 1] in ".!?:"


def replace_words(text: str, words: dict[Span, str]) -> str:
    """The text with other words at some places, of which no two share a character."""
    pieces, end = [], 0
    for (start, stop), word in sorted(words.items()):
        pieces += [text[end:start], word]
        end = stop
    return "".join([*pieces, text[end:]])


def match_case(word: str, other: str) -> str:
    """The other word in capitals or with a capital letter, as the word is."""
    if len(word) > 1 and word.isupper():
        return other.upper()
    return other.capitalize() if word[:1].isupper() else other
