"""Cohen's kappa, plain and weighted, over all pairs of annotators who rated enough items in common.

Of each pair only its table of labels is held, and of that only the cells that occur; no array has the size items times
annotators. What takes memory and time are the common ratings: (pair, item) with a rating from both.

Legend: `r` ratings in any order, `n` items, `k` labels, `p` pairs, `c` common ratings, `b` samples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
MAX_COMMON_RATINGS = 30_000_000
"""Pairs are taken while their common ratings are no more: 1 GiB, and 15 seconds for 1,000 bootstrap samples."""
CHUNK_CELLS = 16_000_000
"""Pairs times labels times samples held at a time."""
SMALLEST_DISAGREEMENT = 1e-12
"""Disagreement by chance, on a scale of 0 to 1, that is zero but for rounding."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of annotators, those with the most items in common first, and how they labelled these items."""

    first: Integers
    """Annotator of each pair, shape `(p,)`; so is `second`."""
    second: Integers
    tables: sparse.csr_matrix
    """Which items are in which cell of which pair's table, ones and zeros, shape `(cells that occur, n)`."""
    cells: Integers
    """Pair, label of the first, label of the second annotator of each cell; sorted, shape `(cells that occur, 3)`."""
    labels: int


def annotator_pairs(
    items: Integers, annotators: Integers, labels: Integers, min_common_items: int, max_pairs: int
) -> Pairs:
    """The pairs of annotators who rated enough items in common.

    Where there are more than `max_pairs` pairs, or more common ratings than `MAX_COMMON_RATINGS`, those with the most
    items in common are taken; among equals, those of the lowest annotator numbers.

    Items, annotators and labels are those of the ratings, shape `(r,)`; an annotator rates an item once, and labels
    are from 0 in their order where they have one.
    """
    shape = (int(items.max(initial=-1)) + 1, int(annotators.max(initial=-1)) + 1)
    width = int(labels.max(initial=-1)) + 1
    rated = sparse.csr_matrix((np.ones(len(items)), (items, annotators)), shape=shape)
    common = sparse.triu(rated.T @ rated, k=1).tocoo()
    enough = common.data >= min_common_items
    first, second, number = common.row[enough], common.col[enough], common.data[enough]
    order = np.lexsort((second, first, -number))[:max_pairs]
    order = order[np.cumsum(number[order]) <= MAX_COMMON_RATINGS]
    first, second = first[order].astype(np.int64), second[order].astype(np.int64)

    by_annotator = np.lexsort((items, annotators))
    starts = np.searchsorted(annotators[by_annotator], np.arange(shape[1] + 1))
    item_of, label_of = items[by_annotator], labels[by_annotator]
    given = np.full(shape[0], -1, dtype=np.int64)
    keys, places = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for annotator in np.unique(first):
        own = slice(starts[annotator], starts[annotator + 1])
        given[item_of[own]] = label_of[own]
        pairs = np.flatnonzero(first == annotator)
        lengths = starts[second[pairs] + 1] - starts[second[pairs]]
        # The ratings of all the second annotators, one after the other.
        ratings = np.arange(lengths.sum()) + np.repeat(starts[second[pairs]] - lengths.cumsum() + lengths, lengths)
        pair = np.repeat(pairs, lengths)
        both = given[item_of[ratings]] >= 0
        place = item_of[ratings][both]
        keys.append((pair[both] * width + given[place]) * width + label_of[ratings][both])
        places.append(place)
        given[item_of[own]] = -1
    cells, cell_of = np.unique(np.concatenate(keys), return_inverse=True)
    place = np.concatenate(places)
    tables = sparse.csr_matrix((np.ones(len(place)), (cell_of, place)), shape=(len(cells), shape[0]))
    k = max(width, 1)
    pairs_and_labels = np.stack([cells // k**2, cells // k % k, cells % k], axis=1)
    return Pairs(first, second, tables, pairs_and_labels, width)


def pair_kappas(pairs: Pairs, weights: Floats, ordered: bool) -> dict[str, Floats]:
    """Cohen's kappa of each pair, shape `(p, b)`; NaN where chance explains all, or the pair has no items in a sample.

    Kappa is 1 - observed / expected disagreement. Plain (Cohen 1960), two labels differ or they do not; weighted (Cohen
    1968), by the square of how many labels they are apart (`quadratic`). Expected disagreement is a closed form of the
    two annotators' shares of the labels.

    `weights` is how often each item counts, shape `(n, b)`. Labels that are not `ordered` have no weighted kappa.
    """
    number_of_pairs, samples = len(pairs.first), weights.shape[1]
    names = ["plain", "quadratic"] if ordered else ["plain"]
    kappas = {name: np.full((number_of_pairs, samples), np.nan) for name in names}
    chunk = max(1, CHUNK_CELLS // max(1, pairs.labels * samples))
    for start in range(0, number_of_pairs, chunk):
        some = slice(*np.searchsorted(pairs.cells[:, 0], [start, start + chunk]))
        height = min(chunk, number_of_pairs - start)
        pair, given, other = (pairs.cells[some] - [start, 0, 0]).T
        table = pairs.tables[some] @ weights
        number = np.maximum(_summed(table, pair, height), 1)
        shape = (height, pairs.labels, samples)
        one = _summed(table, pair * pairs.labels + given, height * pairs.labels).reshape(shape) / number[:, None]
        two = _summed(table, pair * pairs.labels + other, height * pairs.labels).reshape(shape) / number[:, None]

        apart = np.abs(given - other).astype(np.float64)[:, None]
        observed = {"plain": _summed(table * (apart > 0), pair, height) / number}
        # Samples without a common item expect nothing and are undefined, as they should be.
        expected = {"plain": one.sum(axis=1) * two.sum(axis=1) - (one * two).sum(axis=1)}
        if ordered:
            observed["quadratic"] = _summed(table * apart**2, pair, height) / number
            position = np.arange(pairs.labels, dtype=np.float64)[:, None]
            means = (one * position).sum(axis=1), (two * position).sum(axis=1)
            expected["quadratic"] = ((one + two) * position**2).sum(axis=1) - 2 * means[0] * means[1]
        for name, by_chance in expected.items():
            defined = by_chance > SMALLEST_DISAGREEMENT
            ratio = observed[name] / np.where(defined, by_chance, 1)
            kappas[name][start : start + chunk] = np.where(defined, 1 - ratio, np.nan)
    return kappas


def mean_pairwise_kappas(pairs: Pairs, weights: Floats, ordered: bool) -> dict[str, Floats]:
    """Mean over the pairs whose kappa is defined, by name, shape `(b,)` each; NaN where none is. See `pair_kappas`."""
    suffixes = {"plain": "", "quadratic": "_quadratic"}
    means = {}
    for name, kappas in pair_kappas(pairs, weights, ordered).items():
        defined = ~np.isnan(kappas)
        number = defined.sum(axis=0)
        total = np.where(defined, kappas, 0).sum(axis=0)
        means[f"mean_pairwise_cohen_kappa{suffixes[name]}"] = np.where(number, total / np.maximum(number, 1), np.nan)
    return means


def _summed(table: Floats, group: Integers, groups: int) -> Floats:
    """Sums of the rows of each group, shape `(groups, b)`."""
    return np.asarray(
        sparse.csr_matrix((np.ones(len(group)), (group, np.arange(len(group)))), shape=(groups, len(group))) @ table
    )
