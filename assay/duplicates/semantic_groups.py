"""Groups of rows whose embeddings point the same way: single linkage over all pairs, exact.

Time grows with the square of the rows, memory with the rows alone. An index of nearest neighbours would miss a few
pairs: here a pair missed is a test row that was trained on.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from assay.core.progress import progress
from assay.duplicates.components import join_groups

BLOCK_ROWS = 2048
"""A block of cosines takes 16 MiB; the pairs of one in which all are similar take 64 MiB more."""

SLACK = 1e-5
"""Cosines in float32 are off by less; those this close to the threshold are computed again in float64."""

CHECKED_PAIRS = 16_384
"""Pairs of embeddings in float64 at a time."""


@dataclass(frozen=True)
class SemanticGroups:
    """Which of `n` rows belong together, and by what.

    Attributes:
        first: the first row of each row's group, itself where it is alone, shape `(n,)`.
        nearest: for a row that is linked to another, the one closest to it; -1 for others, shape `(n,)`.
        cosine: to that row, NaN where there is none, shape `(n,)`.
        links: pairs with at least the threshold.
    """

    first: NDArray[np.int64]
    nearest: NDArray[np.int64]
    cosine: NDArray[np.float64]
    links: int


@torch.inference_mode()
def semantic_groups(embeddings: NDArray[np.float32], min_cosine: float, device: torch.device) -> SemanticGroups:
    """Link every pair of rows with a cosine of at least `min_cosine`; rows that a chain of links joins are one group.

    The embeddings are of length 1, shape `(n, d)`; the groups are the same on every device.
    """
    rows = len(embeddings)
    first = np.arange(rows)
    nearest = np.full(rows, -1)
    closest = np.full(rows, -np.inf, dtype=np.float32)
    links = 0
    vectors = torch.from_numpy(embeddings).to(device)
    starts = range(0, rows, BLOCK_ROWS)
    blocks = [(left, right) for left in starts for right in starts if left <= right]
    for left, right in progress(blocks, "semantic duplicates", total=len(blocks), unit="block"):
        cosines = vectors[left : left + BLOCK_ROWS] @ vectors[right : right + BLOCK_ROWS].T
        if left == right:
            # Each pair once, and no row with itself.
            cosines.masked_fill_(torch.ones_like(cosines, dtype=torch.bool).tril(), -torch.inf)
        found = (cosines >= min_cosine - SLACK).nonzero()
        if len(found) == 0:
            continue
        values = cosines[found[:, 0], found[:, 1]].cpu().numpy()
        one, other = (found.cpu().numpy() + np.array([left, right])).T
        close = values >= min_cosine + SLACK
        close[~close] = exact_cosines(embeddings, one[~close], other[~close]) >= min_cosine
        one, other, values = one[close], other[close], values[close]
        links += len(one)
        first = join_groups(first, one, other)
        ends, others, values = np.concatenate([one, other]), np.concatenate([other, one]), np.tile(values, 2)
        before = closest.copy()
        np.maximum.at(closest, ends, values)
        # Of equally close ones the first: those of earlier blocks come before those of this one.
        better = (values == closest[ends]) & (values > before[ends])
        nearest[ends[better]] = rows
        np.minimum.at(nearest, ends[better], others[better])
    linked = np.flatnonzero(nearest >= 0)
    cosine = np.full(rows, np.nan)
    cosine[linked] = exact_cosines(embeddings, linked, nearest[linked])
    return SemanticGroups(first, nearest, cosine, links)


def exact_cosines(
    embeddings: NDArray[np.float32], one: NDArray[np.int64], other: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Cosine of each pair of rows in float64, the same whatever the device and the number of threads; shape `(p,)`."""
    cosines = np.empty(len(one))
    for start in range(0, len(one), CHECKED_PAIRS):
        span = slice(start, start + CHECKED_PAIRS)
        pair = (embeddings[rows[span]].astype(np.float64) for rows in (one, other))
        cosines[span] = np.einsum("pd,pd->p", *pair)
    return cosines
