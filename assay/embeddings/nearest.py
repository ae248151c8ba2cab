"""Exact search of the closest vectors by cosine, block by block.

Legend: `n` vectors, `r` references, `d` dimensions. Vectors are of length 1.
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
            closest[rows], cosines[rows] = block.argmax(axis=1), block.max(axis=1)
    return cosines, closest


@dataclass(frozen=True)
class Neighbours:
    """The rows of a table closest to each of some vectors, the closest first; shape `(n, neighbours)` each.

    Where a row has fewer others, it comes last itself, with a cosine of minus infinity.
    """

    row: NDArray[np.int64]
    cosine: NDArray[np.float32]


def nearest_rows(
    vectors: NDArray[np.float32],
    references: NDArray[np.float32],
    own: NDArray[np.int64],
    count: int,
    device: torch.device,
) -> Neighbours:
    """The references `(r, d)` closest to each vector `(n, d)`, itself excluded.

    Args:
        own: the place of each vector among the references, -1 where it is none of them, shape `(n,)`.
        count: how many; all where there are fewer.
    """
    # Imported here: most who import this module need none of it.
    import torch

    shape = (len(vectors), min(count, len(references)))
    found = Neighbours(np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.float32))
    others = torch.from_numpy(references).to(device)
    starts = range(0, len(vectors), BLOCK_ROWS)
    for start in progress(starts, "neighbours", total=len(starts), unit="block"):
        block = slice(start, start + BLOCK_ROWS)
        cosines = torch.from_numpy(vectors[block]).to(device) @ others.T
        inside = np.flatnonzero(own[block] >= 0)
        cosines[inside, own[block][inside]] = -torch.inf
        closest, which = cosines.topk(shape[1], dim=1)
        found.cosine[block], found.row[block] = closest.cpu().numpy(), which.cpu().numpy()
    return found
