"""Texts as sets of character shingles (Broder 1997, "On the resemblance and containment of documents"), and the
true Jaccard similarity of two of them.

A text is compared without regard to case and to the punctuation of sentences: "Yay. Good phone!" and "YAY! good phone"
are one text, and in train and test a leak; "C++" and "C#" are two. Shingles are made for some texts at a time and not
kept. Every result is the same for any number of threads.

Legend: `n` texts, `s` shingles in all texts together, `p` pairs.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.core.row_batches import mapped_in_order

PERMUTATION_SEED = 1
"""Fixes the permutations. It decides only which pairs are looked at, never how similar they are."""
CHARACTERS_AT_A_TIME = 160_000
"""Their shingles and permutations fit in a processor's cache; about 2,000 short texts."""
PAIRS_AT_A_TIME = 2048
"""So that the number of one of their texts takes 12 bits, and 52 are left for the hash of a shingle."""
HASH_BITS = np.uint64(52)
PADDING = np.uint64(2**32 - 1)
"""Fills a text up to the size of a shingle; no character has this code."""

_BETWEEN_WORDS = (
    r"\s.,;:!?'\"()\[\]{}\-"
    # Dashes, curly quotes, ellipsis; guillemets; the marks of Spanish, of Chinese and Japanese.
    "\u2010-\u2015\u2018-\u201f\u2026\u00ab\u00bb\u00a1\u00bf\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f"
)
SENTENCE_PUNCTUATION = f"[[{_BETWEEN_WORDS}]--[ ]][{_BETWEEN_WORDS}]*| [{_BETWEEN_WORDS}]+"
"""A run of white space, and of what ends or parts sentences; symbols such as `+`, `#` and `%` are not among it.

Not a single space, which is most of them: each match that need not be replaced saves a third of a microsecond.
"""

Indices = NDArray[np.int64]
Hashes = NDArray[np.uint64]
T = TypeVar("T")


@dataclass(frozen=True)
class Documents:
    """`n` texts without nulls, as they are compared, and the characters of a shingle."""

    texts: pl.Series
    size: int

    @cached_property
    def lengths(self) -> Indices:
        """Bytes of each text, `(n,)`."""
        return count_bytes(self.texts)


@dataclass(frozen=True)
class Shingles:
    """The shingles of `n` texts, one text after the other, with repeats.

    Attributes:
        hashes: 64 well-mixed bits for each shingle, `(s,)`.
        offsets: where the shingles of each text start, and the end, `(n + 1,)`. Every text has one at least.
    """

    hashes: Hashes
    offsets: Indices


def normalise_texts(texts: pl.Series) -> pl.Series:
    """Texts as they are compared: in lower case, each run of white space and sentence punctuation one space.

    A text of nothing else, such as `:)`, keeps its punctuation.
    """

    def one_space(part: pl.Series) -> pl.Series:
        # Through upper case, so that ß is ss and every form of a Greek sigma is the same.
        lower = part.str.to_uppercase().str.to_lowercase()
        words = lower.str.replace_all(SENTENCE_PUNCTUATION, " ").str.strip_chars(" ")
        return words.zip_with(words != "", lower)

    spans = cut_spans(count_bytes(texts))
    parts = map_spans(lambda span: one_space(texts[span]), spans)
    return pl.concat([pl.Series([], dtype=pl.String), *parts])


def count_bytes(texts: pl.Series) -> Indices:
    """Bytes of each text, `(n,)`."""
    return texts.str.len_bytes().to_numpy().astype(np.int64)


def cut_shingles(texts: list[str], size: int) -> Shingles:
    """Cut `texts`, as they are, into shingles.

    A shingle is told from others by a multilinear hash of its characters; two different ones agree with a
    probability below 2 ** -42.
    """
    tokens = np.frombuffer("".join(texts).encode("utf-32-le"), dtype="<u4").astype(np.uint64)
    ends = np.cumsum(np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)))
    lengths = np.diff(ends, prepend=0)
    if (missing := np.maximum(size - lengths, 0)).any():
        tokens = np.insert(tokens, np.repeat(ends, missing), PADDING)
        lengths = np.maximum(lengths, size)
        ends = np.cumsum(lengths)

    factors = np.random.default_rng(PERMUTATION_SEED).integers(0, 2**64, size=size, dtype=np.uint64) | np.uint64(1)
    last = len(tokens) - size + 1
    hashes = tokens[:last] * factors[0]
    for place in range(1, size):
        hashes += tokens[place : place + last] * factors[place]
    is_whole = np.ones(len(tokens), dtype=np.bool_)
    for place in range(1, size):
        is_whole[ends - place] = False
    return Shingles(_mixed(hashes[is_whole[:last]]), np.concatenate([[0], np.cumsum(lengths - size + 1)]))


def compute_jaccard(of: Documents, left: Indices, right: Indices) -> NDArray[np.float64]:
    """True Jaccard similarity of the pairs of texts at `left` `(p,)` and `right` `(p,)`, `(p,)`."""
    spans = cut_spans(of.lengths[left] + of.lengths[right], PAIRS_AT_A_TIME)
    parts = map_spans(lambda span: _compared(of, left[span], right[span]), spans)
    return np.concatenate([np.zeros(0), *parts])


def _compared(of: Documents, left: Indices, right: Indices) -> NDArray[np.float64]:
    """`compute_jaccard` of at most `PAIRS_AT_A_TIME` pairs."""
    at, number = np.unique(np.concatenate([left, right]), return_inverse=True)
    cut = cut_shingles(of.texts.gather(at).to_list(), of.size)
    # Sorting puts the shingles of a text together, and equal ones side by side: faster than any table of hashes.
    keyed = _numbered(np.diff(cut.offsets)) | (cut.hashes >> (np.uint64(64) - HASH_BITS))
    keyed.sort()
    keyed = keyed[np.concatenate([[True], keyed[1:] != keyed[:-1]])]
    ends = np.searchsorted(keyed, np.arange(1, len(at), dtype=np.uint64) << HASH_BITS)
    starts = np.concatenate([[0], ends])
    sizes = np.diff(starts, append=len(keyed))

    # Once more for the two sets of each pair: what stands twice is in both.
    in_turn = np.stack([number[: len(left)], number[len(left) :]], axis=1).ravel()
    counts = sizes[in_turn]
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    members = keyed[np.repeat(starts[in_turn], counts) + within] & ((np.uint64(1) << HASH_BITS) - np.uint64(1))
    both = counts[::2] + counts[1::2]
    members |= _numbered(both)
    members.sort()
    twice = members[1:][members[1:] == members[:-1]]
    shared = np.bincount((twice >> HASH_BITS).astype(np.int64), minlength=len(left))
    similarities: NDArray[np.float64] = shared / (both - shared)
    return similarities


def _numbered(counts: Indices) -> Hashes:
    """For each thing, as often as it counts, its number in the bits above those of a hash."""
    return np.repeat(np.arange(len(counts), dtype=np.uint64) << HASH_BITS, counts)


def cut_spans(lengths: Indices, most: int | None = None) -> list[slice]:
    """Cut what has these lengths in characters into runs of some `CHARACTERS_AT_A_TIME`, and of `most` at most."""
    # Something for each text itself: even an empty one has a signature.
    total = np.cumsum(lengths + 32)
    marks = [np.flatnonzero(np.diff(total // CHARACTERS_AT_A_TIME)) + 1]
    if most:
        marks.append(np.arange(most, len(lengths), most))
    edges = np.unique(np.concatenate([*marks, [0], [len(lengths)]])).tolist()
    return [slice(start, stop) for start, stop in pairwise(edges)]


def map_spans(function: Callable[[slice], T], spans: Sequence[slice]) -> Iterable[T]:
    """What the function makes of each span, in order, on as many threads as Polars has where there is work for them."""
    return mapped_in_order(function, spans, pl.thread_pool_size()) if len(spans) > 1 else map(function, spans)


def _mixed(hashes: Hashes) -> Hashes:
    """Spread every bit over all of the word (splitmix64), in place."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        hashes ^= hashes >> np.uint64(shift)
        hashes *= np.uint64(factor)
    hashes ^= hashes >> np.uint64(31)
    return hashes
