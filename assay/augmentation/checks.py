"""Whether augmented examples still have the label and the placeholders of their sources.

Legend: `n` original rows, `e` augmented examples, `d` dimensions, `k` labels.
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


def list_placeholders(text: str) -> list[str]:
    """The placeholders of a text, in alphabetical order."""
    return sorted(PLACEHOLDERS.findall(text))


def probe_examples(
    originals: NDArray[np.float32],
    examples: NDArray[np.float32],
    parents: Integers,
    labels: Integers,
    groups: pl.Series,
    *,
    folds: int,
    C: float,
    seed: int,
) -> tuple[Floats, Floats]:
    """Predict source and augmented examples by a logistic regression that saw neither the source nor its group.

    Args:
        originals: embeddings of the train rows, shape `(n, d)`.
        parents: the row number of each example's source, shape `(e,)`.
        labels: of the train rows, from 0, shape `(n,)`.
        groups: near-duplicates, which are in one fold, shape `(n,)`.

    Returns:
        Probability of every label for the rows, shape `(n, k)`, and for the examples, shape `(e, k)`; NaN where the
        labels are too few to predict a row.
    """
    numbers = groups.rank("dense").to_numpy().astype(np.int64) - 1
    model = linear_model(np.concatenate([originals, examples]), C)
    both = [
        Fold(
            fold.fitted,
            np.concatenate([fold.predicted, len(originals) + np.flatnonzero(np.isin(parents, fold.predicted))]),
        )
        for fold in grouped_folds(labels, numbers, folds, seed)
    ]
    probabilities = out_of_fold_probabilities(model, np.concatenate([labels, labels[parents]]), both)
    return probabilities[: len(originals)], probabilities[len(originals) :]


def rank_of_label(probabilities: Floats, labels: Integers) -> Integers:
    """How many labels are likelier than the given one, shape `(rows,)`; none where nothing is known of a row.

    Args:
        probabilities: shape `(rows, k)`.
        labels: the given ones, shape `(rows,)`.
    """
    given = probabilities[np.arange(len(labels)), labels]
    likelier: Integers = (probabilities > given[:, None]).sum(axis=1)
    return likelier
