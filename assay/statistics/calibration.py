"""How far a confidence is from the share of rows that are right (Guo et al. 2017, equation 3).

Bins are of equal width over the confidence, which lies between `lowest` and 1.

Legend: `n` rows, `b` bootstrap samples.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def confidence_bins(confidence: Floats, bins: int, lowest: float = 0.0) -> NDArray[np.int64]:
    """The bin of each row, from 0, shape `(n,)`."""
    return np.minimum(((confidence - lowest) / (1 - lowest) * bins).astype(np.int64), bins - 1)


def calibration_errors(confidence: Floats, correct: Floats, counts: Floats, bins: int, lowest: float = 0.0) -> Floats:
    """Expected calibration error under each set of counts, shape `(b,)`.

    The gap between mean confidence and accuracy in a bin is weighted by the rows in it. `correct` is 1 where the row is
    right, 0.5 at a tie, shape `(n,)`; `counts` how often each row counts, shape `(n, b)`.
    """
    gaps = np.zeros((len(confidence), bins))
    gaps[np.arange(len(confidence)), confidence_bins(confidence, bins, lowest)] = confidence - correct
    errors: Floats = np.abs(counts.T @ gaps).sum(axis=1) / counts.sum(axis=0)
    return errors


def reliability_table(confidence: Floats, correct: Floats, bins: int, lowest: float = 0.0) -> pl.DataFrame:
    """Of each bin with rows `confidence`, `accuracy` (means) and `rows`, for a reliability diagram."""
    bin_of = confidence_bins(confidence, bins, lowest)
    table = pl.DataFrame({"bin": bin_of, "confidence": confidence, "accuracy": correct})
    of_bins = table.group_by("bin").agg(pl.col("confidence").mean(), pl.col("accuracy").mean(), rows=pl.len())
    return of_bins.sort("bin").drop("bin")
