"""The inverse power law of a learning curve, fitted and extrapolated with a 90% band.

error(n) = c + a·n^(-b) of a model trained on n rows (Cortes et al. 1993; Figueroa et al. 2012; Hestness et al. 2017):
c >= 0 is what no number of rows removes; a may come out below 0, or no curve could be found to be flat.

Legend: `s` sizes, `d` draws of train rows, `t` targets, that is sizes to extrapolate to, `m` samples.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from assay.statistics.intervals import Floats

EXPONENTS = np.geomspace(0.05, 2.0, 60)
"""Values of b that are tried; those found in practice are 0.07 to 1 (Hestness et al. 2017)."""
LEAST_VARIANCE = 1e-8
"""Of an error: a hundredth of a percentage point, so that curves without any noise can be fitted too."""


@dataclass(frozen=True)
class Extrapolation:
    """What more rows would do.

    Attributes:
        law: c, a and b, with the largest size as the unit of n.
        deviations: standard deviation of each point of the curve, by train and scored rows, shape `(s,)`.
        errors: at the targets by the law, and the two ends of the band, shape `(3, t)`.
        gains: how much lower they are than at the largest size; likewise.
    """

    law: Floats
    deviations: Floats
    errors: Floats
    gains: Floats


def fit_power_laws(sizes: Floats, errors: Floats, whitening: Floats) -> tuple[Floats, Floats]:
    """c, a and b of each curve `(m, s)` by generalised least squares, `(3, m)`, and weighted sums of squares, `(m,)`.

    For a given b, c and a are linear, so only b is searched (Golub & Pereyra 1973). `whitening` times errors `(s,)` has
    unit covariance.
    """
    targets, best, laws = errors @ whitening.T, np.full(len(errors), np.inf), np.empty((3, len(errors)))
    for b in EXPONENTS:
        design = whitening @ np.stack([np.ones_like(sizes), sizes**-b], axis=1)
        found = targets @ np.linalg.pinv(design).T
        below = found[:, 0] < 0
        found[below] = np.outer(targets[below] @ design[:, 1] / (design[:, 1] @ design[:, 1]), [0, 1])
        loss = ((targets - found @ design.T) ** 2).sum(axis=1)
        better = loss < best
        best[better] = loss[better]
        laws[:, better] = np.vstack([found[better].T, np.full(better.sum(), b)])
    return laws, best


def draw_covariance(sizes: Floats, targets: Floats, errors: Floats) -> Floats:
    """Covariance by train rows of the mean errors of the draws, then of errors at the targets, `(s + t, s + t)`.

    To first order an error is a mean over its train rows: of variance v/n, and of covariance v/(the larger n) where the
    smaller set is part of the larger. All draws are of the same N rows, which are part of any larger target too: so
    draws `(d, s)` vary by v(1/n - 1/N), and by a constant for the seed where models of the same rows differ.
    """
    count, total, between = len(sizes), sizes[-1], errors.var(axis=0, ddof=1)
    differ = float(between[-1] > LEAST_VARIANCE)
    v, by_seed = nnls(np.stack([1 - sizes / total, differ * sizes], axis=1), between * sizes)[0]
    every = np.concatenate([sizes, targets])
    covariance = v / np.maximum.outer(every, every)
    covariance[:count] = v / np.maximum(total, every)
    covariance[:, :count] = covariance[:count].T
    covariance[:count, :count] += v * (1 / np.maximum.outer(sizes, sizes) - 1 / total) / len(errors)
    seed = np.repeat([by_seed / len(errors), by_seed], [count, len(targets)])
    return np.asarray(covariance + np.diag(seed + LEAST_VARIANCE))


def extrapolate(
    sizes: Floats, errors: Floats, scored: Floats, targets: Floats, samples: int, random: np.random.Generator
) -> Extrapolation:
    """Fit the law to the mean of the draws `(d, s)` at rising sizes and extrapolate it, by a parametric bootstrap.

    A sample takes noise of train and scored rows off the curve, refits, and adds noise of train rows at the target: the
    band is where one such set of rows comes out, not their mean alone. Noise of train rows is multiplied by what points
    scatter about the law beyond it, and by a draw of how uncertain its own estimate is. `scored` is the covariance of
    the mean errors by scored rows, `(s, s)`.
    """
    count, unit, mean = len(sizes), sizes[-1], errors.mean(axis=0)
    covariance = draw_covariance(sizes, targets, errors)
    whole = covariance[:count, :count] + scored
    whitening = np.linalg.inv(np.linalg.cholesky(whole))
    law, loss = fit_power_laws(sizes / unit, mean[None], whitening)
    freedom = (len(errors) - 1) * (count - 1)
    scale = np.sqrt(max(1.0, loss[0] / max(1, count - 3)) * freedom / random.chisquare(freedom, samples))
    noise = scale[:, None] * random.multivariate_normal(np.zeros(len(covariance)), covariance, samples)
    curves = mean - noise[:, :count] - random.multivariate_normal(np.zeros(count), scored, samples)
    laws = np.hstack([law, fit_power_laws(sizes / unit, curves, whitening)[0]])[:, :, None]
    # The law itself comes first, without noise.
    noise = np.vstack([np.zeros(len(covariance)), noise])
    at = np.clip(laws[0] + laws[1] * (targets / unit) ** -laws[2] + noise[:, count:], 0, 1)
    gains = laws[0] + laws[1] + noise[:, [count - 1]] - at
    of_law, of_gain = (np.vstack([one[:1], np.quantile(one[1:], [0.05, 0.95], axis=0)]) for one in (at, gains))
    return Extrapolation(law[:, 0], np.sqrt(np.diag(whole)), of_law, of_gain)
