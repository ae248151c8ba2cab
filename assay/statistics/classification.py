"""Scores of a classifier, and their bootstrap intervals.

Legend: `n` rows, `k` classes, `b` bootstrap samples, `s` seeds.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sklearn.metrics import f1_score, precision_recall_fscore_support

from assay.core.params import Params
from assay.statistics.bootstrap import bootstrap_figures, estimate_models, item_counts
from assay.statistics.calibration import calibration_errors
from assay.statistics.metrics_dict import Estimate, interval_metrics

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class EvaluateParams(Params):
    """The `evaluate` section of `params.yaml`."""

    batch_size: int = Field(ge=1, le=4096)
    bootstrap_samples: int = Field(ge=100, le=1_000_000)
    calibration_bins: int = Field(ge=2, le=1000)


def weighted_scores(truth: Integers, probabilities: Floats, counts: Floats, calibration_bins: int) -> dict[str, Floats]:
    """Accuracy, macro-F1 and expected calibration error under each of `b` sets of counts, shape `(b,)` each.

    Macro-F1 is the unweighted mean of F1 over the classes that occur in the truth or among the predictions. The truth
    is of shape `(n,)`, probabilities `(n, k)`, and how often each row counts `(n, b)`.
    """
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    correct = (predicted == truth).astype(np.float64)
    truth_of, predicted_of = np.eye(classes)[truth], np.eye(classes)[predicted]
    hits = counts.T @ (truth_of * predicted_of)
    occurrences = counts.T @ (truth_of + predicted_of)
    f1 = 2 * hits / np.maximum(occurrences, 1)
    return {
        "accuracy": (counts.T @ correct) / counts.sum(axis=0),
        "macro_f1": f1.sum(axis=1) / (occurrences > 0).sum(axis=1),
        "expected_calibration_error": calibration_errors(probabilities.max(axis=1), correct, counts, calibration_bins),
    }


def bootstrap_scores(
    truth: Integers, probabilities: Floats, samples: int, calibration_bins: int, random: np.random.Generator
) -> dict[str, Estimate]:
    """`accuracy`, `macro_f1` and `expected_calibration_error` with 95% percentile bootstrap intervals.

    A score is the mean over the models of several seeds, and each bootstrap sample draws rows and models: the interval
    covers both other test rows and other seeds. The truth is of shape `(n,)`, probabilities `(s, n, k)`; with the same
    `random` for every approach, all see the same resampled rows.
    """
    models, rows, _ = probabilities.shape
    parts = [
        [weighted_scores(truth, of_seed, counts, calibration_bins) for of_seed in probabilities]
        for counts in (np.ones((rows, 1)), *item_counts(rows, samples, random))
    ]
    # Drawn last, so that the rows are the same for any number of seeds.
    drawn_models = random.integers(0, models, size=(samples, models))
    estimates = {}
    for name in parts[0][0]:
        scores = np.stack([np.concatenate([part[model][name] for part in parts]) for model in range(models)])
        estimates[name] = estimate_models(scores, drawn_models)
    return estimates


def compare_scores(
    truth: Integers, before: Floats, after: Floats, samples: int, random: np.random.Generator
) -> dict[str, float]:
    """Accuracy and macro-F1 of two predictions for the same rows, and the differences (after - before), as metrics.

    The differences are paired, row by row, with 95% bootstrap intervals over the rows. `truth` is the class of each
    row, shape `(n,)`, the predictions are probabilities, shape `(n, k)` each.
    """
    names = ("accuracy", "macro_f1")

    def score(counts: Floats) -> list[dict[str, Floats]]:
        return [weighted_scores(truth, one, counts, 1) for one in (before, after)]

    def measure(counts: Floats) -> dict[str, Floats]:
        old, new = score(counts)
        return {name: new[name] - old[name] for name in names}

    old, new = score(np.ones((len(truth), 1)))
    differences = bootstrap_figures(measure, len(truth), samples, random)
    metrics: dict[str, float] = {}
    for name in names:
        metrics |= {f"{name}_before": float(old[name][0]), f"{name}_after": float(new[name][0])}
        metrics |= interval_metrics(f"{name}_difference", differences[name])
    return metrics


def macro_f1(truth: Integers, predicted: Integers) -> float:
    """Unweighted mean of F1 over the classes that occur in the truth or among the predictions, shape `(n,)` each."""
    return float(f1_score(truth, predicted, average="macro"))


def score_classes(truth: Integers, predicted: Integers, labels: list[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and rows of each class by its label; 0 where a class was never predicted or has no rows."""
    scores = precision_recall_fscore_support(truth, predicted, labels=range(len(labels)), zero_division=0)
    return {
        label: {"precision": float(precision), "recall": float(recall), "f1": float(f1), "support": int(support)}
        for label, precision, recall, f1, support in zip(labels, *scores, strict=True)
    }
