"""Which of two sets of predictions for the same rows is better: the one place where that is decided.

The difference of two scores is judged by the paired bootstrap (Efron & Tibshirani 1993, chapter 16): rows are drawn
with replacement, both sets of predictions are scored on each draw, and the differences give the interval and p. Rows of
one group (near-duplicates) are drawn together. Of several seeds' models the scores are averaged, and the seeds are not
drawn: what is decided holds for these trained models on other test rows, not for other trainings.

The score decided on is macro-F1 where each label has `MIN_LABEL_ROWS` test rows, and accuracy otherwise: of fewer rows
the interval of macro-F1 misses the true value too often (`docs/statistics.md`, by simulation).

Legend: `n` rows, `s` seeds, `b` bootstrap samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from assay.statistics.bootstrap import item_counts
from assay.statistics.intervals import Floats, Integers, effective_trials
from assay.statistics.metrics_dict import Estimate

MIN_LABEL_ROWS = 20
"""Test rows that a label needs for macro-F1 to have an interval, and to be decided on."""
SAMPLES = 10_000
"""Bootstrap samples of a verdict: p is at least 2 / (samples + 1), and Holm multiplies it by the number of pairs."""
LEVEL = 0.05
WORDS = ("better", "worse", "not decided")
DETECTABLE = NormalDist().inv_cdf(1 - LEVEL / 2) + NormalDist().inv_cdf(0.8)
"""Standard errors that a true difference has to measure to be found in 80% of test sets (Cohen 1988, chapter 1)."""


@dataclass(frozen=True)
class Difference(Estimate):
    """A difference of scores, its paired 95% interval, the two-sided p, and the least one that 80% of tests find.

    Where all samples give the same difference there is no interval (`None`), and p is 1.
    """

    p: float
    minimum_detectable: float | None


@dataclass(frozen=True)
class Comparison:
    """What `compare` finds: the first's score less the second's; macro-F1 has no interval if it is not decided on."""

    macro_f1: Difference
    accuracy: Difference
    decided_on: str

    def decisive(self) -> Difference:
        """The difference in the score that is decided on."""
        return self.macro_f1 if self.decided_on == "macro_f1" else self.accuracy


@dataclass(frozen=True)
class Verdict:
    """A comparison, its p after Holm's correction for the family, and `better`, `worse` or `not decided`."""

    comparison: Comparison
    adjusted_p: float
    word: str


def rarest_label(truth: Integers, *predicted: Integers) -> int:
    """Rows of the label with the fewest, of those that are true or predicted; truth of shape `(n,)` or `(s, n)`."""
    truths = np.atleast_2d(truth)
    occur = np.unique(np.concatenate([truths.ravel(), *(one.ravel() for one in predicted)]))
    return min(int(np.bincount(one, minlength=int(occur.max()) + 1)[occur].min()) for one in truths)


def score_decided_on(truth: Integers, *predicted: Integers) -> str:
    """`macro_f1` where each label that is true or predicted has `MIN_LABEL_ROWS` rows, else `accuracy`."""
    return "macro_f1" if rarest_label(truth, *predicted) >= MIN_LABEL_ROWS else "accuracy"


def sum_by_class(classes: Integers, k: int, counts: Floats) -> Floats:
    """Sum of the counts of the rows of each class, `(n,)` and `(n, b)` to `(k, b)`; exact, as counts are integers."""
    # Imported here: it takes a part of a second.
    from scipy.sparse import csr_array

    n = len(classes)
    member = csr_array((np.ones(n), (classes, np.arange(n))), shape=(k, n))
    return np.asarray(member @ counts)


def score_samples(truth: Integers, predicted: Integers, counts: Floats) -> Floats:
    """Macro-F1 and accuracy, mean over the seeds, under each of `b` sets of counts: shape `(2, b)`.

    Macro-F1 is the unweighted mean of F1 over the classes that occur in the truth or among the predictions. The truth
    is of shape `(n,)`, predicted classes `(s, n)`, and how often each row counts `(n, b)`.
    """
    k = int(max(truth.max(), predicted.max())) + 1
    true_of = sum_by_class(truth, k, counts)
    scores = np.zeros((2, counts.shape[1]))
    for of_seed in predicted:
        # Rows that are wrong fall into a class of their own, which is not looked at.
        hits = sum_by_class(np.where(of_seed == truth, truth, k), k + 1, counts)[:k]
        occurrences = true_of + sum_by_class(of_seed, k, counts)
        scores[0] += (2 * hits / np.maximum(occurrences, 1)).sum(axis=0) / (occurrences > 0).sum(axis=0)
        scores[1] += hits.sum(axis=0) / true_of.sum(axis=0)
    return scores / len(predicted)


def resample_scores(
    truth: Integers, predicted: Mapping[str, Integers], groups: Integers, samples: int, random: np.random.Generator
) -> dict[str, Floats]:
    """Macro-F1 and accuracy of each on the rows as they are, then on each sample, all on the same: `(2, 1 + b)`.

    Groups, `(n,)`, are drawn whole.
    """
    _, group_of = np.unique(groups, return_inverse=True)
    drawn = (counts[group_of] for counts in item_counts(int(group_of.max()) + 1, samples, random))
    parts = [
        {name: score_samples(truth, one, counts) for name, one in predicted.items()}
        for counts in (np.ones((len(truth), 1)), *drawn)
    ]
    return {name: np.concatenate([part[name] for part in parts], axis=1) for name in predicted}


def paired_difference(one: Floats, other: Floats, noise: Floats | float = 0.0) -> Difference:
    """The difference of two scores by the paired bootstrap, from the scores of `resample_scores`.

    `noise`, `(b,)`, is added to the differences of the samples: what training again would change.

    p is twice the share of samples on the far side of 0, those at 0 on both, with 1 added to both counts so that it is
    never 0 (Davison & Hinkley 1997, equation 4.11).
    """
    value, drawn = float(one[0] - other[0]), one[1:] - other[1:] + noise
    deviation = float(drawn.std(ddof=1))
    if deviation < 1e-12:
        return Difference(value, None, None, 1.0, None)
    low, high = np.quantile(drawn, [LEVEL / 2, 1 - LEVEL / 2])
    # Scores are sums of fractions: what ought to be 0 may be off by the last bits.
    tail = min(int((drawn <= 1e-12).sum()), int((drawn >= -1e-12).sum()))
    p = min(1.0, 2 * (tail + 1) / (len(drawn) + 1))
    return Difference(value, float(low), float(high), p, DETECTABLE * deviation)


def fisher_in_groups(values: Floats, inside: NDArray[np.bool_], groups: Integers) -> float:
    """Fisher's exact two-sided p that the share of ones is the same inside and outside, arguments of shape `(n,)`.

    Rows of one group are not independent: the counts of each side are divided by its design effect (Rao & Scott 1992,
    https://doi.org/10.2307/2532311), where that is above 1, and rounded.
    """
    # Imported here: it takes a second.
    from scipy.stats import fisher_exact

    table = []
    for side in (inside, ~inside):
        trials = min(effective_trials(values[side], groups[side]), float(side.sum()))
        ones = round(trials * float(values[side].mean()))
        table.append([ones, round(trials) - ones])
    return float(fisher_exact(table).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p of a family, in its order: at most `LEVEL` of families have one false finding."""
    order = np.argsort(p, kind="stable")
    steps = np.asarray(p, dtype=np.float64)[order] * (len(p) - np.arange(len(p)))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return [float(one) for one in adjusted]


def word(difference: Difference, adjusted_p: float) -> str:
    """Which of `WORDS` says what the first of the two is beside the second."""
    better, worse, undecided = WORDS
    if adjusted_p >= LEVEL:
        return undecided
    return better if difference.value > 0 else worse


def compare_all(
    truth: Integers,
    predicted: Mapping[str, Integers],
    groups: Integers,
    samples: int,
    random: np.random.Generator,
    seed_deviation: float = 0.0,
) -> dict[tuple[str, str], Verdict]:
    """The verdict on each pair, with Holm's correction over all pairs: `(one, other)`, in the order of `predicted`.

    Truth and groups are of shape `(n,)`, predicted classes `(s, n)`; `s` may differ. All pairs are the family, as the
    one with the highest score, which others are set against, is chosen by the same rows. `seed_deviation` is the
    standard deviation of a score over training seeds; with 0, what is said is said of these trained models.
    """
    scores = resample_scores(truth, predicted, groups, samples, random)
    decided_on, found = score_decided_on(truth, *predicted.values()), {}
    for one, other in combinations(predicted, 2):
        seeds = 1 / len(predicted[one]) + 1 / len(predicted[other])
        noise = random.normal(0, seed_deviation * seeds**0.5, samples) if seed_deviation else 0.0
        macro_f1, accuracy = (paired_difference(*pair, noise) for pair in zip(scores[one], scores[other], strict=True))
        if decided_on != "macro_f1":
            macro_f1 = replace(macro_f1, low=None, high=None, minimum_detectable=None)
        found[one, other] = Comparison(macro_f1, accuracy, decided_on)
    adjusted = holm([comparison.decisive().p for comparison in found.values()])
    return {
        pair: Verdict(comparison, p, word(comparison.decisive(), p))
        for (pair, comparison), p in zip(found.items(), adjusted, strict=True)
    }


def compare(
    truth: Integers,
    one: Integers,
    other: Integers,
    groups: Integers,
    samples: int,
    random: np.random.Generator,
    seed_deviation: float = 0.0,
) -> Comparison:
    """Two sets of predictions, shape `(s, n)` each, for the same rows, as `compare_all`: the first less the second."""
    found = compare_all(truth, {"one": one, "other": other}, groups, samples, random, seed_deviation)
    return found["one", "other"].comparison


def best_group(verdicts: Mapping[tuple[str, str], Verdict], best: str) -> list[str]:
    """The one with the highest score and those that are not decided against it, in the order of the pairs."""
    names = list(dict.fromkeys(name for pair in verdicts for name in pair)) or [best]
    tied = {name for pair, one in verdicts.items() if best in pair and one.word == "not decided" for name in pair}
    return [name for name in names if name in tied | {best}]
