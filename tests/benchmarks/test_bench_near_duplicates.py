"""Near-duplicate grouping beside datasketch's MinHash LSH, on the same texts in the same run."""

import numpy as np
import polars as pl
import pytest
from datasketch import MinHash, MinHashLSH
from pytest_benchmark.fixture import BenchmarkFixture

from stages.lib.near_duplicates import near_duplicate_groups
from tests.conftest import WORDS

TEXTS = 5_000


@pytest.fixture(scope="module")
def texts() -> pl.Series:
    """Texts of twenty words, one in ten a copy with one word changed."""
    random = np.random.default_rng(11)
    words = np.array([f"{word}{number}" for word in WORDS.split() for number in range(20)])
    rows = [random.choice(words, 20) for _ in range(TEXTS)]
    for copy in range(0, TEXTS, 10):
        rows[copy] = rows[copy + 1].copy()
        rows[copy][random.integers(20)] = random.choice(words)
    return pl.Series("text", [" ".join(row) for row in rows])


def test_ours(benchmark: BenchmarkFixture, texts: pl.Series) -> None:
    groups = benchmark(near_duplicate_groups, texts, shingle_characters=5, permutations=128, min_jaccard=0.8)
    benchmark.extra_info["linked"] = linked = int((groups != np.arange(TEXTS)).sum())
    assert linked >= 0.9 * TEXTS / 10


def test_datasketch(benchmark: BenchmarkFixture, texts: pl.Series) -> None:
    def linked() -> int:
        index = MinHashLSH(threshold=0.8, num_perm=128)
        count = 0
        for position, text in enumerate(texts):
            signature = MinHash(num_perm=128)
            signature.update_batch(
                [shingle.encode() for shingle in {text[i : i + 5] for i in range(max(1, len(text) - 4))}]
            )
            count += bool(index.query(signature))
            index.insert(position, signature)
        return count

    benchmark.extra_info["linked"] = benchmark(linked)
