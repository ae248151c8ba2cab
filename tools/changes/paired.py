"""Scores of two sides on the test rows that both have: paired tests, from the predictions that git holds.

A test row counts as common where both sides have it with the same label; scores of different test sets are compared on
these rows alone. Holm's correction is over all that is compared (`assay/statistics/verdicts.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from assay.core.seeds import generator
from assay.report.numbers import score
from assay.statistics.predictions import Integers, Predictions, read_predictions
from assay.statistics.verdicts import LEVEL, SAMPLES, Difference, compare, holm, score_decided_on, score_samples

SCORES = {"macro_f1": "macro-F1", "accuracy": "accuracy"}
SAME = "same predictions"
NO_DIFFERENCE = Difference(0.0, None, None, 1.0, None)
"""Of predictions that are the same, which need no test."""


@dataclass(frozen=True)
class SharedRows:
    """Hashes of the test rows of two sides. `common` have the same label on both, `relabelled` another one."""

    old: int
    common: list[str]
    added: list[str]
    removed: list[str]
    relabelled: list[str]

    @property
    def differ(self) -> bool:
        """Whether the two test sets are not the same."""
        return bool(self.added or self.removed or self.relabelled)


@dataclass(frozen=True)
class Paired:
    """One score on both sides, on the rows in common, and `flips`: `(row, label, old, new)` where one side is right.

    Flips are of the first seed, those that the change broke first. `word` is `better`, `worse`, `not decided`, or SAME
    where no test is needed; `adjusted_p` is Holm's.
    """

    name: str
    score: str
    rows: int
    old: float
    new: float
    difference: Difference
    seeds: int
    flips: list[tuple[str, str, str, str]]
    word: str = SAME
    adjusted_p: float = 1.0

    def show(self) -> str:
        """The score on both sides, and the difference with its interval, as far as it has one."""
        one = self.difference
        ends = "" if one.low is None or one.high is None else f" [{signed(one.low)}, {signed(one.high)}]"
        return f"`{self.name}` {self.score} {score(self.old)} → {score(self.new)}, {signed(one.value)}{ends}"


def signed(value: float) -> str:
    """A difference of scores with its sign."""
    return ("+" if value > 0 else "−" if value < 0 else "±") + score(abs(value))


def compare_rows(old: Predictions, new: Predictions) -> SharedRows:
    """The test rows of two sides."""
    before, after = (
        {row: one.labels[label] for row, label in zip(one.rows, one.label, strict=True)} for one in (old, new)
    )
    return SharedRows(
        old=len(before),
        common=[row for row in before if after.get(row) == before[row]],
        added=[row for row in after if row not in before],
        removed=[row for row in before if row not in after],
        relabelled=[row for row in before if row in after and after[row] != before[row]],
    )


def compare_approach(old: Predictions, new: Predictions, name: str, samples: int) -> Paired | None:
    """One approach on both sides, before Holm's correction; None where no row is in common."""
    rows = compare_rows(old, new).common
    if not rows:
        return None
    labels = sorted({*old.labels, *new.labels})

    def on_rows(one: Predictions) -> tuple[Integers, Integers, Integers]:
        place, number = (
            dict(zip(one.rows, range(len(one.rows)), strict=True)),
            np.array(list(map(labels.index, one.labels))),
        )
        chosen = np.array([place[row] for row in rows])
        return number[one.label[chosen]], number[one.predicted[:, chosen]], one.clusters()[chosen]

    (truth, before, _), (_, after, groups) = on_rows(old), on_rows(new)
    difference, decided_on = NO_DIFFERENCE, score_decided_on(truth)
    if not np.array_equal(before, after):
        difference = compare(truth, after, before, groups, samples, generator(0, "changes", "paired")).decisive()
    at = list(SCORES).index(decided_on)
    one, other = (float(score_samples(truth, side, np.ones((len(rows), 1)))[at][0]) for side in (before, after))
    flipped = np.flatnonzero((before[0] == truth) != (after[0] == truth))
    flips = [
        (rows[i], labels[truth[i]], labels[before[0, i]], labels[after[0, i]])
        for i in sorted(flipped, key=lambda i: bool(after[0, i] == truth[i]))
    ]
    return Paired(name, SCORES[decided_on], len(rows), one, other, difference, min(len(before), len(after)), flips)


def decide(found: list[Paired]) -> list[Paired]:
    """With the words, after Holm's correction over all that is not the same on both sides."""
    tested = [one for one in found if one.difference is not NO_DIFFERENCE]
    adjusted = iter(holm([one.difference.p for one in tested]))

    def decided(one: Paired, p: float) -> Paired:
        word = "not decided" if p >= LEVEL else "better" if one.difference.value > 0 else "worse"
        return replace(one, adjusted_p=p, word=word)

    return [one if one.difference is NO_DIFFERENCE else decided(one, next(adjusted)) for one in found]


def compare_sides(
    old: Mapping[str, str], new: Mapping[str, str], samples: int = SAMPLES
) -> tuple[SharedRows | None, list[Paired]]:
    """The test rows of two sides, None where one has no predictions, and what is to be said of each that both have.

    `old` and `new` have the text of the file of predictions of each approach by its name.
    """
    read = [{name: read_predictions(text) for name, text in side.items()} for side in (old, new)]
    before, after = ({name: one for name, one in side.items() if one is not None} for side in read)
    if not before or not after:
        return None, []
    found = [compare_approach(before[name], after[name], name, samples) for name in after if name in before]
    rows = compare_rows(next(iter(before.values())), next(iter(after.values())))
    return rows, decide([one for one in found if one is not None])
