"""95% intervals: percentiles of a bootstrap, and Wilson's for a proportion."""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from assay.statistics.metrics_dict import Estimate


def percentile_estimate(value: float, drawn: NDArray[np.float64]) -> Estimate:
    """A figure with its percentile interval (Efron & Tibshirani 1993, chapter 13) over samples, shape `(b,)`.

    Without samples there is no interval.
    """
    if not len(drawn):
        return Estimate(value, None, None)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def wilson_estimate(successes: float, trials: float) -> Estimate:
    """A proportion of at least one trial with Wilson's interval (1927); SciPy takes a second to import."""
    share, z = successes / trials, NormalDist().inv_cdf(0.975)
    centre = share + z**2 / (2 * trials)
    margin = z * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    low, high = ((centre + sign * margin) / (1 + z**2 / trials) for sign in (-1, 1))
    return Estimate(share, max(0.0, low) if successes else 0.0, min(1.0, high) if successes < trials else 1.0)
