"""Chance-corrected agreement among any number of annotators, from long tables of ratings.

Ratings come as one entry each: the number of the item rated, and what was said of it. They are summed once to counts by
item and label (sparse) or to a few sums per item; every score is a closed form of those, for the items as they are and
for any resampling of them (`assay/statistics/bootstrap.py`). Nothing of the size items times annotators, or items times
squared labels, is ever held, so tables of millions of ratings fit. Items with fewer than two ratings do not count.

Legend: `r` ratings in any order, `n` items with at least two ratings, `k` labels, `b` samples. `weights` is how often
each item counts, shape `(n, b)`; scores have shape `(b,)`, NaN where nothing can be paired or chance explains all.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from assay.statistics.intervals import Floats, Integers

SMALLEST_DISAGREEMENT = 1e-12
"""Expected disagreement, on a scale of 0 to about 1, that is zero but for rounding."""


@dataclass(frozen=True)
class LabelCounts:
    """Ratings by item and label, for the items with at least two ratings."""

    times: sparse.csr_matrix
    """How often the item was given the label, shape `(n, k)`."""
    ratings: Floats
    """Ratings of each item, shape `(n,)`."""


@dataclass(frozen=True)
class NumberSums:
    """Sums over each item's numeric ratings, for the items with at least two, shape `(n,)` each.

    The numbers are scaled and moved so that all are within -2 and 2 and their mean is 0, which changes no alpha.
    """

    ratings: Floats
    total: Floats
    squares: Floats
    within: Floats
    """Squared differences of all pairs of the item's ratings: its variance (of `m - 1`) times its ratings."""


def label_counts(items: Integers, labels: Integers) -> LabelCounts:
    """Count ratings, `(r,)` each, by item and label; these are from 0, in the order of the labels if they have one."""
    shape = (int(items.max(initial=-1)) + 1, int(labels.max(initial=-1)) + 1)
    times = sparse.csr_matrix((np.ones(len(items)), (items, labels)), shape=shape)
    ratings = np.bincount(items, minlength=shape[0])
    pairable = ratings >= 2
    return LabelCounts(times[pairable], ratings[pairable].astype(np.float64))


def number_sums(items: Integers, values: Floats) -> NumberSums:
    """Sum numeric ratings, finite, by item; shape `(r,)` each."""
    number = np.bincount(items)
    pairable = number[items] >= 2
    item = np.unique(items[pairable], return_inverse=True)[1]
    value = values[pairable].astype(np.float64)
    value = value / max(np.abs(value).max(initial=0), np.finfo(np.float64).tiny)
    value = value - value.mean() if len(value) else value
    ratings = np.bincount(item).astype(np.float64)
    total = np.bincount(item, weights=value).astype(np.float64)
    deviations = np.bincount(item, weights=(value - (total / ratings)[item]) ** 2)
    return NumberSums(
        ratings=ratings,
        total=total,
        squares=np.bincount(item, weights=value**2).astype(np.float64),
        within=deviations * ratings / (ratings - 1),
    )


def fleiss_kappa(counts: LabelCounts, weights: Floats) -> Floats:
    """Fleiss' kappa, in the form that allows a different number of ratings for each item.

    Fleiss (1971), equations 1 to 7, wants the same number for all. Where it differs, agreement and the shares of the
    labels are taken within each item and then averaged over items, each counting once (Gwet 2014, Handbook of
    Inter-Rater Reliability, 4th edition, section 2.5); with equal numbers the two are the same. Dropping ratings down
    to the smallest number would throw most of them away, and one kappa per number would not be one score.
    """
    drawn = weights.sum(axis=0)
    number_of_items = np.maximum(drawn, 1)
    shares = counts.times.multiply(1 / counts.ratings[:, None]).tocsr()
    squares = _row_sums(counts.times.power(2))
    within = (squares - counts.ratings) / (counts.ratings * (counts.ratings - 1))
    observed = within @ weights / number_of_items
    expected = ((shares.T @ weights / number_of_items) ** 2).sum(axis=0)
    return _corrected(1 - observed, np.where(drawn > 0, 1 - expected, 0))


def krippendorff_alpha_nominal(counts: LabelCounts, weights: Floats) -> Floats:
    """Krippendorff's alpha for labels without an order (Krippendorff 2011, Computing Krippendorff's Alpha-Reliability).

    Observed and expected disagreement come from sums over the (item, label) cells, not from the coincidence matrix of
    each item, which takes items times squared labels numbers.
    """
    of_label = counts.times.T @ weights
    number = of_label.sum(axis=0)
    differing = (counts.ratings**2 - _row_sums(counts.times.power(2))) / (counts.ratings - 1)
    observed = differing @ weights / np.maximum(number, 1)
    expected = (number**2 - (of_label**2).sum(axis=0)) / np.maximum(number * (number - 1), 1)
    return _corrected(observed, expected)


def krippendorff_alpha_ordinal(counts: LabelCounts, weights: Floats) -> Floats:
    """Krippendorff's alpha for labels with an order, that of their numbers (Krippendorff 2011, section F).

    The difference of two labels is the number of ratings between them, half of their own included: the difference of
    their mean ranks. So this is the interval alpha of the ranks, which a resampling of the items changes.
    """
    of_label = counts.times.T @ weights
    number = np.maximum(of_label.sum(axis=0), 1)
    # Mean ranks, moved and scaled to -0.5 ... 0.5; weighted by the ratings, their mean is 0.
    ranks = (of_label.cumsum(axis=0) - of_label / 2) / number - 0.5
    totals = counts.times @ ranks
    squares = counts.times @ ranks**2
    within = (counts.ratings[:, None] * squares - totals**2) / (counts.ratings - 1)[:, None]
    observed = (within * weights).sum(axis=0) / number
    expected = (of_label * ranks**2).sum(axis=0) / np.maximum(number - 1, 1)
    return _corrected(observed, expected)


def krippendorff_alpha_interval(sums: NumberSums, weights: Floats) -> Floats:
    """Krippendorff's alpha for numeric ratings, whose disagreement is the squared difference (Krippendorff 2011).

    The squared differences of all pairs in a set sum to a multiple of its variance, so alpha is 1 - (variance within
    items, each weighted by its ratings) / (variance of all ratings).
    """
    number = sums.ratings @ weights
    observed = sums.within @ weights / np.maximum(number, 1)
    spread = sums.squares @ weights - (sums.total @ weights) ** 2 / np.maximum(number, 1)
    return _corrected(observed, spread / np.maximum(number - 1, 1))


def label_agreement(counts: LabelCounts, weights: Floats, ordered: bool) -> dict[str, Floats]:
    """Fleiss' kappa and the alphas of labels by name, the ordinal one only where the labels have an order."""
    figures = {
        "fleiss_kappa": fleiss_kappa(counts, weights),
        "krippendorff_alpha_nominal": krippendorff_alpha_nominal(counts, weights),
    }
    if ordered:
        figures["krippendorff_alpha_ordinal"] = krippendorff_alpha_ordinal(counts, weights)
    return figures


def _row_sums(matrix: sparse.csr_matrix) -> Floats:
    return np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()


def _corrected(observed: Floats, expected: Floats) -> Floats:
    """1 - observed / expected disagreement; NaN where none is expected."""
    defined = expected > SMALLEST_DISAGREEMENT
    return np.where(defined, 1 - observed / np.where(defined, expected, 1), np.nan)
