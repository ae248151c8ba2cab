"""Other numbers, names and places: what a label must not depend on (CheckList; Ribeiro et al. 2020, section 2).

TextAttack's classes for names and places find them by a tagger that needs flair and a download. Here they are found by
TextAttack's own lists of names, so only known ones are, and only in the middle of a sentence, where a capital letter
says something. Import it after `import_textattack`.
"""

import re
from functools import cache
from random import Random

from textattack.shared.data import NAMED_ENTITIES, PERSON_NAMES

from assay.augmentation.augmenter import TextChange
from assay.augmentation.words import Span, replace_words

NUMBER = re.compile(r"(?<![\w.,:/$€£<#@'-])[1-9][0-9]{0,4}(?![\w:/%>'-]|[.,][0-9])")
"""Whole numbers that are no price, share, time, date, year with an apostrophe, or part of a name."""

CAPITALISED = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+(?: [A-Z][a-z]+)*(?![\w'-])")

WORD = re.compile(r"\S+")

COMMON_NAMES = 500
"""So many of each list are taken, which begin with the most common; rarer ones are often words."""

IDIOMATIC = {"2", "4", "24", "7", "911", "101", "100"}
"""Numbers that often stand for something else: 2 and 4 for words, 24/7, 100 percent."""


class ChangeNumber(TextChange):
    """Another number of about the same size in the place of one of the text's."""

    def change(self, text: str, share_of_words: float, draws: Random) -> str:
        """The text with one number changed by up to a fifth, at least by one, and never to another count of digits."""
        found = [match for match in NUMBER.finditer(text) if match.group() not in IDIOMATIC]
        if not found:
            return text
        match = draws.choice(found)
        number = int(match.group())
        reach = max(1, number // 5)
        low, high = 10 ** (len(match.group()) - 1), 10 ** len(match.group()) - 1
        others = [n for n in range(max(low, number - reach), min(high, number + reach) + 1) if n != number]
        return replace_words(text, {match.span(): str(draws.choice(others))})


class ChangeEntity(TextChange):
    """Another one in the place of a known name, of the same list; each list has names of one kind."""

    def __init__(self, lists: tuple[tuple[str, ...], ...]) -> None:
        self.lists = lists
        self._list_of = {name: number for number, names in enumerate(lists) for name in names}

    def change(self, text: str, share_of_words: float, draws: Random) -> str:
        """The text with one known name replaced."""
        found = [span for match in CAPITALISED.finditer(text) for span in self._known(match)]
        if not found:
            return text
        span = draws.choice(found)
        name = known = text[slice(*span)]
        while name == known:
            name = draws.choice(self.lists[self._list_of[known]])
        return replace_words(text, {span: name})

    def _known(self, match: re.Match[str]) -> list[Span]:
        """Where names of the lists are in a run of capitalised words, the longest there are (New York, not York)."""
        words = [word.span() for word in WORD.finditer(match.string, *match.span())]
        spans = []
        first = 0
        while first < len(words):
            for last in range(len(words) - 1, first - 1, -1):
                span = words[first][0], words[last][1]
                if match.string[slice(*span)] in self._list_of:
                    spans.append(span)
                    first = last
                    break
            first += 1
        return spans


@cache
def person_names() -> tuple[tuple[str, ...], ...]:
    """First names and last names, without those that are words or places as well."""
    places = set(NAMED_ENTITIES["country"]) | set(NAMED_ENTITIES["city"])
    first = set(PERSON_NAMES["first"][:COMMON_NAMES]) - places - AMBIGUOUS
    last = set(PERSON_NAMES["last"][:COMMON_NAMES]) - places - AMBIGUOUS - first
    return tuple(sorted(first)), tuple(sorted(last))


@cache
def place_names() -> tuple[tuple[str, ...], ...]:
    """Countries and cities, in English."""
    return tuple(
        tuple(sorted({name for name in NAMED_ENTITIES[kind] if re.fullmatch("[A-Z][a-z]+(?: [A-Z][a-z]+)*", name)}))
        for kind in ("country", "city")
    )


AMBIGUOUS = frozenset(
    [
        "Amazon", "Apple", "Art", "Austin", "Bill", "Black", "Bright", "Brown", "Charity", "Chase", "Christian",
        "Church", "Cook", "Cross", "Dallas", "Dawn", "Day", "Dean", "Dell", "Faith", "Ford", "Forest", "France",
        "Gene", "German", "Grace", "Grant", "Gray", "Green", "Guy", "Hall", "Hill", "Holiday", "Holly", "Hope",
        "House", "Hunter", "Iris", "Israel", "Jack", "Jersey", "Joy", "June", "Kelvin", "King", "Kitty", "Lane",
        "Lily", "Long", "Love", "Major", "Mark", "Mason", "May", "Merry", "Miles", "Misty", "Moon", "Nook",
        "Norm", "Olive", "Page", "Paris", "Pat", "Patience", "Penny", "Price", "Prince", "Queen", "Ray", "Rich",
        "Rob", "Rock", "Rose", "Royal", "Ruby", "Sandy", "Santa", "Short", "Star", "Stone", "Storm", "Summer",
        "Sunny", "Sunday", "Swift", "Sydney", "Van", "Virginia", "West", "White", "Wild", "Will", "Winter",
        "Wood", "Young",
    ]
)  # fmt: skip
"""Names that are as often something else."""
