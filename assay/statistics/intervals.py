"""95% intervals of one score over the test rows: in closed form, or as percentiles of a bootstrap.

Each was chosen by its coverage in simulations (`docs/statistics.md`). Rows of one group are not independent: the
variance sums over groups what deviates within them (Cameron & Miller 2015, equation 11). Where there is no variance
there is no interval, but Wilson's of a share.

Legend: `n` rows, `b` bootstrap samples.
"""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from assay.statistics.metrics_dict import Estimate

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Z = NormalDist().inv_cdf(0.975)
MIN_SHARE_ROWS = 30
"""A share of fewer rows has no interval: it is to be shown as a count."""


def percentile_estimate(value: float, drawn: Floats) -> Estimate:
    """A figure with its percentile interval (Efron & Tibshirani 1993, chapter 13) over samples, shape `(b,)`.

    Without samples there is no interval, nor where they are all the same: an interval of no width claims certainty.
    """
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (0.0, 0.0)
    if high - low < 1e-12:
        return Estimate(value, None, None)
    return Estimate(value, float(low), float(high))


def wilson_estimate(successes: float, trials: float) -> Estimate:
    """A proportion of at least one trial with Wilson's interval (1927); SciPy takes a second to import."""
    share, z = successes / trials, Z
    centre = share + z**2 / (2 * trials)
    margin = z * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    low, high = ((centre + sign * margin) / (1 + z**2 / trials) for sign in (-1, 1))
    return Estimate(share, max(0.0, low) if successes else 0.0, min(1.0, high) if successes < trials else 1.0)


def sum_groups(values: Floats, groups: Integers) -> Floats:
    """Sum over each group of what deviates from the mean, `(n,)` each to `(groups,)`."""
    sums: Floats = np.bincount(groups, weights=values - values.mean()).astype(np.float64)
    return sums[np.unique(groups)]


def effective_trials(values: Floats, groups: Integers) -> float:
    """The number of independent rows whose mean would vary as that of these values in [0, 1] (Dean & Pagano 2015)."""
    share, sums = float(values.mean()), sum_groups(values, groups)
    variance = float((sums**2).sum()) / len(values) ** 2
    return share * (1 - share) / variance if variance > 0 else float(len(sums))


def share_estimate(values: Floats, groups: Integers) -> Estimate:
    """The mean of values in [0, 1], such as the share of a row's seeds that are right, with Wilson's interval.

    Its trials are the effective ones. One seed and rows without groups have `n`; where there is no variance there are
    as many as groups.
    """
    trials = effective_trials(values, groups)
    return wilson_estimate(float(values.mean()) * trials, trials)


def loss_estimate(values: Floats, groups: Integers) -> Estimate:
    """The mean of losses, at least 0 and skewed to the right, `(n,)`: Student's interval of its logarithm, by the delta
    method."""
    margin, value = _margin(values, groups), float(values.mean())
    if not (margin > 0 and value > 0):
        return Estimate(value, None, None)
    factor = math.exp(margin / value)
    return Estimate(value, value / factor, value * factor)


def logit_estimate(value: float, influence: Floats, groups: Integers) -> Estimate:
    """A score in (0, 1) with Student's interval on its logit, by the delta method.

    `influence` is how much each row moves the score, `(n,)`: its mean has the variance of the score.
    """
    margin = _margin(influence, groups)
    if not (margin > 0 and 0 < value < 1):
        return Estimate(value, None, None)
    width, logit = margin / (value * (1 - value)), math.log(value / (1 - value))
    low, high = (1 / (1 + math.exp(-(logit + sign * width))) for sign in (-1, 1))
    return Estimate(value, low, high)


def _margin(values: Floats, groups: Integers) -> float:
    """Half the width of Student's 95% interval of the mean of values; 0 where nothing varies or there is one group."""
    # Imported here: of SciPy, it takes a tenth of a second.
    from scipy.special import stdtrit

    sums = sum_groups(values, groups)
    clusters = len(sums)
    if clusters < 2 or not np.ptp(values) > 1e-12:
        return 0.0
    variance = clusters / (clusters - 1) * float((sums**2).sum()) / len(values) ** 2
    return float(stdtrit(clusters - 1, 0.975)) * math.sqrt(variance)
