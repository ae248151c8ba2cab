"""What Cleanlab's Datalab finds beside label errors: outliers, near-duplicates, imbalance, weak groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from cleanlab import Datalab
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from assay.embeddings.nearest import nearest_rows

if TYPE_CHECKING:
    import torch

ISSUES = ("outlier", "near_duplicate", "class_imbalance", "underperforming_group")

NEIGHBOURS = 10
"""What Datalab asks for by itself."""


@dataclass(frozen=True)
class DataIssues:
    """Which of `n` rows have an issue: `is_<issue>` and `<issue>_score` (0 to 1, low is bad); and how many have it.

    Where a check could not be made, its columns are null, and there is no count.
    """

    table: pl.DataFrame
    counts: dict[str, int]


def knn_graph(embeddings: NDArray[np.float32], device: torch.device) -> csr_matrix:
    """Cosine distance from each row to the `NEIGHBOURS` others that are closest to it, the closest first, exact.

    Datalab would search by itself, in several times the time. The embeddings are of length 1, shape `(n, d)`, and more
    than `NEIGHBOURS`; the graph is of shape `(n, n)`, with `NEIGHBOURS` values a row.
    """
    rows = len(embeddings)
    found = nearest_rows(embeddings, embeddings, np.arange(rows), NEIGHBOURS, device)
    distances = np.maximum(1 - found.cosine.astype(np.float64), 0)
    starts = np.arange(0, rows * NEIGHBOURS + 1, NEIGHBOURS)
    return csr_matrix((distances.ravel(), found.row.ravel(), starts), shape=(rows, rows))


def find_data_issues(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], embeddings: NDArray[np.float32], device: torch.device
) -> DataIssues:
    """Run Datalab, without its search for label errors, which has its own place.

    Labels are of shape `(n,)`, out-of-fold probabilities `(n, k)`, NaN for a row without, unit embeddings `(n, d)`.
    """
    names = [name for issue in ISSUES for name in (f"is_{issue}", f"{issue}_score")]
    schema = {name: pl.Boolean if name.startswith("is_") else pl.Float64 for name in names}
    known = ~np.isnan(probabilities[:, 0])
    present, codes = np.unique(labels[known], return_inverse=True)
    if len(present) < 2:
        return DataIssues(pl.DataFrame({name: [None] * len(labels) for name in names}, schema), {})
    shares = probabilities[known][:, present]
    lab = Datalab(data={"label": codes}, label_name="label", task="classification", verbosity=0)
    vectors = embeddings[known]
    has_neighbours = len(vectors) > NEIGHBOURS
    lab.find_issues(
        pred_probs=shares / shares.sum(axis=1, keepdims=True),
        features=None if has_neighbours else vectors,
        knn_graph=knn_graph(vectors, device) if has_neighbours else None,
        issue_types={issue: {} for issue in ISSUES},
    )
    found = lab.get_issues()
    columns: dict[str, object] = dict.fromkeys(names, [None] * len(labels))
    # A check that does not apply (too few rows for neighbours) leaves no column.
    made = [issue for issue in ISSUES if f"is_{issue}_issue" in found]
    for issue in made:
        flags, scores = np.zeros(len(labels), dtype=np.bool_), np.full(len(labels), np.nan)
        flags[known] = found[f"is_{issue}_issue"].to_numpy()
        scores[known] = found[f"{issue}_score"].to_numpy()
        columns |= {f"is_{issue}": flags, f"{issue}_score": scores}
    table = pl.DataFrame(columns, schema).with_columns(pl.col(pl.Float64).fill_nan(None))
    return DataIssues(table, {issue: int(table[f"is_{issue}"].sum() or 0) for issue in made})
