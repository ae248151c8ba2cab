"""Exact search of the closest vectors by cosine, block by block.

Legend: `n` vectors, `r` references, `d` dimensions. Vectors are of length 1, but for `find_nearest`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from assay.core.progress import progress

if TYPE_CHECKING:
    import torch

BLOCK_ROWS = 2048


def cosine_blocks(
    vectors: NDArray[np.float32], references: NDArray[np.float32], block_rows: int
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """The rows of each block of vectors, and their cosines to all references, shape `(block, r)`."""
    for start in range(0, len(vectors), block_rows):
        rows = slice(start, min(start + block_rows, len(vectors)))
        yield rows, vectors[rows] @ references.T


def nearest_reference(
    vectors: NDArray[np.float32], references: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """For each vector the closest reference: the cosine, and its number; -1 and 0 where there is none; shape `(n,)`."""
    cosines, closest = np.full(len(vectors), -1.0), np.zeros(len(vectors), dtype=np.int64)
    if len(references):
        for rows, block in cosine_blocks(vectors, references, BLOCK_ROWS):
            best = block.argmax(axis=1)
            closest[rows] = best
            cosines[rows] = block[np.arange(len(best)), best]
    return cosines, closest


@dataclass(frozen=True)
class Neighbours:
    """The rows of a table closest to each of some vectors, the closest first; shape `(n, neighbours)` each.

    `row` is -1 where there are no more.
    """

    row: NDArray[np.int64]
    cosine: NDArray[np.float32]


def nearest_rows(
    vectors: NDArray[np.float32],
    references: NDArray[np.float32],
    own: NDArray[np.int64],
    count: int,
    device: torch.device,
    block_rows: int = BLOCK_ROWS,
) -> Neighbours:
    """The references `(r, d)` closest to each vector `(n, d)`, itself excluded.

    Args:
        own: the place of each vector among the references, -1 where it is none of them, shape `(n,)`.
        count: how many, fewer than there are references.
    """
    # Imported here: most who import this module need none of it.
    import torch

    shape = (len(vectors), count)
    found = Neighbours(np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.float32))
    others = torch.from_numpy(references).to(device)
    starts = range(0, len(vectors), block_rows)
    for start in progress(starts, "neighbours", total=len(starts), unit="block"):
        block = slice(start, start + block_rows)
        cosines = torch.from_numpy(vectors[block]).to(device) @ others.T
        inside = np.flatnonzero(own[block] >= 0)
        cosines[inside, own[block][inside]] = -torch.inf
        closest, which = cosines.topk(count, dim=1)
        found.cosine[block], found.row[block] = closest.cpu().numpy(), which.cpu().numpy()
    return found


def find_nearest(
    queries: NDArray[np.float32], table: NDArray[np.float32], own: NDArray[np.int64], count: int
) -> Neighbours:
    """The rows of a table `(r, d)` closest to each query `(n, d)` by cosine, the query itself skipped.

    Arguments as of `nearest_rows`, but `count` may be more than there are; the vectors are of any length.
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
