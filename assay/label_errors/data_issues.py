"""What Cleanlab's Datalab says of the rows beside their labels: outliers, near-duplicates, imbalance, weak groups."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from cleanlab import Datalab
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

ISSUES = ("outlier", "near_duplicate", "class_imbalance", "underperforming_group")

NEIGHBOURS = 10
"""What Datalab asks for by itself."""

BLOCK_ROWS = 512
"""Cosines are held for so many rows against all: 200 MB at 100,000 rows."""


@dataclass(frozen=True)
class DataIssues:
    """Issues of `n` rows.

    Attributes:
        table: `is_<issue>` and `<issue>_score` (0 to 1, low is bad) for each of `ISSUES`, `n` rows.
        counts: rows with each issue.
    """

    table: pl.DataFrame
    counts: dict[str, int]


@torch.inference_mode()
def nearest_rows(embeddings: NDArray[np.float32], neighbours: int, device: torch.device) -> csr_matrix:
    """Cosine distance from each row to the others that are closest to it, the closest first, exact.

    Datalab would search by itself, in several times the time.

    Args:
        embeddings: of length 1, shape `(n, d)`, more rows than `neighbours`.
        neighbours: how many of each row.
        device: where the products are computed.

    Returns:
        Shape `(n, n)`, with `neighbours` values a row.
    """
    rows = len(embeddings)
    vectors = torch.from_numpy(embeddings).to(device)
    distances = np.empty((rows, neighbours), dtype=np.float64)
    nearest = np.empty((rows, neighbours), dtype=np.int64)
    for start in range(0, rows, BLOCK_ROWS):
        block = slice(start, min(start + BLOCK_ROWS, rows))
        cosines = vectors[block] @ vectors.T
        # No row is its own neighbour.
        cosines[torch.arange(block.stop - start), torch.arange(start, block.stop)] = -torch.inf
        closest, which = cosines.topk(neighbours, dim=1)
        distances[block] = (1 - closest.double()).clamp(min=0).cpu().numpy()
        nearest[block] = which.cpu().numpy()
    starts = np.arange(0, rows * neighbours + 1, neighbours)
    return csr_matrix((distances.ravel(), nearest.ravel(), starts), shape=(rows, rows))


def data_issues(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    embeddings: NDArray[np.float32],
    device: torch.device,
) -> DataIssues:
    """Run Datalab, without its search for label errors, which has its own place.

    Args:
        labels: shape `(n,)`.
        probabilities: out of fold, all NaN for a row that was not judged, shape `(n, k)`.
        embeddings: of length 1, shape `(n, d)`.
        device: where neighbours are searched.
    """
    names = [name for issue in ISSUES for name in (f"is_{issue}", f"{issue}_score")]
    schema = {name: pl.Boolean if name.startswith("is_") else pl.Float64 for name in names}
    judged = ~np.isnan(probabilities[:, 0])
    present, codes = np.unique(labels[judged], return_inverse=True)
    if len(present) < 2:
        return DataIssues(pl.DataFrame({name: [None] * len(labels) for name in names}, schema), {})
    shares = probabilities[judged][:, present]
    lab = Datalab(data={"label": codes}, label_name="label", task="classification", verbosity=0)
    vectors = embeddings[judged]
    has_neighbours = len(vectors) > NEIGHBOURS
    lab.find_issues(
        pred_probs=shares / shares.sum(axis=1, keepdims=True),
        features=None if has_neighbours else vectors,
        knn_graph=nearest_rows(vectors, NEIGHBOURS, device) if has_neighbours else None,
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
