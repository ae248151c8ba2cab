"""How well a score finds the rows that are known to be wrong."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from assay.statistics.bootstrap import item_counts
from assay.statistics.intervals import Floats, Z
from assay.statistics.metrics_dict import Estimate

TOP_SHARES = {"1pct": 0.01, "5pct": 0.05, "10pct": 0.1}
"""A person reviews so much of the data: the rows that the score trusts least."""

CURVE_POINTS = 200
MIN_WRONG_ROWS = 100
"""Average precision has no interval with fewer: with 10 and 36 in 200 rows, one of 95% covers 92% to 99%."""
SAMPLES = 1000


def grade_score(is_wrong: NDArray[np.bool_], quality: NDArray[np.float64]) -> dict[str, float]:
    """Average precision, AUROC, and precision and recall among the rows trusted least; no key where undefined.

    Low `quality` speaks for an error; shape `(n,)` each.
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


def grade_random(is_wrong: NDArray[np.bool_]) -> dict[str, float]:
    """What `grade_score` gives for a random order, in expectation (average precision: Bestgen 2015), shape `(n,)`."""
    n, wrong = len(is_wrong), int(is_wrong.sum())
    first = float((1 / np.arange(1, n + 1)).mean())
    found = {"average_precision": first + (wrong - 1) / max(1, n - 1) * (1 - first), "auroc": 0.5}
    for name, share in TOP_SHARES.items():
        found |= {f"precision_at_{name}": wrong / n, f"recall_at_{name}": max(1, round(share * n)) / n}
    return found


def weighted_average_precision(is_wrong: NDArray[np.bool_], quality: Floats, counts: Floats) -> Floats:
    """Average precision under each of `b` sets of counts, `(n, b)`: shape `(b,)`; low `quality` speaks for an error."""
    order = np.argsort(quality, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(quality[order])), len(order) - 1)
    ordered = counts[order]
    rows, wrong = (np.cumsum(one, axis=0)[ends] for one in (ordered, ordered * is_wrong[order][:, None]))
    gained = np.diff(wrong, axis=0, prepend=0)
    found: Floats = (gained * wrong / np.maximum(rows, 1)).sum(axis=0) / np.maximum(wrong[-1], 1)
    return found


def estimate_average_precision(
    is_wrong: NDArray[np.bool_],
    qualities: Mapping[str, Floats],
    pairs: Sequence[tuple[str, str]],
    groups: NDArray[np.int64],
    random: np.random.Generator,
) -> dict[str, Estimate]:
    """Average precision by each quality, and `<one>_minus_<other>` of each pair, with 95% intervals.

    An interval is normal, on the logit scale but for differences, with the standard deviation of a bootstrap over
    groups, drawn whole. By simulation (`make test-slow`) it covers 93% to 97% from `MIN_WRONG_ROWS` on, percentiles of
    the bootstrap 90% to 95%; of fewer there is none. Everything by row is of shape `(n,)`.
    """
    _, group_of = np.unique(groups, return_inverse=True)
    samples = SAMPLES if is_wrong.sum() >= MIN_WRONG_ROWS else 0
    drawn = (counts[group_of] for counts in item_counts(int(group_of.max()) + 1, samples, random))
    parts = [
        {name: weighted_average_precision(is_wrong, quality, counts) for name, quality in qualities.items()}
        for counts in (np.ones((len(is_wrong), 1)), *drawn)
    ]
    found = {name: np.concatenate([part[name] for part in parts]) for name in qualities}
    estimates = {name: _normal_estimate(one, is_share=True) for name, one in found.items()}
    for one, other in pairs:
        estimates[f"{one}_minus_{other}"] = _normal_estimate(found[one] - found[other], is_share=False)
    return estimates


def _normal_estimate(samples: Floats, *, is_share: bool) -> Estimate:
    """A figure with its values in bootstrap samples, `(1 + b,)`; an interval if they differ and none is 0 or 1."""
    with np.errstate(invalid="ignore"):
        scaled = logit(samples) if is_share else samples
        spread = scaled[1:].std(ddof=1) if len(samples) > 2 else 0.0
    if not 1e-12 < spread < np.inf:
        return Estimate(float(samples[0]), None, None)
    ends = scaled[0] + Z * spread * np.array([-1.0, 1.0])
    return Estimate(float(samples[0]), *(expit(ends) if is_share else ends).tolist())


def precision_recall_points(is_wrong: NDArray[np.bool_], quality: NDArray[np.float64]) -> pl.DataFrame:
    """`recall` and `precision` along the score, at most `CURVE_POINTS` of them; empty where no row is wrong."""
    if not is_wrong.any():
        return pl.DataFrame(schema={"recall": pl.Float64, "precision": pl.Float64})
    precision, recall, _ = precision_recall_curve(is_wrong, -quality)
    # Evenly spaced in recall: a curve over every threshold has as many points as the data has rows.
    places = np.unique(np.searchsorted(recall[::-1], np.linspace(0, 1, CURVE_POINTS)))
    return pl.DataFrame({"recall": recall[::-1][places], "precision": precision[::-1][places]})
