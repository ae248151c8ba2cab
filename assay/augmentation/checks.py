"""Whether altered copies still mean what their parents do: by the frozen encoder, and by a probe on it.

Legend: `n` original rows, `c` copies, `d` dimensions, `k` labels.
"""

import re

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.core.placeholders import PLACEHOLDER
from assay.probes import Fold, grouped_folds, linear_model, out_of_fold_probabilities

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

PLACEHOLDERS = re.compile(PLACEHOLDER)


def placeholders_of(text: str) -> list[str]:
    """The placeholders of a text, in alphabetical order."""
    return sorted(PLACEHOLDERS.findall(text))


def largest_cosines(
    vectors: NDArray[np.float32], references: NDArray[np.float32], block_rows: int = 2048
) -> tuple[Floats, Integers]:
    """For each vector the reference closest to it: the cosine, and its number; -1 and 0 where there is none.

    Args:
        vectors: of length 1, shape `(c, d)`.
        references: of length 1, shape `(r, d)`.
        block_rows: vectors at a time.

    Returns:
        Shape `(c,)` each.
    """
    cosines, closest = np.full(len(vectors), -1.0), np.zeros(len(vectors), dtype=np.int64)
    if not len(references):
        return cosines, closest
    for start in range(0, len(vectors), block_rows):
        of_block = vectors[start : start + block_rows] @ references.T
        best = of_block.argmax(axis=1)
        closest[start : start + len(best)] = best
        cosines[start : start + len(best)] = of_block[np.arange(len(best)), best]
    return cosines, closest


def probed(
    originals: NDArray[np.float32],
    copies: NDArray[np.float32],
    parents: Integers,
    labels: Integers,
    groups: pl.Series,
    *,
    folds: int,
    C: float,
    seed: int,
) -> tuple[Floats, Floats]:
    """What a logistic regression that saw neither a parent nor its group says of parents and copies.

    Args:
        originals: embeddings of the train rows, shape `(n, d)`.
        copies: of the copies, shape `(c, d)`.
        parents: the row number of each copy's parent, shape `(c,)`.
        labels: of the train rows, from 0, shape `(n,)`.
        groups: rows that say the same, and so are in one fold, shape `(n,)`.
        folds: number of folds.
        C: scikit-learn's `C`.
        seed: of the folds.

    Returns:
        Probability of every label for the rows, shape `(n, k)`, and for the copies, shape `(c, k)`; NaN where the
        labels are too few to judge a row.
    """
    numbers = groups.rank("dense").to_numpy().astype(np.int64) - 1
    both = np.concatenate([originals, copies])
    model = linear_model(both, C)
    dealt = [
        Fold(fold.fitted, np.concatenate([fold.judged, len(originals) + np.flatnonzero(np.isin(parents, fold.judged))]))
        for fold in grouped_folds(labels, numbers, folds, seed)
    ]
    probabilities = out_of_fold_probabilities(model, np.concatenate([labels, labels[parents]]), dealt)
    return probabilities[: len(originals)], probabilities[len(originals) :]


def place_of_label(probabilities: Floats, labels: Integers) -> Integers:
    """How many labels are likelier than the given one, shape `(rows,)`; none where nothing is known of a row.

    Args:
        probabilities: shape `(rows, k)`.
        labels: the given ones, shape `(rows,)`.
    """
    given = probabilities[np.arange(len(labels)), labels]
    likelier: Integers = (probabilities > given[:, None]).sum(axis=1)
    return likelier
