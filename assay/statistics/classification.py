"""Scores of a classifier, and their bootstrap intervals.

Legend: `n` rows, `k` classes, `b` bootstrap samples, `s` seeds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHUNK_CELLS = 20_000_000
"""Weights held at a time: rows times bootstrap samples, 160 MB in float64."""


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall and F1 of each class, shape `(k,)` each, and its rows in the truth (`support`)."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """A score with its 95% interval."""

    value: float
    low: float
    high: float


def class_scores(truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> ClassScores:
    """Precision, recall and F1 per class; 0 where a class was never predicted or has no rows.

    Args:
        truth: class of each row, shape `(n,)`.
        predicted: predicted class of each row, shape `(n,)`.
        classes: number of classes, `k`.
    """
    hits = np.bincount(truth[truth == predicted], minlength=classes)
    support = np.bincount(truth, minlength=classes)
    calls = np.bincount(predicted, minlength=classes)
    return ClassScores(
        precision=hits / np.maximum(calls, 1),
        recall=hits / np.maximum(support, 1),
        f1=2 * hits / np.maximum(support + calls, 1),
        support=support,
    )


def weighted_scores(
    truth: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    weights: NDArray[np.float64],
    calibration_bins: int,
) -> dict[str, NDArray[np.float64]]:
    """Accuracy, macro-F1 and expected calibration error under each of `b` sets of row weights.

    Macro-F1 is the unweighted mean of F1 over the classes that occur in the truth or among the predictions.
    The calibration error is that of Guo et al. (2017), equation 3: bins of equal width over the confidence of the
    predicted class, the gap between mean confidence and accuracy in a bin weighted by the rows in it.

    Args:
        truth: class of each row, shape `(n,)`.
        probabilities: shape `(n, k)`.
        weights: how often each row counts, shape `(b, n)`.
        calibration_bins: number of bins.

    Returns:
        The scores by name, shape `(b,)` each.
    """
    rows, classes = probabilities.shape
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    correct = (predicted == truth).astype(np.float64)
    total = weights.sum(axis=1)

    truth_of = np.eye(classes)[truth]
    predicted_of = np.eye(classes)[predicted]
    hits = weights @ (truth_of * predicted_of)
    occurrences = weights @ (truth_of + predicted_of)
    f1 = 2 * hits / np.maximum(occurrences, 1)

    bin_of = np.minimum((confidence * calibration_bins).astype(np.int64), calibration_bins - 1)
    gaps = np.zeros((rows, calibration_bins))
    gaps[np.arange(rows), bin_of] = confidence - correct
    return {
        "accuracy": (weights @ correct) / total,
        "macro_f1": f1.sum(axis=1) / (occurrences > 0).sum(axis=1),
        "expected_calibration_error": np.abs(weights @ gaps).sum(axis=1) / total,
    }


def bootstrap_scores(
    truth: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    samples: int,
    calibration_bins: int,
    random: np.random.Generator,
) -> dict[str, Interval]:
    """The headline scores with 95% percentile bootstrap intervals (Efron & Tibshirani 1993, chapter 13).

    A score is the mean over the models of several seeds, and each bootstrap sample draws rows and models: the interval
    covers both other test rows and other seeds.

    Args:
        truth: class of each row, shape `(n,)`.
        probabilities: of the model of each of `s` seeds, shape `(s, n, k)`.
        samples: bootstrap samples, `b`.
        calibration_bins: bins of the calibration error.
        random: source of the resampling; the same for every approach, so that all see the same resampled rows.

    Returns:
        `accuracy`, `macro_f1` and `expected_calibration_error`.
    """
    models, rows, _ = probabilities.shape
    everything = np.ones((1, rows))
    point = [weighted_scores(truth, of_seed, everything, calibration_bins) for of_seed in probabilities]
    chunk = max(1, CHUNK_CELLS // rows)
    parts: list[list[dict[str, NDArray[np.float64]]]] = []
    for start in range(0, samples, chunk):
        size = min(chunk, samples - start)
        drawn = random.integers(0, rows, size=(size, rows))
        flat = (drawn + rows * np.arange(size)[:, None]).ravel()
        weights = np.bincount(flat, minlength=size * rows).reshape(size, rows).astype(np.float64)
        parts.append([weighted_scores(truth, of_seed, weights, calibration_bins) for of_seed in probabilities])

    # Drawn last, so that the rows are the same for any number of seeds.
    drawn_models = random.integers(0, models, size=(samples, models))
    intervals = {}
    for name in point[0]:
        scores = np.stack([np.concatenate([part[model][name] for part in parts]) for model in range(models)])
        drawn_scores = scores[drawn_models, np.arange(samples)[:, None]].mean(axis=1)
        low, high = np.quantile(drawn_scores, [0.025, 0.975])
        intervals[name] = Interval(float(np.mean([of_seed[name][0] for of_seed in point])), float(low), float(high))
    return intervals


def macro_f1(truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> float:
    """Unweighted mean of F1 over the classes that occur in the truth or among the predictions."""
    scores = class_scores(truth, predicted, classes)
    occurs = (scores.support + np.bincount(predicted, minlength=classes)) > 0
    return float(scores.f1[occurs].mean())
