"""Whether augmented examples still have the label and the placeholders of their sources."""

import re

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from assay.core.params import Params
from assay.core.placeholders import PLACEHOLDER
from assay.probes import Floats, Fold, Integers, grouped_folds, linear_model, number_values, out_of_fold_probabilities


class LabelPreservation(Params):
    """What an example must keep of its source; a probe checks labels, with `probe_C` its inverse L2 penalty."""

    min_cosine_to_parent: float = Field(ge=-1, le=1)
    probe_folds: int = Field(ge=2, le=100)
    probe_C: float = Field(gt=0)


def list_placeholders(text: str) -> list[str]:
    """The placeholders of a text, in alphabetical order."""
    return sorted(re.findall(PLACEHOLDER, text))


def probe_examples(
    originals: NDArray[np.float32],
    examples: NDArray[np.float32],
    parents: Integers,
    labels: Integers,
    groups: pl.Series,
    params: LabelPreservation,
    seed: int,
) -> tuple[Floats, Floats]:
    """Predict source and augmented examples by a logistic regression that saw neither the source nor its group.

    Args:
        originals: embeddings of the train rows, shape `(n, d)`; of the `examples`, shape `(e, d)`.
        parents: the row number of each example's source, shape `(e,)`.
        labels: of the train rows, from 0, shape `(n,)`.
        groups: near-duplicates, which are in one fold, shape `(n,)`.

    Returns:
        Probability of every label for the rows, shape `(n, k)`, and for the examples, shape `(e, k)`; NaN where the
        labels are too few to predict a row.
    """
    model = linear_model(np.concatenate([originals, examples]), [params.probe_C])
    both = []
    for fold in grouped_folds(labels, number_values(groups), params.probe_folds, seed):
        of_fold = len(originals) + np.flatnonzero(np.isin(parents, fold.predicted))
        both.append(Fold(fold.fitted, np.concatenate([fold.predicted, of_fold])))
    probabilities = out_of_fold_probabilities(model, np.concatenate([labels, labels[parents]]), both)[0]
    return probabilities[: len(originals)], probabilities[len(originals) :]


def rank_of_label(probabilities: Floats, labels: Integers) -> Integers:
    """How many labels are likelier in `(n, k)` than the given one, shape `(n,)`; none where a row is unknown."""
    given = probabilities[np.arange(len(labels)), labels]
    likelier: Integers = (probabilities > given[:, None]).sum(axis=1)
    return likelier
