import math

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import entropy

from assay.corpus_profile import WORD, neighbour_cosines, profile_part

CPU = torch.device("cpu")


def random_rows(rows: int, dimensions: int = 8) -> NDArray[np.float32]:
    vectors = np.random.default_rng(5).normal(size=(rows, dimensions)) + 0.5
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / lengths, dtype=np.float32)


def test_words_are_letters_and_figures() -> None:
    texts = pl.Series(["don't panic, it\u2019s 42!", "naïve – ünïcode", "<3 :)", ""])
    assert texts.str.extract_all(WORD).to_list() == [
        ["don't", "panic", "it\u2019s", "42"],
        ["naïve", "ünïcode"],
        ["3"],
        [],
    ]


@pytest.mark.parametrize(
    ("counts", "labels", "expected"),
    [
        ([5, 5, 5], 3, 1.0),
        ([6, 3, 1], 3, entropy([6, 3, 1], base=3)),
        # A label that this source does not have at all counts as missing.
        ([5, 5], 3, math.log(2) / math.log(3)),
        ([7], 1, None),
        ([], 3, None),
    ],
)
def test_balance_is_the_entropy_by_that_of_equal_shares(counts: list[int], labels: int, expected: float | None) -> None:
    label = [f"l{number}" for number, count in enumerate(counts) for _ in range(count)]
    rows = pl.DataFrame({"label": pl.Series(label, dtype=pl.String), "authenticity": ["real"] * len(label)})
    lengths = [pl.lit(1).alias(name) for name in ("characters", "words", "tokens")]
    rows = rows.with_columns(*lengths, language=pl.lit("en"), word=pl.lit(["a"]))
    assert profile_part(rows, 0, labels).get("normalised_label_entropy") == pytest.approx(expected)


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
