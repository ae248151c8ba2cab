"""Near-duplicate texts: MinHash locality-sensitive hashing finds candidates, the true Jaccard similarity decides.

A text is its set of character or word shingles (Broder 1997, "On the resemblance and containment of documents"),
without regard to case and to the punctuation of sentences: "Yay. Good phone!" and "YAY! good phone" are one text, and
in train and test a leak; "C++" and "C#" are two. Signatures are cut into bands, and two texts that agree in one whole
band are candidates (Leskovec, Rajaraman & Ullman, "Mining of Massive Datasets", section 3.4). Every candidate pair is
then compared set against set, so the hashing can miss a pair (see `lsh_bands`) but never invents one.

Of each text are kept the text as it is compared, a key for each band (8 bytes) and the last byte of each signature row,
by which most candidates that are far from the threshold are told apart cheaply. Shingles are made for some texts at a
time: once for the signatures, where repeats do no harm since the least of them counts, and again for candidate pairs.
Every result is the same for any number of threads.

Legend: `n` texts, `s` shingles in all texts together, `p` pairs.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from assay.core.progress import progress
from assay.core.row_batches import mapped_in_order
from assay.duplicates.components import join_groups

RECALL_AT_THRESHOLD = 0.99
"""A pair exactly at the threshold becomes a candidate with at least this probability; a closer pair with more."""

MISSED_BY_ESTIMATE = 0.001
"""Share of the candidates exactly at the threshold that their whole signatures make out to be too unlike to compare."""

PERMUTATION_SEED = 1
"""Fixes the permutations. It decides only which pairs are looked at, never how alike they are."""

MAX_DISTANCE = 16
"""In a bucket, a text is compared with this many of those after it, unless one group holds them all before that."""
NEXT_BANDS = 4
"""The members of a larger bucket are put in order by their keys in this many other bands."""

CHARACTERS_AT_A_TIME = 160_000
"""Their shingles and permutations fit in a processor's cache; about 2,000 short texts."""

PAIRS_AT_A_TIME = 2048
"""So that the number of one of their texts takes 12 bits, and 52 are left for the hash of a shingle."""
HASH_BITS = np.uint64(52)

PADDING = np.uint64(2**32 - 1)
"""Fills a text up to the size of a shingle; no character has this code."""

MATCHES_AT_A_TIME = 100_000

SILENT_TEXTS = 20_000
"""Fewer texts are done before a report of the progress is of use."""

_BETWEEN_WORDS = (
    r"\s.,;:!?'\"()\[\]{}\-"
    # Dashes, curly quotes, ellipsis; guillemets; the marks of Spanish, of Chinese and Japanese.
    "\u2010-\u2015\u2018-\u201f\u2026\u00ab\u00bb\u00a1\u00bf\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f"
)
SENTENCE_PUNCTUATION = f"[[{_BETWEEN_WORDS}]--[ ]][{_BETWEEN_WORDS}]*| [{_BETWEEN_WORDS}]+"
"""A run of white space, and of what ends or parts sentences; symbols such as `+`, `#` and `%` are not among it.

Not a single space, which is most of them: each match that need not be replaced saves a third of a microsecond.
"""

ShingleUnit = Literal["character", "word"]
Indices = NDArray[np.int64]
Hashes = NDArray[np.uint64]

T = TypeVar("T")


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
class Documents:
    """`n` texts, as they are compared, and how they are cut into shingles.

    Attributes:
        texts: strings without nulls, `(n,)`.
        unit: what a shingle is made of.
        size: characters or words of a shingle.
        lengths: bytes of each text, `(n,)`.
    """

    texts: pl.Series
    unit: ShingleUnit
    size: int
    lengths: Indices


@dataclass(frozen=True)
class Shingles:
    """The shingles of `n` texts, one text after the other, with repeats.

    Attributes:
        hashes: 64 well-mixed bits for each shingle, `(s,)`.
        offsets: where the shingles of each text start, and the end, `(n + 1,)`. Every text has one at least.
    """

    hashes: Hashes
    offsets: Indices


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


def near_duplicate_groups(
    texts: pl.Series, *, shingle_unit: ShingleUnit, shingle_size: int, permutations: int, min_jaccard: float
) -> Indices:
    """Group texts that are linked by a chain of pairs with a Jaccard similarity of at least `min_jaccard`.

    Args:
        texts: strings without nulls, shape `(n,)`. A text shorter than a shingle is one shingle.
        shingle_unit: what a shingle is made of; words are what stands between white space.
        shingle_size: characters or words of a shingle.
        permutations: length of a MinHash signature.
        min_jaccard: similarity from which two texts are near duplicates, in (0, 1].

    Returns:
        For each text the position of the first text of its group (its own, where it has no near duplicate), `(n,)`.
    """
    compared = normalised(texts)
    first, number = _distinct(compared)
    distinct = documents(compared.gather(first), shingle_unit, shingle_size)
    signed = _signatures(distinct, permutations, min_jaccard)
    return first[_linked(distinct, signed, min_jaccard)][number]


def near_matches(
    queries: pl.Series,
    references: pl.Series,
    *,
    shingle_unit: ShingleUnit,
    shingle_size: int,
    permutations: int,
    min_jaccard: float,
) -> NearMatches:
    """Find the closest reference of each query.

    Args:
        queries: strings without nulls, shape `(queries,)`.
        references: strings without nulls, shape `(references,)`.
        shingle_unit: what a shingle is made of; words are what stands between white space.
        shingle_size: characters or words of a shingle.
        permutations: length of a MinHash signature.
        min_jaccard: references at least this close are found (see `lsh_bands`); one further away may be.
    """
    compared_queries, compared_references = normalised(queries), normalised(references)
    query_at, query_number = _distinct(compared_queries)
    reference_at, _ = _distinct(compared_references)
    texts = pl.concat([compared_queries.gather(query_at), compared_references.gather(reference_at)])
    distinct = documents(texts, shingle_unit, shingle_size)
    signed = _signatures(distinct, permutations, min_jaccard)
    keys = signed.keys

    count = len(query_at)
    jaccard = np.zeros(count)
    index = np.full(count, -1, dtype=np.int64)
    for band in _reported(range(len(keys)), "near matches", len(keys), "band", len(texts)):
        for left, right in _matching(keys[band, :count], keys[band, count:]):
            new = ~_share_a_band(keys[:band], left, right + count)
            query, reference = left[new], right[new]
            close = _may_be_close(signed, query, reference + count)
            query, reference = query[close], reference[close]
            similarity = jaccard_similarities(distinct, query, reference + count)
            at = reference_at[reference]
            # The closest pair of each query comes first, the earlier reference first among equals.
            order = np.lexsort((at, -similarity, query))
            chosen = order[np.unique(query[order], return_index=True)[1]]
            query, similarity, at = query[chosen], similarity[chosen], at[chosen]
            better = (similarity > jaccard[query]) | (
                (similarity == jaccard[query]) & (similarity > 0) & (at < index[query])
            )
            jaccard[query[better]] = similarity[better]
            index[query[better]] = at[better]
    return NearMatches(jaccard[query_number], index[query_number])


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


def fewest_equal(rows: int, min_jaccard: float) -> int:
    """Equal rows that the signatures of two texts at the threshold have, but for `MISSED_BY_ESTIMATE` of such pairs.

    Of `rows` rows each is equal with a probability that is the similarity. 126 rows at 0.8 give 86.
    """
    if min_jaccard == 1:
        return rows
    missed = 0.0
    for equal in range(rows):
        ways = math.lgamma(rows + 1) - math.lgamma(equal + 1) - math.lgamma(rows - equal + 1)
        missed += math.exp(ways + equal * math.log(min_jaccard) + (rows - equal) * math.log1p(-min_jaccard))
        if missed > MISSED_BY_ESTIMATE:
            return equal
    return rows


def normalised(texts: pl.Series) -> pl.Series:
    """Texts as they are compared: in lower case, each run of white space and sentence punctuation one space.

    A text of nothing else, such as `:)`, keeps its punctuation.
    """

    def one_space(part: pl.Series) -> pl.Series:
        # Through upper case, so that ß is ss and every form of a Greek sigma is the same.
        lower = part.str.to_uppercase().str.to_lowercase()
        words = lower.str.replace_all(SENTENCE_PUNCTUATION, " ").str.strip_chars(" ")
        return words.zip_with(words != "", lower)

    spans = _spans(texts.str.len_bytes().to_numpy().astype(np.int64))
    parts = _in_threads(lambda span: one_space(texts[span]), spans)
    return pl.concat([pl.Series([], dtype=pl.String), *parts])


def documents(texts: pl.Series, unit: ShingleUnit, size: int) -> Documents:
    """Texts, as they are, to be cut into shingles."""
    return Documents(texts, unit, size, texts.str.len_bytes().to_numpy().astype(np.int64))


def shingles(texts: list[str], unit: ShingleUnit, size: int) -> Shingles:
    """Cut `texts`, as they are, into shingles.

    A shingle is told from others by a multilinear hash of its characters or words; two different ones agree with a
    probability below 2 ** -42.
    """
    codes = np.frombuffer("".join(texts).encode("utf-32-le"), dtype="<u4").astype(np.uint64)
    ends = np.cumsum(np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)))
    tokens, ends = (codes, ends) if unit == "character" else _word_hashes(codes, ends)
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


def jaccard_similarities(of: Documents, left: Indices, right: Indices) -> NDArray[np.float64]:
    """True Jaccard similarity of the pairs of texts at `left` `(p,)` and `right` `(p,)`, `(p,)`."""
    spans = _spans(of.lengths[left] + of.lengths[right], PAIRS_AT_A_TIME)
    parts = _in_threads(lambda span: _compared(of, left[span], right[span]), spans)
    return np.concatenate([np.zeros(0), *parts])


def _compared(of: Documents, left: Indices, right: Indices) -> NDArray[np.float64]:
    """`jaccard_similarities` of at most `PAIRS_AT_A_TIME` pairs."""
    at, number = np.unique(np.concatenate([left, right]), return_inverse=True)
    cut = shingles(of.texts.gather(at).to_list(), of.unit, of.size)
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


def _distinct(texts: pl.Series) -> tuple[Indices, Indices]:
    """The positions where each distinct text stands first, in order, and for each text which of them it is."""
    rows = pl.DataFrame({"text": texts}).with_row_index("position")
    first = rows.select(pl.col("position").min().over("text")).to_series().to_numpy()
    is_first = first == np.arange(len(first))
    return np.flatnonzero(is_first), (np.cumsum(is_first) - 1)[first]


def _spans(lengths: Indices, most: int | None = None) -> list[slice]:
    """Cut what has these lengths in characters into runs of some `CHARACTERS_AT_A_TIME`, and of `most` at most."""
    # Something for each text itself: even an empty one has a signature.
    total = np.cumsum(lengths + 32)
    marks = [np.flatnonzero(np.diff(total // CHARACTERS_AT_A_TIME)) + 1]
    if most:
        marks.append(np.arange(most, len(lengths), most))
    edges = np.unique(np.concatenate([*marks, [0], [len(lengths)]])).tolist()
    return [slice(start, stop) for start, stop in pairwise(edges)]


def _in_threads(function: Callable[[slice], T], spans: Sequence[slice]) -> Iterable[T]:
    """What the function makes of each span, in order, on as many threads as Polars has where there is work for them."""
    return mapped_in_order(function, spans, pl.thread_pool_size()) if len(spans) > 1 else map(function, spans)


def _reported(items: Iterable[T], what: str, total: int, unit: str, texts: int) -> Iterable[T]:
    """`items`, with a report of how far the work is where there are many texts."""
    return progress(items, what, total, unit) if texts >= SILENT_TEXTS else items


def _word_hashes(codes: Hashes, ends: Indices) -> tuple[Hashes, Indices]:
    """Hash each word of texts that are given as characters; likewise where the words of each text end."""
    is_letter = codes > ord(" ")
    is_start = is_letter.copy()
    is_start[1:] &= ~is_letter[:-1]
    begins = np.concatenate([[0], ends[:-1]])
    begins = begins[begins < len(codes)]
    is_start[begins] = is_letter[begins]
    words = np.concatenate([[0], np.cumsum(is_start)])
    if not words[-1]:
        return np.zeros(0, dtype=np.uint64), words[ends]

    letters = np.flatnonzero(is_letter)
    starts = np.flatnonzero(is_start[letters])
    place = np.arange(len(letters)) - np.repeat(starts, np.diff(starts, append=len(letters)))
    hashes = np.add.reduceat(_mixed((place.astype(np.uint64) << np.uint64(32)) | codes[letters]), starts)
    return hashes, words[ends]


def _mixed(hashes: Hashes) -> Hashes:
    """Spread every bit over all of the word (splitmix64), in place."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        hashes ^= hashes >> np.uint64(shift)
        hashes *= np.uint64(factor)
    hashes ^= hashes >> np.uint64(31)
    return hashes


def _signatures(of: Documents, permutations: int, min_jaccard: float) -> Signatures:
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
        cut = shingles(of.texts[span].to_list(), of.unit, of.size)
        hashes = (cut.hashes >> np.uint64(32)).astype(np.uint32)
        permuted = np.empty_like(hashes)
        least = np.empty((bands * rows, span.stop - span.start), dtype=np.uint32)
        for row, multiplier in enumerate(odd):
            np.multiply(hashes, multiplier, out=permuted)
            np.minimum.reduceat(permuted, cut.offsets[:-1], out=least[row])
        for row, factor in enumerate(factors):
            keys[:, span] += least[row::rows] * factor
        bytes_[span] = least.T

    spans = _spans(of.lengths)
    for _ in _reported(_in_threads(fill, spans), "near-duplicate signatures", len(spans), "chunk", len(of.texts)):
        pass
    return Signatures(keys, bytes_, fewest_equal(bands * rows, min_jaccard))


def _linked(of: Documents, signed: Signatures, min_jaccard: float) -> Indices:
    """Smallest text position of each text's group, `(n,)`.

    The members of a bucket are compared at growing distance, first each with the next, and a pair that is already in
    one group is not compared. So a bucket of ten thousand copies of one template costs ten thousand comparisons and
    not fifty million. Ten thousand texts that share a band and yet are too unlike to be grouped cost `MAX_DISTANCE`
    comparisons each; those that agree in the bands to come as well stand side by side, and are compared first.
    """
    keys = signed.keys
    root = np.arange(keys.shape[1])
    is_cut = np.zeros(keys.shape, dtype=np.bool_)
    # Sorting the next bands goes on while the texts of one are compared.
    sorted_ = mapped_in_order(partial(_buckets, keys), range(len(keys)), pl.thread_pool_size())
    for band, (members, bucket) in enumerate(_reported(sorted_, "near-duplicate bands", len(keys), "band", len(root))):
        for distance in range(1, MAX_DISTANCE + 2):
            undecided = _undecided(root[members], bucket, distance)
            members, bucket = members[undecided], bucket[undecided]
            if not len(members) or distance > MAX_DISTANCE:
                break
            pair = np.flatnonzero(bucket[:-distance] == bucket[distance:])
            left, right = members[pair], members[pair + distance]
            apart = root[left] != root[right]
            left, right = left[apart], right[apart]
            new = ~_share_a_band(keys[:band], left, right, is_cut)
            left, right = left[new], right[new]
            may_be = _may_be_close(signed, left, right)
            left, right = left[may_be], right[may_be]
            close = jaccard_similarities(of, left, right) >= min_jaccard
            root = join_groups(root, left[close], right[close])
        is_cut[band, members] = True
    return root


def _buckets(keys: Hashes, band: int) -> tuple[Indices, Indices]:
    """Texts that share their key in a band with others, bucket by bucket, and the number of the bucket of each.

    In a bucket too large to compare all its members they are in the order of their keys in the next bands.
    """
    order = np.argsort(keys[band])
    ordered = keys[band, order]
    bucket = np.cumsum(np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)])
    sizes = np.bincount(bucket)[bucket]
    is_shared = sizes > 1
    members, bucket, sizes = order[is_shared], bucket[is_shared], sizes[is_shared]
    # Only now, on the few: a stable sort of all keys takes several times longer.
    members = members[np.lexsort((members, bucket))]
    large = np.flatnonzero(sizes > MAX_DISTANCE)
    of_large = members[large]
    nearby = [keys[(band + step) % len(keys), of_large] for step in range(NEXT_BANDS, 0, -1)]
    members[large] = of_large[np.lexsort((*nearby, bucket[large]))]
    return members, bucket


def _undecided(roots: Indices, bucket: Indices, distance: int) -> NDArray[np.bool_]:
    """Whether the bucket of each member has members of more than one group, and some at this distance."""
    if not len(bucket):
        return np.zeros(0, dtype=np.bool_)
    starts = np.flatnonzero(np.diff(bucket, prepend=bucket[0] - 1))
    sizes = np.diff(starts, append=len(bucket))
    mixed = np.minimum.reduceat(roots, starts) != np.maximum.reduceat(roots, starts)
    return np.repeat(mixed & (sizes > distance), sizes)


def _share_a_band(
    keys: Hashes, left: Indices, right: Indices, is_cut: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Whether the texts of each pair agree in one of the bands `(bands, n)`, and in one that `is_cut` lets count."""
    share = np.zeros(len(left), dtype=np.bool_)
    for band, key in enumerate(keys):
        same = key[left] == key[right]
        share |= same if is_cut is None else same & ~is_cut[band, left]
    return share


def _may_be_close(signed: Signatures, left: Indices, right: Indices) -> NDArray[np.bool_]:
    """Whether the whole signatures of each pair leave it possible that it reaches the threshold, `(p,)`."""
    may_be = np.empty(len(left), dtype=np.bool_)
    for start in range(0, len(left), PAIRS_AT_A_TIME):
        part = slice(start, start + PAIRS_AT_A_TIME)
        equal = signed.bytes_[left[part]] == signed.bytes_[right[part]]
        may_be[part] = equal.sum(axis=1, dtype=np.uint16) >= signed.fewest_equal
    return may_be


def _matching(left: Hashes, right: Hashes) -> Iterator[tuple[Indices, Indices]]:
    """All pairs of positions whose keys are equal, some at a time; all those of one position on the left together."""
    order = np.argsort(right, kind="stable")
    ordered = right[order]
    start, stop = np.searchsorted(ordered, left, "left"), np.searchsorted(ordered, left, "right")
    matched = np.flatnonzero(stop > start)
    ends = np.cumsum((stop - start)[matched])
    for part in np.split(matched, np.flatnonzero(np.diff(ends // MATCHES_AT_A_TIME)) + 1):
        counts = (stop - start)[part]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        yield np.repeat(part, counts), order[np.repeat(start[part], counts) + within]
