"""Scores of two sides on the test rows that both have: paired tests, from the predictions that git holds.

A test row counts as common where both sides have it with the same label; scores of different test sets are compared on
these rows alone. Holm's correction is over all that is compared (`assay/statistics/verdicts.py`). Where predictions
differ, what another seed would change counts as well: `gate.seed_deviation`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from assay.core.seeds import generator
from assay.fine_tuning.params import BASELINES
from assay.report.comparison import SCORE_NAMES
from assay.report.numbers import score
from assay.statistics import verdicts
from assay.statistics.bootstrap import item_counts
from assay.statistics.predictions import Integers, Predictions, read_predictions
from assay.statistics.verdicts import Difference

SAME = "same predictions"
MODEL_SCORES = (("chrF, retrieved", "chrF, open", "chrF, closed"), ("labels right",))
"""Of a language model: the first of each that both sides have is compared."""
SAMPLES = 4_000
"""Of the bootstrap; p is at least 2 / (samples + 1), and Holm multiplies it by the number of scores."""
MIN_QUESTIONS = 30
"""In common; of fewer nothing is said."""
NO_DIFFERENCE = Difference(0.0, None, None, 1.0, None)
"""Of predictions that are the same, which need no test."""


@dataclass(frozen=True)
class SharedRows:
    """Hashes of the test rows of two sides; `common` have the same label on both, `relabelled` two, which it says."""

    old: int
    common: list[str]
    added: list[str]
    removed: list[str]
    relabelled: dict[str, str]

    @property
    def differ(self) -> bool:
        """Whether the two test sets are not the same."""
        return bool(self.added or self.removed or self.relabelled)


@dataclass(frozen=True)
class Paired:
    """One score on both sides, on the rows in common, and `flips`: `(row, label, old, new)` where one side is right.

    Flips are of the first seed. `counts_seeds`: what other seeds would change is in the interval. `word` is `better`,
    `worse`, `not decided`, or SAME where no test is needed; `adjusted_p` is Holm's.
    """

    name: str
    score: str
    rows: int
    old: float
    new: float
    difference: Difference
    counts_seeds: bool
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
        relabelled={row: f"{label} → {after[row]}" for row, label in before.items() if after.get(row, label) != label},
    )


def seed_deviations(params: Any) -> dict[str, float]:
    """The standard deviation of the scores of each approach over training seeds, as params have it; 0 of baselines."""
    if not isinstance(params, dict) or not params.get("gate"):
        return {}
    trained = [name for name, block in (params.get("finetune") or {}).items() if block.get("method") not in BASELINES]
    return dict.fromkeys(trained, float(params["gate"].get("seed_deviation", 0)))


def compare_approach(
    old: Predictions, new: Predictions, name: str, samples: int, seed_deviation: float
) -> list[Paired]:
    """The score of one approach on both sides, before Holm's correction; none where no row is in common."""
    rows = compare_rows(old, new).common
    if not rows:
        return []
    labels = sorted({*old.labels, *new.labels})

    def on_rows(one: Predictions) -> tuple[Integers, Integers, Integers]:
        place = {row: number for number, row in enumerate(one.rows)}
        chosen, number = np.array([place[row] for row in rows]), np.array([labels.index(name) for name in one.labels])
        return number[one.label[chosen]], number[one.predicted[:, chosen]], one.clusters()[chosen]

    (truth, before, _), (_, after, groups) = on_rows(old), on_rows(new)
    difference, decided_on = NO_DIFFERENCE, verdicts.score_decided_on(truth, before, after)
    if not np.array_equal(before, after):
        random = generator(0, "changes", "paired")
        difference = verdicts.compare(truth, after, before, groups, samples, random, seed_deviation).decisive()
    once, at = np.ones((len(rows), 1)), list(SCORE_NAMES).index(decided_on)
    one, other = (float(verdicts.score_samples(truth, side, once)[at][0]) for side in (before, after))
    flipped = np.flatnonzero((before[0] == truth) != (after[0] == truth))
    flips = [(rows[i], labels[truth[i]], labels[before[0, i]], labels[after[0, i]]) for i in flipped]
    return [Paired(name, SCORE_NAMES[decided_on], len(rows), one, other, difference, seed_deviation > 0, flips)]


def read_questions(text: str) -> dict[str, dict[str, tuple[str, float]]]:
    """Of the file of a language model: score, as in MODEL_SCORES, → question → its group and score."""
    found: dict[str, dict[str, tuple[str, float]]] = {}
    for row, group, mode, chrf, _, right in json.loads(text).get("rows", []):
        for name, value in ((f"chrF, {mode}", chrf), ("labels right", right)):
            if value is not None:
                found.setdefault(name, {})[row] = group, float(value)
    return found


def compare_model(old: str, new: str, name: str, samples: int) -> list[Paired]:
    """The scores of one language model on both sides, from the text of its files, before Holm's correction."""
    before, after = read_questions(old), read_questions(new)
    found = []
    for names in MODEL_SCORES:
        kind = next((one for one in names if one in before and one in after), names[0])
        rows = sorted(before.get(kind, {}).keys() & after.get(kind, {}).keys())
        if len(rows) < MIN_QUESTIONS:
            continue
        values = np.array([[side[kind][row][1] for row in rows] for side in (before, after)])
        difference = NO_DIFFERENCE
        if not np.array_equal(*values):
            groups = np.unique([after[kind][row][0] for row in rows], return_inverse=True)[1]
            sums, sizes = np.stack([np.bincount(groups, of_side) for of_side in values]), np.bincount(groups)
            drawn = item_counts(len(sizes), samples, generator(0, "changes", "paired"))
            parts = [sums @ counts / (sizes @ counts) for counts in (np.ones((len(sizes), 1)), *drawn)]
            difference = verdicts.paired_difference(*np.concatenate(parts, axis=1)[::-1])
        one, other = map(float, values.mean(axis=1))
        found.append(Paired(name, kind, len(rows), one, other, difference, False, []))
    return found


def compare_sides(
    old: Mapping[str, str], new: Mapping[str, str], deviations: Mapping[str, float], samples: int = SAMPLES
) -> tuple[SharedRows | None, list[Paired]]:
    """The test rows of two sides, None where one has no predictions, and what is to be said of each that both have.

    `old` and `new` have the text of the file of each approach by its name, of a language model `generation/<name>`;
    `deviations` are those of `seed_deviations`.
    """
    before, after = (
        {name: one for name, text in side.items() if "/" not in name and (one := read_predictions(text))}
        for side in (old, new)
    )
    both = [name for name in after if name in before]
    found = [
        one
        for name in both
        for one in compare_approach(before[name], after[name], name, samples, deviations.get(name, 0.0))
    ]
    for name in (name for name in new if "/" in name and name in old):
        found += compare_model(old[name], new[name], name.rpartition("/")[2], samples)
    tested = [one for one in found if one.difference is not NO_DIFFERENCE]
    adjusted = zip(tested, verdicts.holm([one.difference.p for one in tested]), strict=True)
    decided = [replace(one, adjusted_p=p, word=verdicts.word(one.difference, p)) for one, p in adjusted]
    rows = compare_rows(next(iter(before.values())), next(iter(after.values()))) if before and after else None
    return rows, decided + [one for one in found if one.difference is NO_DIFFERENCE]
