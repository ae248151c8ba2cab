import math

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from scipy.stats import entropy

from assay.corpus_statistics import (
    cosine,
    distinct,
    low_outliers,
    neighbour_cosines,
    normalised_entropy,
    spread,
    vocabulary,
    words_of,
)

CPU = torch.device("cpu")


def random_rows(rows: int, dimensions: int = 8) -> NDArray[np.float32]:
    vectors = np.random.default_rng(5).normal(size=(rows, dimensions)) + 0.5
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / lengths, dtype=np.float32)


def words(*texts: str) -> pl.Series:
    return words_of(pl.Series("text", texts, dtype=pl.String))


def test_words_are_letters_and_figures_in_lower_case() -> None:
    assert words("Don't PANIC, it\u2019s 42!", "naïve – Ünïcode", "<3 :)", "").to_list() == [
        ["don't", "panic", "it\u2019s", "42"],
        ["naïve", "ünïcode"],
        ["3"],
        [],
    ]


def test_distinct_n_of_a_worked_example() -> None:
    texts = words("a b a b", "a b", "c")
    # a b a b a b c: 3 of 7 words; ab ba ab ab: 2 of 4 pairs; aba bab: 2 of 2. None crosses to the next text.
    assert [distinct(texts, n) for n in (1, 2, 3, 4, 5)] == [3 / 7, 0.5, 1.0, 1.0, None]
    assert distinct(words("", ""), 1) is None


def test_the_sample_has_so_many_words_and_does_not_depend_on_the_order_of_rows() -> None:
    texts = words(*(f"w{number} common x{number % 7}" for number in range(100)))
    ids = pl.Series("id", [f"r{number}" for number in range(100)])
    found = vocabulary(ids, texts, 100, 3, 1)
    assert (found.words, found.types, found.sample_words) == (300, 108, 100)
    # 33 texts and the first word of the next: 34 + 1 + 7 types.
    assert found.distinct[0] == 42 / 100
    assert vocabulary(ids.reverse(), texts.reverse(), 100, 3, 1) == found
    everything = vocabulary(ids, texts, 1000, 2, 1)
    assert everything.sample_words == 300
    # Of the pairs, 100 end in "common", and 7 begin with it.
    assert everything.distinct == [108 / 300, 107 / 200]


def test_a_set_without_words_has_no_distinct_n() -> None:
    found = vocabulary(pl.Series("id", ["a"]), words(":)"), 10, 2, 1)
    assert (found.words, found.types, found.sample_words, found.distinct) == (0, 0, 0, [None, None])


def test_entropy_is_that_of_scipy_by_that_of_equal_shares() -> None:
    assert normalised_entropy([5, 5, 5], 3) == pytest.approx(1)
    assert normalised_entropy([6, 3, 1], 3) == pytest.approx(entropy([6, 3, 1], base=3))
    # A label that this source does not have at all counts as missing.
    assert normalised_entropy([5, 5], 3) == pytest.approx(math.log(2) / math.log(3))
    assert normalised_entropy([7], 1) is None
    assert normalised_entropy([], 3) is None


def test_spread_is_that_of_all_pairs() -> None:
    rows = random_rows(50)
    found = spread(rows)
    assert found.pairwise_distance == pytest.approx(pdist(rows, "cosine").mean(), abs=1e-6)
    np.testing.assert_allclose(found.centroid, rows.mean(axis=0, dtype=np.float64))
    assert spread(random_rows(0)).pairwise_distance is spread(random_rows(1)).pairwise_distance is None


def test_cosine_of_a_zero_vector_is_undefined() -> None:
    assert cosine(np.array([3.0, 0.0]), np.array([1.0, 1.0])) == pytest.approx(math.sqrt(0.5))
    assert cosine(np.zeros(2), np.ones(2)) is None


def test_a_row_is_compared_with_the_closest_reference_rows_but_not_with_itself() -> None:
    rows = random_rows(3000)
    reference = np.arange(0, 3000, 30)
    found = neighbour_cosines(rows, reference, 3, CPU)
    cosines = rows @ rows[reference].T
    cosines[reference, np.arange(len(reference))] = -np.inf
    np.testing.assert_allclose(found, np.sort(cosines, axis=1)[:, -3:].mean(axis=1), atol=1e-6)


def test_few_reference_rows_are_all_averaged() -> None:
    rows = random_rows(3)
    cosines = rows @ rows.T
    expected = [(cosines[0, 1] + cosines[0, 2]) / 2, (cosines[1, 0] + cosines[1, 2]) / 2]
    assert neighbour_cosines(rows, np.arange(3), 10, CPU)[:2].tolist() == pytest.approx(expected)
    assert np.isnan(neighbour_cosines(rows[:1], np.arange(1), 10, CPU)).all()


def test_outliers_lie_far_below_the_median() -> None:
    values = np.array([0.5, 0.52, 0.48, 0.51, 0.49, 0.1, 0.9, np.nan], dtype=np.float32)
    assert low_outliers(values, 3).tolist() == [False] * 5 + [True, False, False]
    assert not low_outliers(np.full(4, np.nan, dtype=np.float32), 3).any()
    assert not low_outliers(np.full(4, 0.5, dtype=np.float32), 3).any()
