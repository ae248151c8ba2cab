"""Wrong labels put in on purpose, so that a detector can be graded where the truth is known.

Legend: `n` rows, `k` labels numbered from 0. Each function takes the true labels, shape `(n,)`; `confused`, out-of-fold
probabilities by a model of another family than the detector's, shape `(n, k)`; and the share of the rows that get a
wrong label. It returns the labels with errors, shape `(n,)`.
"""

import numpy as np

from assay.probes import Floats, Integers


def add_uniform_noise(labels: Integers, confused: Floats, share: float, random: np.random.Generator) -> Integers:
    """Any row is wrong with the same chance, and any other label is as likely (symmetric noise)."""
    noisy, classes = labels.copy(), confused.shape[1]
    wrong = _draw_rows(np.ones(len(labels)), share, random)
    noisy[wrong] = (labels[wrong] + random.integers(1, classes, len(wrong))) % classes
    return noisy


def add_confusable_noise(labels: Integers, confused: Floats, share: float, random: np.random.Generator) -> Integers:
    """Any row is wrong with the same chance, and its wrong label is drawn by how likely a model takes it to be."""
    return _draw_labels(labels, confused, _draw_rows(np.ones(len(labels)), share, random), random)


def add_instance_dependent_noise(
    labels: Integers, confused: Floats, share: float, random: np.random.Generator
) -> Integers:
    """Hard rows are wrong more often, and their wrong labels are the likely ones (as Xia et al. 2020 argue people err).

    A row's chance is in proportion to the probability that the model gives to labels other than the true one.
    """
    hardness = 1 - confused[np.arange(len(labels)), labels] + 1e-6
    return _draw_labels(labels, confused, _draw_rows(hardness, share, random), random)


NOISE = {
    "uniform": add_uniform_noise,
    "instance_dependent": add_instance_dependent_noise,
    "confusable": add_confusable_noise,
}


def _draw_rows(weights: Floats, share: float, random: np.random.Generator) -> Integers:
    """So many rows, each with a chance that grows with its weight (Efraimidis & Spirakis 2006)."""
    keys = random.exponential(size=len(weights)) / weights
    return np.argsort(keys, kind="stable")[: round(share * len(weights))]


def _draw_labels(labels: Integers, confused: Floats, wrong: Integers, random: np.random.Generator) -> Integers:
    """The labels, those of the wrong rows drawn from the others in proportion to their probabilities."""
    chances = confused[wrong] + 1e-12
    chances[np.arange(len(wrong)), labels[wrong]] = 0
    cumulated = chances.cumsum(axis=1)
    noisy = labels.copy()
    noisy[wrong] = (random.random((len(wrong), 1)) * cumulated[:, -1:] >= cumulated).sum(axis=1)
    return noisy
