"""MinHash signatures of texts, cut into bands: which pairs of texts may be similar enough to be compared.

Two texts that agree in one whole band are candidates (Leskovec, Rajaraman & Ullman, "Mining of Massive Datasets",
section 3.4). Of each text are kept a key for each band (8 bytes) and the last byte of each signature row, by which most
candidates that are far from the threshold are told apart cheaply.

Legend: `n` texts, `p` pairs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from assay.core.progress import progress
from assay.duplicates.shingles import (
    PAIRS_AT_A_TIME,
    PERMUTATION_SEED,
    Documents,
    Hashes,
    Indices,
    cut_shingles,
    cut_spans,
    map_spans,
)

RECALL_AT_THRESHOLD = 0.99
"""A pair exactly at the threshold becomes a candidate with at least this probability; a closer pair with more."""
MISSED_BY_ESTIMATE = 0.001
"""Share of the candidates exactly at the threshold whose whole signatures make them out to be too dissimilar."""


@dataclass(frozen=True)
class Signatures:
    """What is kept of the signatures of `n` texts.

    Attributes:
        keys: a hash of the signature rows of each band, `(bands, n)`.
        bytes_: the last byte of each signature row, `(n, bands * rows)`.
        fewest_equal: texts with fewer equal bytes are not compared.
    """

    keys: Hashes
    bytes_: NDArray[np.uint8]
    fewest_equal: int


def lsh_bands(permutations: int, min_jaccard: float) -> tuple[int, int]:
    """Number of bands and of signature rows in each: the longest rows that keep the recall.

    Two texts of similarity `j` share a band with probability `1 - (1 - j ** rows) ** bands`; the longer the rows, the
    fewer dissimilar pairs have to be looked at. 128 permutations at 0.8 give 21 bands of 6 rows, and 0.998.
    """
    for rows in range(permutations, 1, -1):
        bands = permutations // rows
        if 1 - (1 - min_jaccard**rows) ** bands >= RECALL_AT_THRESHOLD:
            return bands, rows
    return permutations, 1


def fewest_equal(rows: int, min_jaccard: float) -> int:
    """Equal rows that the signatures of two texts at the threshold have, but for `MISSED_BY_ESTIMATE` of such pairs.

    Of `rows` rows each is equal with a probability that is the similarity. 126 rows at 0.8 give 86.
    """
    at_most = bdtr(np.arange(rows + 1), rows, min_jaccard)
    return int(np.searchsorted(at_most, MISSED_BY_ESTIMATE, side="right"))


def sign_documents(of: Documents, permutations: int, min_jaccard: float) -> Signatures:
    """MinHash signatures of the texts, cut into bands.

    A permutation of the 32-bit numbers is the product with an odd one: the shingles are well mixed already.
    """
    bands, rows = lsh_bands(permutations, min_jaccard)
    draws = np.random.default_rng([PERMUTATION_SEED, 1])
    odd = draws.integers(0, 2**32, size=bands * rows, dtype=np.uint32) | np.uint32(1)
    factors = draws.integers(0, 2**64, size=rows, dtype=np.uint64) | np.uint64(1)
    keys = np.zeros((bands, len(of.texts)), dtype=np.uint64)
    bytes_ = np.empty((len(of.texts), bands * rows), dtype=np.uint8)

    def fill(span: slice) -> None:
        cut = cut_shingles(of.texts[span].to_list(), of.size)
        hashes = (cut.hashes >> np.uint64(32)).astype(np.uint32)
        permuted = np.empty_like(hashes)
        least = np.empty((bands * rows, span.stop - span.start), dtype=np.uint32)
        for row, multiplier in enumerate(odd):
            np.multiply(hashes, multiplier, out=permuted)
            np.minimum.reduceat(permuted, cut.offsets[:-1], out=least[row])
        for row, factor in enumerate(factors):
            keys[:, span] += least[row::rows] * factor
        bytes_[span] = least.T

    spans = cut_spans(of.lengths)
    for _ in progress(map_spans(fill, spans), "near-duplicate signatures", total=len(spans), unit="chunk"):
        pass
    return Signatures(keys, bytes_, fewest_equal(bands * rows, min_jaccard))


def share_a_band(
    keys: Hashes, left: Indices, right: Indices, is_cut: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Whether the texts of each pair agree in one of the bands `(bands, n)`, and in one that `is_cut` lets count."""
    share = np.zeros(len(left), dtype=np.bool_)
    for band, key in enumerate(keys):
        same = key[left] == key[right]
        share |= same if is_cut is None else same & ~is_cut[band, left]
    return share


def may_be_close(signed: Signatures, left: Indices, right: Indices) -> NDArray[np.bool_]:
    """Whether the whole signatures of each pair leave it possible that it reaches the threshold, `(p,)`."""
    may_be = np.empty(len(left), dtype=np.bool_)
    for start in range(0, len(left), PAIRS_AT_A_TIME):
        part = slice(start, start + PAIRS_AT_A_TIME)
        equal = signed.bytes_[left[part]] == signed.bytes_[right[part]]
        may_be[part] = equal.sum(axis=1, dtype=np.uint16) >= signed.fewest_equal
    return may_be
