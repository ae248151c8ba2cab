"""Near-duplicate texts: MinHash locality-sensitive hashing finds candidates, the true Jaccard similarity decides.

Texts that share a band of their signatures (`signatures.py`) are compared set of shingles against set of shingles
(`shingles.py`); so the hashing can miss a pair (see `lsh_bands`) but never invents one. Every result is the same for
any number of threads.

Legend: `n` texts, `p` pairs.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from assay.core.params import Params
from assay.core.progress import progress
from assay.core.row_batches import mapped_in_order
from assay.duplicates.components import first_equal, join_groups
from assay.duplicates.shingles import Documents, Hashes, Indices, compute_jaccard, normalise_texts
from assay.duplicates.signatures import Signatures, may_be_close, share_a_band, sign_documents

MAX_DISTANCE = 16
"""In a bucket, a text is compared with this many of those after it, unless one group holds them all before that."""
NEXT_BANDS = 4
"""The members of a larger bucket are put in order by their keys in this many other bands."""
MATCHES_AT_A_TIME = 100_000


class NearDuplicateParams(Params):
    """The block `clean.near_duplicates` of `params.yaml`.

    Attributes:
        shingle_size: characters of a shingle; a text shorter than that is one shingle.
        permutations: length of a MinHash signature.
        min_jaccard: similarity from which two texts are near-duplicates.
    """

    shingle_size: int = Field(ge=1, le=100)
    permutations: int = Field(ge=16, le=4096)
    min_jaccard: float = Field(gt=0, le=1)


IDENTICAL = NearDuplicateParams(shingle_size=5, permutations=128, min_jaccard=1.0)
"""How texts are compared where `clean.near_duplicates` is null and another stage has a threshold of its own."""


def near_duplicate_groups(texts: pl.Series, params: NearDuplicateParams | None) -> Indices:
    """Group texts (no nulls) that are linked by a chain of pairs with a Jaccard similarity of at least `min_jaccard`.

    Without params, those that are the same once normalised. For each text the position of the first text of its group
    (its own, where it has no near-duplicate), shape `(n,)`.
    """
    compared = normalise_texts(texts)
    first, number = _distinct(compared)
    if params is None:
        return first[number]
    distinct = Documents(compared.gather(first), params.shingle_size)
    signed = sign_documents(distinct, params.permutations, params.min_jaccard)
    return first[_linked(distinct, signed, params.min_jaccard)][number]


def near_matches(queries: pl.Series, references: pl.Series, params: NearDuplicateParams) -> pl.DataFrame:
    """Find the closest reference of each query, texts without nulls, among the candidates that the hashing gives.

    References at least as close as `min_jaccard` are found (see `lsh_bands`); one further away may be. For each query,
    `jaccard` is the true similarity, 0 where there is none; `index` the position among the references (the first of
    equally close ones), -1 where there is none.
    """
    compared_queries, compared_references = normalise_texts(queries), normalise_texts(references)
    query_at, query_number = _distinct(compared_queries)
    reference_at, _ = _distinct(compared_references)
    texts = pl.concat([compared_queries.gather(query_at), compared_references.gather(reference_at)])
    distinct = Documents(texts, params.shingle_size)
    signed = sign_documents(distinct, params.permutations, params.min_jaccard)
    keys = signed.keys

    count = len(query_at)
    # Of each query the closest so far; at first one that is not similar at all.
    best = pl.DataFrame({"query": np.arange(count), "jaccard": np.zeros(count), "index": np.full(count, -1)})
    for band in progress(range(len(keys)), "near matches", total=len(keys), unit="band"):
        for left, right in _matching(keys[band, :count], keys[band, count:]):
            new = ~share_a_band(keys[:band], left, right + count)
            query, reference = left[new], right[new]
            close = may_be_close(signed, query, reference + count)
            query, reference = query[close], reference[close]
            similarity = compute_jaccard(distinct, query, reference + count)
            found = pl.DataFrame({"query": query, "jaccard": similarity, "index": reference_at[reference]})
            ordered = pl.concat([best, found]).sort("query", -pl.col("jaccard"), "index")
            best = ordered.unique("query", keep="first", maintain_order=True)
    return best.select("jaccard", "index")[query_number]


def _distinct(texts: pl.Series) -> tuple[Indices, Indices]:
    """The positions where each distinct text stands first, in order, and for each text which of them it is."""
    first = first_equal(pl.DataFrame({"text": texts}), "text")
    is_first = first == np.arange(len(first))
    return np.flatnonzero(is_first), (np.cumsum(is_first) - 1)[first]


def _linked(of: Documents, signed: Signatures, min_jaccard: float) -> Indices:
    """Smallest text position of each text's group, `(n,)`.

    The members of a bucket are compared at growing distance, first each with the next, and a pair that is already in
    one group is not compared. So a bucket of ten thousand copies of one template costs ten thousand comparisons and
    not fifty million. Ten thousand texts that share a band and yet are too dissimilar to be grouped cost `MAX_DISTANCE`
    comparisons each; those that agree in the bands to come as well stand side by side, and are compared first.
    """
    keys = signed.keys
    root = np.arange(keys.shape[1])
    is_cut = np.zeros(keys.shape, dtype=np.bool_)
    # Sorting the next bands goes on while the texts of one are compared.
    sorted_ = mapped_in_order(partial(_buckets, keys), range(len(keys)), pl.thread_pool_size())
    reported = progress(sorted_, "near-duplicate bands", total=len(keys), unit="band")
    for band, (members, bucket) in enumerate(reported):
        for distance in range(1, MAX_DISTANCE + 2):
            undecided = _undecided(root[members], bucket, distance)
            members, bucket = members[undecided], bucket[undecided]
            if not len(members) or distance > MAX_DISTANCE:
                break
            pair = np.flatnonzero(bucket[:-distance] == bucket[distance:])
            left, right = members[pair], members[pair + distance]
            apart = root[left] != root[right]
            left, right = left[apart], right[apart]
            new = ~share_a_band(keys[:band], left, right, is_cut)
            left, right = left[new], right[new]
            may_be = may_be_close(signed, left, right)
            left, right = left[may_be], right[may_be]
            close = compute_jaccard(of, left, right) >= min_jaccard
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
