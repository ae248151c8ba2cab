"""What a step bought: models trained with it, without it, and with a random control of the same size, cross-validated.

A control starts from the rows without the step, and removes, repeats or relabels as many of them, drawn at random, as
the step removes, adds or relabels: having fewer rows moves a score too. Who is drawn moves it as well, which resampling
the evaluated rows does not show, so the spread between controls is added to the bootstrap's (`paired_difference`).

Legend: `m` rows that may train, of which the first `n` are evaluated; `d` features, `k` labels, `s` predictions a row,
`b` bootstrap samples.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assay.core.progress import progress
from assay.core.seeds import SeedKey, generator
from assay.probes import Floats, Fold, Integers, weighted_probe
from assay.statistics.verdicts import (
    Difference,
    holm,
    paired_difference,
    resample_scores,
    score_decided_on,
    score_samples,
    word,
)

BASE = "base"
CONTROL = "control of "
CHANGES = ("removed", "added", "relabelled", "reweighted")
Booleans = NDArray[np.bool_]


@dataclass(frozen=True)
class Side:
    """Features `(m, d)`, and how much each row counts for each label in training, `(m, k)`: all 0 for one not there."""

    features: NDArray[np.float32]
    targets: Floats


Steps = Callable[[Booleans], Mapping[str, Side]]
"""From whether each row may train in a fold, `(m,)`, to the other side of each step: without it where `BASE` has it."""


@dataclass(frozen=True)
class Design:
    """How steps are compared.

    Attributes:
        in_base: steps that the base has: their other side is without them.
        controls: draws of each step's control, in each repeat.
        groups: rows of one are in one fold, shape `(m,)`.
        repeats: the folds of the evaluated rows, of each repeat.
        C: inverse strength of the probe's L2 penalty.
    """

    in_base: Collection[str]
    controls: Mapping[str, int]
    groups: Integers
    repeats: Sequence[Sequence[Fold]]
    C: float


@dataclass(frozen=True)
class Predicted:
    """Predicted classes by variant, `(s, n)`, -1 where there is none, and by step the changes of a fold in the mean."""

    classes: dict[str, Integers]
    changes: dict[str, dict[str, float]]


@dataclass(frozen=True)
class StepTest:
    """A difference, and p after Holm's correction for all tests, with its verdict."""

    difference: Difference
    adjusted_p: float
    verdict: str


def count_changes(before: Floats, after: Floats) -> Counter[str]:
    """Rows removed, added, relabelled and reweighted between two targets `(m, k)`."""
    was, stays = before.any(axis=1), after.any(axis=1)
    moved = was & stays & (before.argmax(axis=1) != after.argmax(axis=1))
    weighed = was & stays & ~moved & (before != after).any(axis=1)
    found = (was & ~stays, ~was & stays, moved, weighed)
    return Counter({kind: int(rows.sum()) for kind, rows in zip(CHANGES, found, strict=True)})


def draw_control(before: Floats, after: Floats, random: np.random.Generator) -> Floats:
    """Targets `(m, k)` in which as many random rows change as between two others; the same draw, whatever may train.

    A row that is relabelled gets any other label; of weights that change, each goes to another row.
    """
    keys, shifts = random.random(len(before)), random.integers(1, before.shape[1], len(before))
    rows = np.flatnonzero(before.any(axis=1))
    rows, changes, control = rows[np.argsort(keys[rows])], count_changes(before, after), before.copy()
    gone, moved = np.split(rows, [changes["removed"], changes["removed"] + changes["relabelled"]])[:2]
    if changes["reweighted"]:
        control[rows] *= (after.sum(axis=1) / np.maximum(before.sum(axis=1), 1e-12))[np.sort(rows), None]
    for row in moved:
        control[row] = np.roll(control[row], shifts[row])
    # From the other end, so that what is repeated is there.
    control *= 1 + np.bincount(np.resize(rows[::-1], changes["added"]), minlength=len(before))[:, None]
    control[gone] = 0
    return control


def predict_probe(side: Side, scored: Integers, C: float) -> Integers:
    """Classes of the rows `scored`, by a logistic regression trained on all rows of the side that count."""
    rows, labels = np.nonzero(side.targets)
    of_label = range(side.targets.shape[1])
    weights = side.targets[rows, labels]
    found = weighted_probe(side.features[rows], labels, weights, side.features[scored], of_label, C)
    return np.asarray(found.argmax(axis=1))


def predict_variants(base: Side, steps: Steps, design: Design, seed: SeedKey) -> Predicted:
    """Predict each evaluated row by probes of `BASE`, of each step's other side, and of its `CONTROL`, out of fold.

    A control is drawn once a repeat and draw, for all folds, as the rows that a step changes are those of all folds.
    """
    classes, changes = dict[str, Integers](), dict[str, Counter[str]]()
    jobs = [(repeat, fold) for repeat, folds in enumerate(design.repeats) for fold in folds]
    n = 1 + max(int(fold.fitted.max()) for _, fold in jobs)

    def note(name: str, place: int, places: int, fold: Fold, said: Integers) -> None:
        classes.setdefault(name, np.full((places, n), -1))[place, fold.predicted] = said

    for repeat, fold in progress(jobs, "ablation", total=len(jobs), unit="fold"):
        held_out = design.groups[np.setdiff1d(np.arange(n), fold.fitted)]
        may_train = ~np.isin(design.groups, held_out)
        own = Side(base.features, base.targets * may_train[:, None])
        by_base = predict_probe(own, fold.predicted, design.C)
        note(BASE, repeat, len(design.repeats), fold, by_base)
        for name, one in steps(may_train).items():
            side = Side(one.features, one.targets * may_train[:, None])
            is_same = side.features is own.features and np.array_equal(side.targets, own.targets)
            said = by_base if is_same else predict_probe(side, fold.predicted, design.C)
            note(name, repeat, len(design.repeats), fold, said)
            before, after, control_said = (side, own, said) if name in design.in_base else (own, side, by_base)
            changed = count_changes(before.targets, after.targets)
            changes[name] = changes.get(name, Counter()) + changed
            draws = design.controls[name]
            for draw in range(draws):
                if changed.total():
                    random = generator(*seed, "control", name, str(repeat), str(draw))
                    control = Side(before.features, draw_control(before.targets, after.targets, random))
                    control_said = predict_probe(control, fold.predicted, design.C)
                note(CONTROL + name, repeat * draws + draw, draws * len(design.repeats), fold, control_said)
    means = {name: {kind: found[kind] / len(jobs) for kind in CHANGES} for name, found in changes.items()}
    return Predicted(classes, means)


def deviation_of_controls(truth: Integers, classes: Integers, repeats: int) -> Floats:
    """Standard deviation of macro-F1 and accuracy over a repeat's control draws, pooled over repeats, shape `(2,)`.

    Predicted classes `(s, n)`, those of a repeat together.
    """
    ones = np.ones((len(truth), 1))
    scores = np.stack([score_samples(truth, draw[None], ones)[:, 0] for draw in classes])
    variances = scores.reshape(repeats, -1, 2).var(axis=1, ddof=1)
    return np.asarray(np.sqrt(variances.mean(axis=0)))


def compare_steps(
    truth: Integers,
    groups: Integers,
    classes: Mapping[str, Integers],
    in_base: Collection[str],
    samples: int,
    random: np.random.Generator,
) -> tuple[str, dict[tuple[str, str], StepTest]]:
    """The score decided on, and each step against `without` it and against its `control`, if it has one; one family.

    Truth and groups are of shape `(n,)`. By chance a step's score is off as one control's is, and a control's mean by
    that over the root of its draws.
    """
    decided_on = score_decided_on(truth, *classes.values())
    scores = resample_scores(truth, classes, groups, samples, random)
    at, found = ("macro_f1", "accuracy").index(decided_on), dict[tuple[str, str], Difference]()
    for name in [one for one in classes if one != BASE and not one.startswith(CONTROL)]:
        with_it, without = (BASE, name) if name in in_base else (name, BASE)
        control, deviation = classes.get(CONTROL + name), 0.0
        if control is not None:
            deviation = float(deviation_of_controls(truth, control, len(classes[BASE]))[at])
        noise = random.normal(0, deviation, samples)
        found[name, "without"] = paired_difference(scores[with_it][at], scores[without][at], noise)
        if control is not None:
            noise = random.normal(0, deviation * (1 + 1 / len(control)) ** 0.5, samples)
            found[name, "control"] = paired_difference(scores[with_it][at], scores[CONTROL + name][at], noise)
    adjusted = holm([one.p for one in found.values()])
    tests = {key: StepTest(one, p, word(one, p)) for (key, one), p in zip(found.items(), adjusted, strict=True)}
    return decided_on, tests
