"""The rows of a table whose embeddings are closest to those of others."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Neighbours:
    """The rows of a table closest to each of some others, the closest first; shape `(rows, neighbours)` each.

    `row` is -1 where there are no more.
    """

    row: NDArray[np.int64]
    cosine: NDArray[np.float32]


def find_nearest(
    queries: NDArray[np.float32], table: NDArray[np.float32], own: NDArray[np.int64], count: int
) -> Neighbours:
    """The rows of a table closest to each query by cosine, the query itself skipped.

    Args:
        queries: embeddings, shape `(rows, d)`.
        table: embeddings, shape `(n, d)`.
        own: the place of each query in the table, -1 where it is not there, shape `(rows,)`.
        count: how many; fewer where there are no more.
    """
    rows = np.full((len(queries), count), -1, dtype=np.int64)
    cosines = np.zeros((len(queries), count), dtype=np.float32)
    tiny = np.finfo(np.float32).tiny
    lengths = np.maximum(np.linalg.norm(table, axis=1), tiny)
    for number, vector in enumerate(queries):
        cosine = table @ vector / (lengths * max(float(np.linalg.norm(vector)), tiny))
        if own[number] >= 0:
            cosine[own[number]] = -np.inf
        closest = np.argsort(-cosine, kind="stable")[: min(count, len(table) - (own[number] >= 0))]
        rows[number, : len(closest)] = closest
        cosines[number, : len(closest)] = cosine[closest]
    return Neighbours(rows, cosines)
