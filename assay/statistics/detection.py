"""How well a score finds the rows that are known to be wrong.

Legend: `n` rows.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

TOP_SHARES = {"1pct": 0.01, "5pct": 0.05, "10pct": 0.1}
"""A person reviews so much of the data: the rows that the score trusts least."""

CURVE_POINTS = 200


def grade_score(is_wrong: NDArray[np.bool_], quality: NDArray[np.float64]) -> dict[str, float]:
    """Average precision, AUROC, and precision and recall among the rows trusted least; no key where undefined.

    Args:
        is_wrong: the given label is not the reference label, shape `(n,)`.
        quality: low speaks for an error, shape `(n,)`.
    """
    if not is_wrong.any():
        return {}
    found: dict[str, float] = {"average_precision": float(average_precision_score(is_wrong, -quality))}
    if not is_wrong.all():
        found["auroc"] = float(roc_auc_score(is_wrong, -quality))
    order = np.argsort(quality, kind="stable")
    for name, share in TOP_SHARES.items():
        top = is_wrong[order[: max(1, round(share * len(order)))]]
        found[f"precision_at_{name}"] = float(top.mean())
        found[f"recall_at_{name}"] = float(top.sum() / is_wrong.sum())
    return found


def precision_recall_points(is_wrong: NDArray[np.bool_], quality: NDArray[np.float64]) -> pl.DataFrame:
    """`recall` and `precision` along the score, at most `CURVE_POINTS` of them; empty where no row is wrong."""
    if not is_wrong.any():
        return pl.DataFrame(schema={"recall": pl.Float64, "precision": pl.Float64})
    precision, recall, _ = precision_recall_curve(is_wrong, -quality)
    # Evenly spaced in recall: a curve over every threshold has as many points as the data has rows.
    places = np.unique(np.searchsorted(recall[::-1], np.linspace(0, 1, CURVE_POINTS)))
    return pl.DataFrame({"recall": recall[::-1][places], "precision": precision[::-1][places]})
