"""How varied a set of texts is, and how far its rows belong together: what the profile of the data is made of.

Figures of vocabulary fall as texts are added, since words come back; they are compared between sets of one size alone.
So they are taken over a sample of so many words, drawn by a keyed hash of the rows' ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy import stats

from assay.core.seeds import keyed_uniform
from assay.embeddings.nearest import nearest_rows

WORD = "[\\p{L}\\p{M}\\p{N}]+(?:['\u2019][\\p{L}\\p{M}]+)*"
"""Letters and figures, and what an apostrophe ties to them."""


@dataclass(frozen=True)
class Vocabulary:
    """Words of a set of texts, and how many different ones there are (`types`).

    `distinct` is distinct-1, -2, … (Li et al. 2016, https://aclanthology.org/N16-1014, section 5): different n-grams by
    all n-grams of a sample of `sample_words`; the first is its type-token ratio. Null where no text has as many words.
    """

    words: int
    types: int
    sample_words: int
    distinct: list[float | None]


@dataclass(frozen=True)
class Spread:
    """Centroid of embeddings, not of length 1, shape `(d,)`, and mean of 1 minus the cosine of two rows (null: one)."""

    centroid: NDArray[np.float64]
    pairwise_distance: float | None


def words_of(texts: pl.Series) -> pl.Series:
    """The words of each text in lower case, a list a row."""
    return texts.str.to_lowercase().str.extract_all(WORD)


def vocabulary(ids: pl.Series, words: pl.Series, sample_words: int, longest: int, seed: int) -> Vocabulary:
    """Count words, as `words_of` gives them, and distinct-1 to distinct-`longest` of a sample.

    A keyed draw by their ids puts the rows in order; the text that reaches `sample_words` is cut.
    """
    lengths = words.list.len()
    rows = pl.DataFrame({"words": words, "draw": keyed_uniform(ids, seed, "diversity", "sample"), "length": lengths})
    before = pl.col("length").cum_sum() - pl.col("length")
    sample = rows.sort("draw", maintain_order=True).filter(before < sample_words)
    left = (sample_words - before.cast(pl.Int64)).clip(lower_bound=0)
    cut = sample.select(pl.col("words").list.head(left))["words"]
    counted, types = int(lengths.sum()), words.explode().drop_nulls().n_unique()
    shares = [distinct(cut, n) for n in range(1, longest + 1)]
    return Vocabulary(counted, types, min(counted, sample_words), shares)


def distinct(words: pl.Series, n: int) -> float | None:
    """Different n-grams by all n-grams; none crosses from one text to the next."""
    one_a_row = pl.DataFrame({"word": words}).with_row_index("text").explode("word", empty_as_null=False)
    grams = one_a_row.select(
        pl.struct(pl.col("word").shift(-place).over("text").alias(str(place)) for place in range(n)).alias("gram"),
        (pl.col("word").is_not_null() & pl.col("word").shift(1 - n).over("text").is_not_null()).alias("is_whole"),
    ).filter("is_whole")["gram"]
    return grams.n_unique() / len(grams) if len(grams) else None


def normalised_entropy(counts: Sequence[int], labels: int) -> float | None:
    """Shannon entropy of how rows fall on labels, by that of equal shares: 1 where all have as many; null for one.

    `counts` are the rows by label; of all `labels`, those that are not among them have no row.
    """
    return float(stats.entropy(counts, base=labels)) if labels > 1 and any(counts) else None


def spread(embeddings: NDArray[np.float32]) -> Spread:
    """Spread of embeddings of length 1, shape `(n, d)`: the cosines of all pairs add up to the square of their sum."""
    rows = len(embeddings)
    total = embeddings.sum(axis=0, dtype=np.float64)
    squares = float(np.square(embeddings).sum(dtype=np.float64))
    cosines = (float(np.linalg.norm(total)) ** 2 - squares) / (rows * (rows - 1)) if rows > 1 else None
    return Spread(total / max(rows, 1), None if cosines is None else 1 - cosines)


def cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    """Cosine of two vectors, null where one is zero."""
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths else None


def neighbour_cosines(
    embeddings: NDArray[np.float32], reference: NDArray[np.int64], neighbours: int, device: torch.device
) -> NDArray[np.float32]:
    """Mean cosine of each row to the rows closest to it among the reference rows, itself excluded; shape `(n,)`.

    Embeddings have length 1, shape `(n, d)`. All are compared with the `reference` rows alone, shape `(r,)`, so that
    time grows with the rows and not with their square.
    """
    count = min(neighbours, len(reference) - 1)
    if count < 1:
        return np.full(len(embeddings), np.nan, dtype=np.float32)
    place = np.full(len(embeddings), -1)
    place[reference] = np.arange(len(reference))
    found = nearest_rows(embeddings, embeddings[reference], place, count, device)
    means: NDArray[np.float32] = torch.from_numpy(found.cosine).mean(dim=1).numpy()
    return means


def low_outliers(values: NDArray[np.float32], deviations: float) -> NDArray[np.bool_]:
    """Values, shape `(n,)`, by more than so many standard deviations below the median; NaN is no outlier.

    The standard deviation is taken robustly: from the median absolute deviation.
    """
    known = values[~np.isnan(values)].astype(np.float64)
    if not len(known):
        return np.zeros(len(values), dtype=np.bool_)
    deviation = stats.median_abs_deviation(known, scale="normal")
    return np.asarray(values < np.median(known) - deviations * deviation)
