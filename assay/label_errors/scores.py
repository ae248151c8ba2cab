"""How much the evidence speaks against each row's label: several scores, and Cleanlab's verdict.

Legend: `n` rows, `k` labels numbered from 0. Labels are of shape `(n,)`, as is every score; low speaks for an error.
Probabilities are calibrated, out of fold, of shape `(n, k)`. A row that no fold predicts is NaN in all of them.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray
from scipy.stats import rankdata

from assay.probes import Floats, Integers

FilterBy = Literal[
    "prune_by_noise_rate",
    "prune_by_class",
    "both",
    "confident_learning",
    "predicted_neq_given",
    "low_normalized_margin",
    "low_self_confidence",
]

PRIOR_ROWS = 1.0
"""Added, spread over the kinds of evidence, to the rows by which the evidence of each label is learnt."""


def update_by_evidence(probabilities: Floats, evidence: Integers) -> Floats:
    """Probabilities of the labels given the text and the evidence, shape `(n, k)`.

    By Bayes' rule, with evidence and text independent given the label: P(label | text, evidence) is in proportion to
    P(label | text) P(evidence | label). The second factor is counted over all rows, each counting for every label as
    far as its text speaks for it, which is one step of the EM algorithm of Dawid & Skene (1979,
    https://doi.org/10.2307/2346806) from the texts' probabilities as the start. The evidence is given as codes from 0,
    -1 where there is none, shape `(n,)`.
    """
    known = (evidence >= 0) & ~np.isnan(probabilities[:, 0])
    if not known.any():
        return probabilities
    kinds, of_labels = int(evidence.max()) + 1, probabilities[known].T
    counts = np.stack([np.bincount(evidence[known], weights=of_label, minlength=kinds) for of_label in of_labels])
    likelihood = counts + PRIOR_ROWS / kinds
    likelihood /= likelihood.sum(axis=1, keepdims=True)
    updated = probabilities.copy()
    updated[known] *= likelihood[:, evidence[known]].T
    updated[known] /= updated[known].sum(axis=1, keepdims=True)
    return updated


def score_quality(labels: Integers, probabilities: Floats) -> dict[str, Floats]:
    """Cleanlab's scores (Northcutt et al. 2021; Kuan & Mueller 2022), and the one label against the other.

    From 0 to 1: `self_confidence` p, `normalized_margin` (p - q + 1) / 2 and `pairwise_confidence` p / (p + q), for a
    given label of probability p and a best other one of probability q. docs/label_errors.md says when each is better.
    """
    known = ~np.isnan(probabilities[:, 0])
    names = ("self_confidence", "normalized_margin", "pairwise_confidence")
    scores = {name: np.full(len(labels), np.nan) for name in names}
    present, codes = np.unique(labels[known], return_inverse=True)
    if len(present) < 2:
        return scores
    shares = _shares(probabilities[known], present)
    rows = np.arange(len(codes))
    others = shares.copy()
    others[rows, codes] = 0
    for method in names[:2]:
        scores[method][known] = get_label_quality_scores(codes, shares, method=method)
    best_other = np.maximum(others.max(axis=1), 1e-12)
    scores["pairwise_confidence"][known] = shares[rows, codes] / (shares[rows, codes] + best_other)
    return scores


def average_ranks(scores: Sequence[Floats]) -> Floats:
    """Mean of the ranks that the scores give a row, as a share of the rows that have one: from 0 (an error) to 1."""
    known = ~np.isnan(scores[0])
    average = np.full(len(known), np.nan)
    if known.any():
        average[known] = np.mean([rankdata(score[known]) / known.sum() for score in scores], axis=0)
    return average


def flag_label_issues(labels: Integers, probabilities: Floats, filter_by: FilterBy) -> NDArray[np.bool_]:
    """The rows that Cleanlab takes for label errors, shape `(n,)`; `filter_by` is how it goes from scores to a set."""
    known = ~np.isnan(probabilities[:, 0])
    found = np.zeros(len(labels), dtype=np.bool_)
    # Cleanlab wants every label to occur: one without such a row leaves, and the others sum to 1 again.
    present, codes = np.unique(labels[known], return_inverse=True)
    if len(present) >= 2:
        shares = _shares(probabilities[known], present)
        found[known] = find_label_issues(codes, shares, filter_by=filter_by, n_jobs=1)
    return found


def _shares(probabilities: Floats, present: Integers) -> Floats:
    """The columns of the labels that occur, summing to 1."""
    kept = probabilities[:, present]
    shares: Floats = kept / kept.sum(axis=1, keepdims=True)
    return shares
