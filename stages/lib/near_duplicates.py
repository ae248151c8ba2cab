"""Near-duplicate texts: MinHash locality-sensitive hashing finds candidates, the true Jaccard similarity decides.

A text is its set of character shingles (Broder 1997, "On the resemblance and containment of documents") after case
folding and without the punctuation of sentences: "Yay. Good phone!" and "YAY! good phone" are one text, and in train
and test a leak; "C++" and "C#" are two. Signatures are cut into bands, and two texts that agree in one whole band are
candidates (Leskovec, Rajaraman & Ullman, "Mining of Massive Datasets", section 3.4). Every candidate pair is then
compared set against set, so the hashing can miss a pair (see `lsh_bands`) but never invents one.

Legend: `n` texts, `s` shingles in all texts together, `p` pairs.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rensa import RMinHash

RECALL_AT_THRESHOLD = 0.99
"""A pair exactly at the threshold becomes a candidate with at least this probability; a closer pair with more."""

PERMUTATION_SEED = 1
"""Fixes the permutations. It decides only which pairs are looked at, never how alike they are."""

SIGNATURE_ROWS_AT_A_TIME = 20_000
PAIRS_AT_A_TIME = 100_000

SENTENCE_PUNCTUATION = (
    r"[\s.,;:!?'\"()\[\]{}\-"
    # Dashes, curly quotes, ellipsis; guillemets; the marks of Spanish, of Chinese and Japanese.
    "\u2010-\u2015\u2018-\u201f\u2026\u00ab\u00bb\u00a1\u00bf\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f]+"
)
"""White space, and what ends or parts sentences. Symbols such as `+`, `#` and `%` are not among it."""

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class NearMatches:
    """The closest reference of each query, among the candidates that the hashing gives.

    Attributes:
        jaccard: true Jaccard similarity to it, 0 where there is no candidate, shape `(queries,)`.
        index: its position among the references (the first of equally close ones), -1 where there is no candidate,
            shape `(queries,)`.
    """

    jaccard: NDArray[np.float64]
    index: Indices


@dataclass(frozen=True)
class ShingleSets:
    """The shingle sets of `n` texts, one after the other.

    Attributes:
        shingles: hash of each distinct shingle, `(distinct,)`.
        members: for each text in turn, its shingles in ascending order, as positions in `shingles`, `(s,)`.
        keys: position of the text times the number of distinct shingles, plus `members`: ascending, `(s,)`.
        offsets: where each text's members start, and the end, `(n + 1,)`.
    """

    shingles: NDArray[np.uint64]
    members: Indices
    keys: Indices
    offsets: Indices


def near_duplicate_groups(
    texts: pl.Series, *, shingle_characters: int, permutations: int, min_jaccard: float
) -> Indices:
    """Group texts that are linked by a chain of pairs with a Jaccard similarity of at least `min_jaccard`.

    Args:
        texts: strings without nulls, shape `(n,)`. A text shorter than a shingle is one shingle.
        shingle_characters: characters of a shingle.
        permutations: length of a MinHash signature.
        min_jaccard: similarity from which two texts are near duplicates, in (0, 1].

    Returns:
        For each text the position of the first text of its group (its own, where it has no near duplicate), `(n,)`.
    """
    distinct, first, inverse = _distinct(texts)
    sets = shingle_sets(distinct, shingle_characters)
    bands = _band_keys(sets, permutations, min_jaccard)
    groups = _linked(sets, bands, min_jaccard)
    return first[groups][inverse]


def near_matches(
    queries: pl.Series, references: pl.Series, *, shingle_characters: int, permutations: int, min_jaccard: float
) -> NearMatches:
    """Find the closest reference of each query.

    Args:
        queries: strings without nulls, shape `(queries,)`.
        references: strings without nulls, shape `(references,)`.
        shingle_characters: characters of a shingle.
        permutations: length of a MinHash signature.
        min_jaccard: references at least this close are found (see `lsh_bands`); one further away may be.
    """
    distinct_queries, _, query_of = _distinct(queries)
    distinct_references, reference_at, _ = _distinct(references)
    count = len(distinct_queries)
    sets = shingle_sets(distinct_queries + distinct_references, shingle_characters)
    keys = _band_keys(sets, permutations, min_jaccard)

    jaccard = np.zeros(count)
    index = np.full(count, -1, dtype=np.int64)
    for band in range(keys.shape[1]):
        left, right = _matching(keys[:count, band], keys[count:, band])
        for start in range(0, len(left), PAIRS_AT_A_TIME):
            pair_queries = left[start : start + PAIRS_AT_A_TIME]
            pair_references = right[start : start + PAIRS_AT_A_TIME]
            similarity = jaccard_similarities(sets, pair_queries, pair_references + count)
            at = reference_at[pair_references]
            # The closest pair of each query comes first, the earlier reference first among equals.
            order = np.lexsort((at, -similarity, pair_queries))
            chosen = order[np.unique(pair_queries[order], return_index=True)[1]]
            query = pair_queries[chosen]
            better = (similarity[chosen] > jaccard[query]) | (
                (similarity[chosen] == jaccard[query]) & (similarity[chosen] > 0) & (at[chosen] < index[query])
            )
            jaccard[query[better]] = similarity[chosen][better]
            index[query[better]] = at[chosen][better]
    return NearMatches(jaccard[query_of], index[query_of])


def lsh_bands(permutations: int, min_jaccard: float) -> tuple[int, int]:
    """Number of bands and of signature rows in each: the longest rows that keep the recall.

    Two texts of similarity `j` share a band with probability `1 - (1 - j ** rows) ** bands`; the longer the rows, the
    fewer unlike pairs have to be looked at. 128 permutations at 0.8 give 21 bands of 6 rows, and 0.998.
    """
    for rows in range(permutations, 1, -1):
        bands = permutations // rows
        if 1 - (1 - min_jaccard**rows) ** bands >= RECALL_AT_THRESHOLD:
            return bands, rows
    return permutations, 1


def shingle_sets(texts: list[str], shingle_characters: int) -> ShingleSets:
    """Cut `texts`, as they are, into the sets of their character shingles.

    Shingles are compared by a 64-bit multilinear hash of their characters; two different ones agree with a
    probability below 2 ** -42.
    """
    padded = [text.ljust(shingle_characters, "\0") for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le"), dtype="<u4").astype(np.uint64)
    lengths = np.fromiter((len(text) for text in padded), dtype=np.int64, count=len(padded))
    counts = lengths - shingle_characters + 1
    text_of = np.repeat(np.arange(len(padded)), counts)
    within = np.arange(len(text_of)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = np.repeat(np.cumsum(lengths) - lengths, counts) + within

    factors = np.random.default_rng(PERMUTATION_SEED).integers(0, 2**64, size=shingle_characters, dtype=np.uint64)
    hashes = np.zeros(len(starts), dtype=np.uint64)
    for position, factor in enumerate(factors | np.uint64(1)):
        hashes += factor * codes[starts + position]
    shingles, shingle_of = np.unique(_mixed(hashes), return_inverse=True)
    # Sorting is several times faster than the hash table of `np.unique`.
    keys = np.sort(text_of * len(shingles) + shingle_of)
    keys = keys[np.diff(keys, prepend=-1) > 0]
    offsets = np.searchsorted(keys, np.arange(len(padded) + 1) * len(shingles))
    return ShingleSets(shingles, keys % max(len(shingles), 1), keys, offsets.astype(np.int64))


def jaccard_similarities(sets: ShingleSets, left: Indices, right: Indices) -> NDArray[np.float64]:
    """True Jaccard similarity of each pair of texts, from positions `(p,)` and `(p,)` to `(p,)`."""
    sizes = np.diff(sets.offsets)
    # Look the members of the smaller set up in the larger one.
    swap = sizes[left] > sizes[right]
    small, large = np.where(swap, right, left), np.where(swap, left, right)
    counts = sizes[small]
    pair_of = np.repeat(np.arange(len(small)), counts)
    within = np.arange(len(pair_of)) - np.repeat(np.cumsum(counts) - counts, counts)
    wanted = large[pair_of] * len(sets.shingles) + sets.members[sets.offsets[small][pair_of] + within]
    found = np.searchsorted(sets.keys, wanted)
    hit = (found < len(sets.keys)) & (sets.keys[np.minimum(found, len(sets.keys) - 1)] == wanted)
    shared = np.bincount(pair_of[hit], minlength=len(small))
    similarities: NDArray[np.float64] = shared / (sizes[left] + sizes[right] - shared)
    return similarities


def normalised(texts: pl.Series) -> pl.Series:
    """Texts as they are compared: case folded, each run of white space and sentence punctuation one space.

    A text of nothing else, such as `:)`, stays as it is.
    """
    folded = pl.Series([text.casefold() for text in texts], dtype=pl.String)
    words = folded.str.replace_all(SENTENCE_PUNCTUATION, " ").str.strip_chars()
    return words.zip_with(words != "", folded)


def _distinct(texts: pl.Series) -> tuple[list[str], Indices, Indices]:
    """The distinct normalised texts in order, the position where each stands first, and which of them each text is."""
    number: dict[str, int] = {}
    inverse = np.fromiter(
        (number.setdefault(text, len(number)) for text in normalised(texts)), dtype=np.int64, count=len(texts)
    )
    first = np.unique(inverse, return_index=True)[1].astype(np.int64)
    return list(number), first, inverse


def _mixed(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread every bit over all of the word (splitmix64), as the MinHash permutations expect."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def _band_keys(sets: ShingleSets, permutations: int, min_jaccard: float) -> NDArray[np.uint64]:
    """A hash of each text's signature rows in each band, `(n, bands)`."""
    bands, rows = lsh_bands(permutations, min_jaccard)
    factors = np.random.default_rng([PERMUTATION_SEED, 1]).integers(0, 2**64, size=rows, dtype=np.uint64)
    count = len(sets.offsets) - 1
    keys = np.empty((count, bands), dtype=np.uint64)
    for start in range(0, count, SIGNATURE_ROWS_AT_A_TIME):
        stop = min(start + SIGNATURE_ROWS_AT_A_TIME, count)
        offsets = sets.offsets[start : stop + 1]
        tokens = sets.shingles[sets.members[offsets[0] : offsets[-1]]]
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            tokens, (offsets - offsets[0]).astype(np.uint64), permutations, PERMUTATION_SEED
        )
        signatures = np.array(matrix.to_rows(), dtype=np.uint64)[:, : bands * rows]
        banded = signatures.reshape(stop - start, bands, rows)
        keys[start:stop] = _mixed((banded * (factors | np.uint64(1))).sum(axis=2, dtype=np.uint64))
    return keys


def _linked(sets: ShingleSets, keys: NDArray[np.uint64], min_jaccard: float) -> Indices:
    """Smallest text position of each text's group, `(n,)`.

    The members of a bucket are compared at growing distance, first each with the next, and a pair that is already in
    one group is not compared. So a bucket of ten thousand copies of one template costs ten thousand comparisons and
    not fifty million.
    """
    root = np.arange(len(keys))
    members, ends = _buckets(keys)
    at = np.arange(len(members))
    distance = 1
    while True:
        # A place in a bucket stays while the bucket has a member at this distance from it.
        at = at[at + distance < ends[at]]
        if not len(at):
            return root
        left, right = members[at], members[at + distance]
        apart = root[left] != root[right]
        pairs = np.unique(np.stack([left[apart], right[apart]], axis=1), axis=0)
        close = [
            part[jaccard_similarities(sets, part[:, 0], part[:, 1]) >= min_jaccard]
            for part in np.array_split(pairs, max(1, -(-len(pairs) // PAIRS_AT_A_TIME)))
        ]
        root = _joined(root, np.concatenate(close))
        at = at[_undecided(root, members, ends)[at]]
        distance += 1


def _buckets(keys: NDArray[np.uint64]) -> tuple[Indices, Indices]:
    """Texts of every bucket of every band in ascending order, and for each place the end of its bucket."""
    all_members, all_ends, base = [], [], 0
    for band in range(keys.shape[1]):
        order = np.argsort(keys[:, band], kind="stable")
        ordered = keys[order, band]
        edges = np.flatnonzero(np.diff(ordered)) + 1
        sizes = np.diff(np.concatenate([[0], edges, [len(ordered)]]))
        shared = np.repeat(sizes > 1, sizes)
        sizes = sizes[sizes > 1]
        all_members.append(order[shared])
        all_ends.append(base + np.repeat(np.cumsum(sizes), sizes))
        base += int(shared.sum())
    return np.concatenate(all_members), np.concatenate(all_ends)


def _undecided(root: Indices, members: Indices, ends: Indices) -> NDArray[np.bool_]:
    """Whether the bucket of each place still has members of more than one group."""
    if not len(members):
        return np.zeros(0, dtype=np.bool_)
    roots = root[members]
    starts = np.concatenate([[0], np.unique(ends)[:-1]])
    mixed = np.minimum.reduceat(roots, starts) != np.maximum.reduceat(roots, starts)
    return np.repeat(mixed, np.diff(np.append(starts, len(members))))


def _joined(root: Indices, pairs: Indices) -> Indices:
    """Union-find: join the groups of each pair; the smallest position stands for the group."""
    root = root.copy()
    for left, right in pairs.tolist():
        while root[left] != left:
            left = root[left]
        while root[right] != right:
            right = root[right]
        root[max(left, right)] = min(left, right)
    while not np.array_equal(flat := root[root], root):
        root = flat
    return root


def _matching(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> tuple[Indices, Indices]:
    """All pairs of positions whose keys are equal."""
    order = np.argsort(right, kind="stable")
    ordered = right[order]
    start, stop = np.searchsorted(ordered, left, "left"), np.searchsorted(ordered, left, "right")
    counts = stop - start
    pair_left = np.repeat(np.arange(len(left)), counts)
    within = np.arange(len(pair_left)) - np.repeat(np.cumsum(counts) - counts, counts)
    return pair_left, order[np.repeat(start, counts) + within]
