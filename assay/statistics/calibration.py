"""How far a confidence is from the share of rows that are right. Legend: `n` rows, `b` sets of outcomes."""

import numpy as np

from assay.statistics.intervals import Floats


def debiased_errors(confidence: Floats, correct: Floats, bins: int) -> Floats:
    """Root of the debiased squared calibration error under each of `b` sets of outcomes, shape `(b,)`.

    Of bins j of equally many rows: Σ n_j/n · [(mean confidence − accuracy)² − accuracy·(1 − accuracy)/(n_j − 1)], at
    least 0 (Kumar, Liang & Ma 2019, definition 4.1, of the top label). The second term is what chance alone adds, so
    that the square of a calibrated model is 0 on average. Confidence is of shape `(n,)`, `correct` `(n, b)`; of fewer
    than two rows a bin there are fewer bins.
    """
    n = len(confidence)
    order = np.argsort(confidence, kind="stable")
    starts = np.linspace(0, n, max(1, min(bins, n // 2)), endpoint=False).astype(np.int64)
    sizes = np.diff(np.append(starts, n)).astype(np.float64)
    accuracy = np.add.reduceat(correct[order], starts, axis=0) / sizes[:, None]
    gaps = np.add.reduceat(confidence[order], starts)[:, None] / sizes[:, None] - accuracy
    by_chance = accuracy * (1 - accuracy) / np.maximum(sizes[:, None] - 1, 1)
    squares: Floats = (sizes[:, None] / n * (gaps**2 - by_chance)).sum(axis=0)
    return np.sqrt(np.maximum(squares, 0))


def calibration_metrics(
    confidence: Floats, correct: Floats, bins: int, simulations: int, random: np.random.Generator
) -> dict[str, float]:
    """The debiased calibration error, mean over `s` seeds, beside that of a calibrated model; shape `(s, n)` each.

    A calibrated model has the same confidences and is right as often as they say: the mean of its error, and what 95%
    of simulated outcomes stay below. The error has no bootstrap interval: resampling adds to it, so that an interval
    would miss the value of a calibrated model always.
    """
    error = np.mean([debiased_errors(c, r[:, None], bins)[0] for c, r in zip(confidence, correct, strict=True)])
    # One draw a row for all seeds: their models are right on the same rows more often than not.
    drawn = random.random((confidence.shape[1], simulations))
    if_calibrated = np.mean([debiased_errors(c, (drawn < c[:, None]) * 1.0, bins) for c in confidence], axis=0)
    return {
        "calibration_error": float(error),
        "calibration_error_if_calibrated": float(if_calibrated.mean()),
        "calibration_error_if_calibrated_95pct": float(np.quantile(if_calibrated, 0.95)),
    }
