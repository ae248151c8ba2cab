"""What Cleanlab's Datalab says of the rows beside their labels: outliers, near-duplicates, imbalance, weak groups."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from cleanlab import Datalab
from numpy.typing import NDArray

ISSUES = ("outlier", "near_duplicate", "class_imbalance", "underperforming_group")


@dataclass(frozen=True)
class DataIssues:
    """Issues of `n` rows.

    Attributes:
        table: `is_<issue>` and `<issue>_score` (0 to 1, low is bad) for each of `ISSUES`, `n` rows.
        counts: rows with each issue.
    """

    table: pl.DataFrame
    counts: dict[str, int]


def data_issues(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], embeddings: NDArray[np.float32]
) -> DataIssues:
    """Run Datalab, without its search for label errors, which has its own place.

    Args:
        labels: shape `(n,)`.
        probabilities: out of fold, all NaN for a row that was not judged, shape `(n, k)`.
        embeddings: of length 1, shape `(n, d)`.
    """
    names = [name for issue in ISSUES for name in (f"is_{issue}", f"{issue}_score")]
    schema = {name: pl.Boolean if name.startswith("is_") else pl.Float64 for name in names}
    judged = ~np.isnan(probabilities[:, 0])
    present, codes = np.unique(labels[judged], return_inverse=True)
    if len(present) < 2:
        return DataIssues(pl.DataFrame({name: [None] * len(labels) for name in names}, schema), {})
    shares = probabilities[judged][:, present]
    lab = Datalab(data={"label": codes}, label_name="label", task="classification", verbosity=0)
    lab.find_issues(
        pred_probs=shares / shares.sum(axis=1, keepdims=True),
        features=embeddings[judged],
        issue_types={issue: {} for issue in ISSUES},
    )
    found = lab.get_issues()
    columns: dict[str, object] = {}
    for issue in ISSUES:
        # A check that does not apply (too few rows for neighbours) leaves no column.
        if f"is_{issue}_issue" not in found:
            columns |= {f"is_{issue}": [None] * len(labels), f"{issue}_score": [None] * len(labels)}
            continue
        flags = np.zeros(len(labels), dtype=np.bool_)
        scores = np.full(len(labels), np.nan)
        flags[judged] = found[f"is_{issue}_issue"].to_numpy()
        scores[judged] = found[f"{issue}_score"].to_numpy()
        columns |= {f"is_{issue}": flags, f"{issue}_score": scores}
    table = pl.DataFrame(columns, schema).with_columns(pl.col(pl.Float64).fill_nan(None))
    return DataIssues(table, {issue: int(table[f"is_{issue}"].sum() or 0) for issue in ISSUES})
