"""Scores of a classifier with their intervals over test rows: those of these trained models, not of other trainings.

Legend: `n` rows, `k` classes, `s` seeds.
"""

import numpy as np
from pydantic import Field

from assay.core.params import Params
from assay.statistics.intervals import Floats, Integers, logit_estimate, loss_estimate, share_estimate
from assay.statistics.metrics_dict import Estimate, interval_metrics
from assay.statistics.verdicts import MIN_LABEL_ROWS, compare, rarest_label


class EvaluateParams(Params):
    """The `evaluate` section of `params.yaml`; `simulations` of a calibrated model's calibration error."""

    batch_size: int = Field(ge=1, le=4096)
    simulations: int = Field(ge=100, le=1_000_000)
    calibration_bins: int = Field(ge=2, le=1000)


def f1_influence(truth: Integers, predicted: Integers) -> tuple[float, Floats]:
    """Macro-F1 and how much each row moves it (its influence function), both predictions and truth of shape `(n,)`.

    F1 of a class is 2·P(hit) / (P(true) + P(predicted)), so the delta method (Takahashi et al. 2022) gives a row
    2·hit − F1 for its true class, where it is one, and −F1 for its predicted class, over that sum and the classes.
    Classes that are neither true nor predicted do not count.
    """
    n, k = len(truth), int(max(truth.max(), predicted.max())) + 1
    occurrences = (np.bincount(truth, minlength=k) + np.bincount(predicted, minlength=k)) / n
    hits = np.bincount(truth[truth == predicted], minlength=k) / n
    weight = np.divide(1, occurrences, out=np.zeros(k), where=occurrences > 0) / np.count_nonzero(occurrences)
    f1 = 2 * hits / np.maximum(occurrences, 1 / n)
    influence = (2 * (truth == predicted) - f1[truth]) * weight[truth] - f1[predicted] * weight[predicted]
    return float((f1 * occurrences * weight).sum()), influence


def score_predictions(truth: Integers, predicted: Integers, groups: Integers) -> dict[str, Estimate]:
    """`macro_f1` and `accuracy`, means over the seeds, with 95% intervals.

    Macro-F1 has one where each label that occurs has `MIN_LABEL_ROWS` test rows. The truth is of shape `(n,)`, or
    `(s, n)` where it differs, predicted classes `(s, n)`, and groups `(n,)`.
    """
    truths = np.broadcast_to(truth, predicted.shape)
    scores, influences = zip(*(f1_influence(*pair) for pair in zip(truths, predicted, strict=True)), strict=True)
    macro_f1 = logit_estimate(float(np.mean(scores)), np.mean(influences, axis=0), groups)
    if rarest_label(truths, predicted) < MIN_LABEL_ROWS:
        macro_f1 = Estimate(macro_f1.value, None, None)
    return {"macro_f1": macro_f1, "accuracy": share_estimate((truths == predicted).mean(axis=0), groups)}


def score_probabilities(truth: Integers, probabilities: Floats, groups: Integers) -> dict[str, Estimate]:
    """`brier_score` (Brier 1950: summed over the classes, 0 to 2) and `log_loss` in nats, means over seeds and rows.

    The truth is of shape `(n,)`, probabilities `(s, n, k)`, groups `(n,)`. A probability below 1e-15 counts as that.
    """
    of_truth = np.take_along_axis(probabilities, np.broadcast_to(truth, probabilities.shape[:2])[..., None], axis=2)
    brier = (probabilities**2).sum(axis=2) - 2 * of_truth[..., 0] + 1
    loss = -np.log(np.maximum(of_truth[..., 0], 1e-15))
    return {
        "brier_score": loss_estimate(brier.mean(axis=0), groups),
        "log_loss": loss_estimate(loss.mean(axis=0), groups),
    }


def compare_scores(
    truth: Integers, before: Integers, after: Integers, groups: Integers, samples: int, random: np.random.Generator
) -> dict[str, float]:
    """Accuracy and macro-F1 of two predictions for the same rows, shape `(n,)` each, and after - before, as metrics."""
    found = compare(truth, after[None], before[None], groups, samples, random)
    old, new = (score_predictions(truth, one[None], groups) for one in (before, after))
    metrics: dict[str, float] = {}
    for name, one in (("accuracy", found.accuracy), ("macro_f1", found.macro_f1)):
        metrics |= {f"{name}_before": old[name].value, f"{name}_after": new[name].value}
        metrics |= interval_metrics(f"{name}_difference", one)
    return metrics


def macro_f1(truth: Integers, predicted: Integers) -> float:
    """Unweighted mean of F1 over the classes that occur in the truth or among the predictions, shape `(n,)` each."""
    # Imported here, and below: it takes a second, which `report` does not need.
    from sklearn.metrics import f1_score

    return float(f1_score(truth, predicted, average="macro"))


def score_classes(truth: Integers, predicted: Integers, labels: list[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and rows of each class by its label; 0 where a class was never predicted or has no rows."""
    from sklearn.metrics import precision_recall_fscore_support

    scores = precision_recall_fscore_support(truth, predicted, labels=range(len(labels)), zero_division=0)
    return {
        label: {"precision": float(precision), "recall": float(recall), "f1": float(f1), "support": int(support)}
        for label, precision, recall, f1, support in zip(labels, *scores, strict=True)
    }
