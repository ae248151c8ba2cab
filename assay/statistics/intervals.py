"""95% intervals: percentiles of a bootstrap, and Wilson's for a proportion."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from assay.statistics.metrics_dict import Estimate


def percentile_estimate(value: float, drawn: NDArray[np.float64]) -> Estimate:
    """A figure with its percentile interval (Efron & Tibshirani 1993, chapter 13) over samples, shape `(b,)`.

    Without samples there is no interval.
    """
    if not len(drawn):
        return Estimate(value, None, None)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def wilson_estimate(successes: int, trials: int) -> Estimate:
    """A proportion of at least one trial with Wilson's interval (1927)."""
    low, high = binomtest(successes, trials).proportion_ci(method="wilson")
    return Estimate(successes / trials, float(low), float(high))
