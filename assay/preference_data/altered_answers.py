"""True answers made wrong in one place: a number, a date or a negation is changed, and nothing else; for English.

Every rule leaves the sentence grammatical and changes what it says by much: a number at least by half of it, so that
nobody takes it for a rounded one. What only points to a text (`§ 7`, `AB 04`, `2014:227`) is left alone, and so is what
stands in a condition, where a negation may change nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from assay.core.patterns import fill_patterns

Kind = Literal["number", "date", "negation"]

SHARE_OF_NEW_NEGATIONS = 0.25
_TABLES: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("altered_words.yaml").read_text(encoding="utf-8"))
_KINDS = ("units", "references", "numbers", "months", "weekdays", "conditions", "adverbs", "verbs")
_PATTERNS = fill_patterns(_TABLES["patterns"], {kind: "|".join(_TABLES[kind]) for kind in _KINDS})
_RE = {name: re.compile(pattern) for name, pattern in _PATTERNS.items()}
NOT_NOUNS = frozenset(_TABLES["not_nouns"])
FACTORS = (0.3, 0.4, 0.5, 2.0, 2.5, 3.0, 4.0)
LEAST_RATIO = 1.5
NUMBERS: dict[str, int] = _TABLES["numbers"]
SENTENCE_END = re.compile(r"[.;:!?()—]")


@dataclass(frozen=True)
class Alteration:
    """One way to make an answer wrong: the whole text, and what was put in the place of what."""

    kind: Kind
    text: str
    before: str
    after: str


def find_alterations(answer: str, random: np.random.Generator) -> list[Alteration]:
    """Every place of an answer that a rule can change, each changed on its own; new numbers and months are drawn."""
    found = []
    for kind, rule in RULES.items():
        for start, end, new in rule(answer, random):
            text = answer[:start] + new + answer[end:]
            if text != answer:
                # With the word that follows.
                word = re.match(r"[\s-]?\S+", answer[end:])
                rest = word.group() if word else ""
                found.append(Alteration(kind, text, (answer[start:end] + rest).strip(), (new + rest).strip()))
    return found


def alter_answer(answer: str, random: np.random.Generator) -> Alteration | None:
    """An answer made wrong in one place; None: no rule finds a place.

    Each kind that is possible is as likely, but that a negation is put in where there was none: most answers have a
    place for one, and if all of those were taken, the answer with the `not` would be the wrong one. It is drawn
    `SHARE_OF_NEW_NEGATIONS` as often as anything else that is possible.
    """
    found = find_alterations(answer, random)
    drawers: dict[str, list[Alteration]] = {}
    for one in found:
        adds = one.kind == "negation" and len(one.text.split()) > len(answer.split())
        drawers.setdefault("new negation" if adds else one.kind, []).append(one)
    if not drawers:
        return None
    names = sorted(drawers)
    weights = np.array([SHARE_OF_NEW_NEGATIONS if name == "new negation" else 1.0 for name in names])
    drawer = drawers[names[int(random.choice(len(names), p=weights / weights.sum()))]]
    return drawer[int(random.integers(len(drawer)))]


Change = tuple[int, int, str]
"""Where the change begins and ends in the answer, and what comes there."""


def _numbers(answer: str, random: np.random.Generator) -> Iterator[Change]:
    for match in [*_RE["quantity"].finditer(answer), *_RE["after_currency"].finditer(answer)]:
        groups = match.groupdict()
        unit, noun = groups.get("unit"), groups.get("noun")
        is_reference = _RE["reference"].search(answer[: match.start()]) is not None
        if noun is not None and (is_reference or noun.split()[0] in NOT_NOUNS or noun.split()[-1] in NOT_NOUNS):
            continue
        if match["joint"] == " and " and not re.search(r"\b[Bb]etween $", answer[: match.start()]):
            continue
        if new := _other_quantity(match["low"], match["joint"], match["high"], unit, random):
            yield match.start(), match.end(), new
    for match in _RE["word_quantity"].finditer(answer):
        if match["noun"] in NOT_NOUNS:
            continue
        value = NUMBERS[match["word"].lower()]
        others = [word for word, other in NUMBERS.items() if max(value, other) >= 2 * min(value, other)]
        new = others[int(random.integers(len(others)))]
        yield match.start(), match.end(), new.capitalize() if match["word"][0].isupper() else new


def _other_quantity(
    low: str, joint: str | None, high: str | None, unit: str | None, random: np.random.Generator
) -> str | None:
    """A number or range that is another by much, written alike; None where there is none."""
    ends = [low] if high is None else [low, high]
    choices = []
    for factor in FACTORS:
        new = [_scaled(end, factor) for end in ends]
        values = [_value(end) for end in new]
        is_share = unit in ("%", "percent", "per cent") and _value(ends[-1]) <= 100
        far = all(max(a, b) >= LEAST_RATIO * min(a, b) for a, b in zip(values, map(_value, ends), strict=True) if b)
        # `1 years` and `2 year` are no English: no number becomes 1, and 1 becomes another one only before a symbol.
        has_plural = unit is None or (unit.isalpha() and len(unit) > 3 and unit not in ("percent", "kronor"))
        if (is_share and values[-1] > 100) or not far or min(values) <= 0 or values != sorted(set(values)):
            continue
        if has_plural and ("1" in new[-1:] or ends[-1] == "1"):
            continue
        choices.append((joint or "").join(new))
    return choices[int(random.integers(len(choices)))] if choices else None


def _value(number: str) -> float:
    return float(number.replace(",", ""))


def _scaled(number: str, factor: float) -> str:
    """A number times a factor, with the same decimals and separators, and as round as it was."""
    value = _value(number) * factor
    decimals = len(number.partition(".")[2])
    digits = max(2, len(number.replace(",", "").replace(".", "").strip("0")))
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.{decimals}f}" if "," in number or rounded >= 10_000 else f"{rounded:.{decimals}f}"


def _dates(answer: str, random: np.random.Generator) -> Iterator[Change]:
    for match in _RE["year"].finditer(answer):
        if _RE["reference"].search(answer[: match.start()]):
            continue
        shift = int(random.integers(3, 16)) * (1 if random.integers(2) else -1)
        yield match.start(), match.end(), str(int(match["year"]) + shift)
    for others, pattern in ((_TABLES["long_months"], _RE["month"]), (_TABLES["weekdays"], _RE["weekday"])):
        for match in pattern.finditer(answer):
            left = [name for name in others if name != match.group()]
            yield match.start(), match.end(), left[int(random.integers(len(left)))]


def _third_person(verb: str) -> str:
    """The form of a verb after he, she, it."""
    if irregular := {"have": "has", "do": "does", "go": "goes", "be": "is"}.get(verb):
        return irregular
    if re.search(r"(?:s|x|z|ch|sh)$", verb):
        return f"{verb}es"
    return f"{verb[:-1]}ies" if re.search(r"[^aeiou]y$", verb) else f"{verb}s"


_FORMS: dict[str, Callable[[re.Match[str]], str]] = {
    "third person": lambda match: _third_person(match[1]),
    "with article": lambda match: f"{match[1]} {'an' if match[2][0] in 'aeiou' else 'a'} {match[2]}",
    "command": lambda match: match[2].upper() if match[1] == "Do not" else f"Always {match[2]}",
    "negated": lambda match: f"does not {_TABLES['verbs'][match[1]]} ",
}
"""What changes are, in the table, that are no templates."""


def _changes(answer: str, table: str) -> Iterator[tuple[re.Match[str], str]]:
    """Every place where one of the patterns of a table matches, and what comes there."""
    for pattern, new in _TABLES[table]:
        filled = fill_patterns({"pattern": pattern}, _PATTERNS)["pattern"]
        for match in re.finditer(filled, answer):
            yield match, _FORMS[new](match) if new in _FORMS else match.expand(new)


def _negations(answer: str, random: np.random.Generator) -> Iterator[Change]:
    yield from ((*match.span(), new) for match, new in _changes(answer, "always"))
    for match, new in _changes(answer, "outside_conditions"):
        sentence = SENTENCE_END.split(answer[: match.start()])[-1]
        after = SENTENCE_END.split(answer[match.end() :])[0]
        # A sentence that is negated already would not become plainly wrong.
        if not _RE["condition"].search(sentence) and not re.search(r"\b(?:no|not|never)\b", f"{sentence} {after}"):
            yield match.start(), match.end(), new


RULES: dict[Kind, Callable[[str, np.random.Generator], Iterator[Change]]]
RULES = {"number": _numbers, "date": _dates, "negation": _negations}
