"""Chance-corrected agreement among annotators, from long tables of ratings.

Every function takes one entry per rating: the number of the item rated, and what was said of it. Nothing of the size
items times annotators, or items times squared labels, is ever held, so tables of millions of ratings fit.

Legend: `r` ratings, in any order.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


@dataclass(frozen=True)
class PairwiseKappa:
    """Mean Cohen's kappa over pairs of annotators; `mean` is None where no pair has a defined kappa."""

    mean: float | None
    pairs: int
    """Pairs that count: enough items in common and a defined kappa."""
    undefined_pairs: int
    """Pairs in which both annotators gave one and the same label to everything, so that chance explains all."""


@dataclass(frozen=True)
class _Counts:
    """Ratings by item and label, for the items with at least two ratings."""

    label: NDArray[np.int64]
    """Label of each (item, label) cell that occurs."""
    times: NDArray[np.float64]
    """Ratings in the cell."""
    of_item: NDArray[np.float64]
    """Ratings of the cell's item."""


def _counts(items: NDArray[np.int64], labels: NDArray[np.int64]) -> _Counts:
    width = int(labels.max(initial=0)) + 1
    cells, times = np.unique(items * width + labels, return_counts=True)
    ratings = np.bincount(items)
    of_item = ratings[cells // width]
    pairable = of_item >= 2
    return _Counts((cells % width)[pairable], times[pairable].astype(float), of_item[pairable].astype(float))


def fleiss_kappa(items: NDArray[np.int64], labels: NDArray[np.int64]) -> float | None:
    """Fleiss' kappa, in the form that allows a different number of ratings for each item.

    Fleiss (1971), equations 1 to 7, wants the same number for all. Where it differs, agreement and the shares of the
    labels are taken within each item and then averaged over items, each counting once (Gwet 2014, Handbook of
    Inter-Rater Reliability, 4th edition, section 2.5); with equal numbers the two are the same. Dropping ratings down
    to the smallest number would throw most of them away, and one kappa per number would not be one figure.
    Items with fewer than two ratings do not count.

    Args:
        items: item of each rating, shape `(r,)`.
        labels: label of each rating, from 0, shape `(r,)`.

    Returns:
        Kappa, at most 1; None where no item has two ratings or all ratings are one label.
    """
    counts = _counts(items, labels)
    # An item's cells hold shares of 1 together, so their sum is the number of items.
    shares = counts.times / counts.of_item
    number_of_items = shares.sum()
    if number_of_items == 0:
        return None
    observed = float((shares * (counts.times - 1) / (counts.of_item - 1)).sum() / number_of_items)
    expected = float(((np.bincount(counts.label, weights=shares) / number_of_items) ** 2).sum())
    return None if np.isclose(expected, 1) else (observed - expected) / (1 - expected)


def krippendorff_alpha_nominal(items: NDArray[np.int64], labels: NDArray[np.int64]) -> float | None:
    """Krippendorff's alpha for labels without an order (Krippendorff 2011, Computing Krippendorff's Alpha-Reliability).

    Observed and expected disagreement come from sums over the (item, label) cells, not from the coincidence matrix of
    each item, which takes items times squared labels numbers. Items with fewer than two ratings do not count.

    Args:
        items: item of each rating, shape `(r,)`.
        labels: label of each rating, from 0, shape `(r,)`.

    Returns:
        Alpha, at most 1; None where no item has two ratings or all ratings are one label.
    """
    counts = _counts(items, labels)
    total = counts.times.sum()
    of_label = np.bincount(counts.label, weights=counts.times)
    differing_pairs = total**2 - (of_label**2).sum()
    if differing_pairs == 0:
        return None
    observed = (counts.times * (counts.of_item - counts.times) / (counts.of_item - 1)).sum() / total
    return float(1 - observed / (differing_pairs / (total * (total - 1))))


def krippendorff_alpha_interval(items: NDArray[np.int64], values: NDArray[np.float64]) -> float | None:
    """Krippendorff's alpha for numeric ratings, whose disagreement is the squared difference.

    The squared differences of all pairs in a set sum to a multiple of its variance, so alpha is 1 - (variance within
    items, each weighted by its ratings) / (variance of all pairable ratings). Items with fewer than two ratings do not
    count.

    Args:
        items: item of each rating, shape `(r,)`.
        values: the ratings, shape `(r,)`.

    Returns:
        Alpha, at most 1; None where no item has two ratings or all ratings are the same.
    """
    ratings = np.bincount(items)
    pairable = ratings[items] >= 2
    if not pairable.any():
        return None
    item, value = items[pairable], values[pairable].astype(np.float64)
    if value.min() == value.max():
        return None
    times = np.bincount(item)
    means = np.bincount(item, weights=value) / np.maximum(times, 1)
    squares = np.bincount(item, weights=(value - means[item]) ** 2)
    within = (squares * times / np.maximum(times - 1, 1)).sum() / len(value)
    return float(1 - within / value.var(ddof=1))


def mean_pairwise_cohen_kappa(
    items: NDArray[np.int64],
    annotators: NDArray[np.int64],
    labels: NDArray[np.int64],
    min_common_items: int,
    max_pairs: int,
) -> PairwiseKappa:
    """Mean of Cohen's kappa (Cohen 1960) over the pairs of annotators who rated enough items in common.

    Where there are more than `max_pairs` pairs, those with the most items in common are taken; among equals, those of
    the lowest annotator numbers.

    Args:
        items: item of each rating, shape `(r,)`.
        annotators: annotator of each rating, shape `(r,)`; an annotator rates an item once.
        labels: label of each rating, from 0, shape `(r,)`.
        min_common_items: a pair counts when both rated at least this many items.
        max_pairs: pairs at most.
    """
    shape = (int(items.max(initial=-1)) + 1, int(annotators.max(initial=-1)) + 1)
    ones = np.ones(len(items))
    rated = sparse.csr_matrix((ones, (items, annotators)), shape=shape)
    common = sparse.triu(rated.T @ rated, k=1).tocoo()
    enough = common.data >= min_common_items
    first, second, number = common.row[enough], common.col[enough], common.data[enough]
    order = np.lexsort((second, first, -number))[:max_pairs]
    first, second, number = first[order], second[order], number[order]
    if len(number) == 0:
        return PairwiseKappa(None, 0, 0)

    agreements = np.zeros(len(number))
    by_chance = np.zeros(len(number))
    for label in range(int(labels.max()) + 1):
        gave = labels == label
        given = sparse.csr_matrix((ones[gave], (items[gave], annotators[gave])), shape=shape)
        # Cell (i, j): how often i gave the label among the items that i and j have in common.
        among_common = (given.T @ rated).tocsr()
        agreements += np.asarray((given.T @ given).tocsr()[first, second]).ravel()
        by_chance += (
            np.asarray(among_common[first, second]).ravel() * np.asarray(among_common[second, first]).ravel()
        ) / number**2
    observed = agreements / number
    defined = ~np.isclose(by_chance, 1)
    if not defined.any():
        return PairwiseKappa(None, 0, len(number))
    kappas = (observed[defined] - by_chance[defined]) / (1 - by_chance[defined])
    return PairwiseKappa(float(kappas.mean()), int(defined.sum()), int((~defined).sum()))
