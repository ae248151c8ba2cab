"""Near-duplicates among a million rows, and side by side with datasketch's MinHash on fewer.

What is printed with each benchmark (`extra_info`) is the measurement; times are not asserted, but for the ratio to
datasketch, the faster one of it and datatrove: `MinHash.bulk` and `MinHashLSH` with as many permutations, the same
threshold and shingles. It picks its bands, does not compare sets, and is given the texts already normalised, which is
not counted in its time. It works on one core, and we on two.
"""

import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from assay.duplicates.near_duplicates import NearDuplicateParams, near_duplicate_groups
from assay.duplicates.shingles import Indices, normalise_texts
from tests.benchmarks.million_rows import Truth, row_chunks
from tests.own_process import measure

Similarities = NDArray[np.float64]

PERMUTATIONS, MIN_JACCARD, SIZE = 128, 0.8, 5
PARAMS = NearDuplicateParams(shingle_size=SIZE, permutations=PERMUTATIONS, min_jaccard=MIN_JACCARD)
SAMPLE = 20_000
ROWS_SIDE_BY_SIDE = 50_000
THREADS = 2

MEASURE = """
import json, sys, time
import polars as pl
from assay.duplicates.near_duplicates import NearDuplicateParams, near_duplicate_groups
from tests.own_process import peak_mib
texts = pl.read_parquet(sys.argv[1], columns=["text"])["text"]
params = NearDuplicateParams(shingle_size=5, permutations=128, min_jaccard=0.8)
start = time.perf_counter()
near_duplicate_groups(texts, params)
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "peak_mib": peak_mib()}))
"""


def shingle_set(text: str) -> set[str]:
    return {text[start : start + SIZE] for start in range(max(1, len(text) - SIZE + 1))}


def exact_jaccard(texts: pl.Series, pairs: Iterable[tuple[int, int]]) -> Similarities:
    """Of the normalised texts, by Python's sets."""
    similarities = []
    for left, right in pairs:
        a, b = shingle_set(texts[left]), shingle_set(texts[right])
        similarities.append(len(a & b) / len(a | b))
    return np.array(similarities)


def grade(groups: Indices, pairs: pl.DataFrame, jaccard: Similarities) -> dict[str, float]:
    """Of the planted pairs, how many at or above the threshold are in one group, and the other way round."""
    linked, alike = groups[pairs["original"].to_numpy()] == groups[pairs["copy"].to_numpy()], jaccard >= MIN_JACCARD
    return {"recall": float(linked[alike].mean()), "precision": float(alike[linked].mean())}


def confirmed(groups: Indices, texts: pl.Series, rows: Indices) -> float:
    """Share of these rows, each in a group of several, that have a row at or above the threshold in their group."""
    members = pl.DataFrame({"group": groups}).with_row_index("row").group_by("group").agg("row")
    of_group = dict(members.filter(pl.col("row").list.len() > 1).iter_rows())
    found = [
        exact_jaccard(texts, [(int(row), other) for other in of_group[groups[row]] if other != row]) for row in rows
    ]
    return float(np.mean([similarities.max() >= MIN_JACCARD for similarities in found]))


@pytest.mark.timeout(1200)
def test_a_million_rows(benchmark: BenchmarkFixture, million_rows: tuple[Path, Truth]) -> None:
    path, truth = million_rows
    texts = pl.read_parquet(path, columns=["text"])["text"]
    start = time.perf_counter()
    groups = benchmark.pedantic(near_duplicate_groups, args=(texts, PARAMS), rounds=1)  # type: ignore[no-untyped-call]
    seconds = time.perf_counter() - start
    compared = normalise_texts(texts)
    pairs = truth.pairs.sample(SAMPLE, seed=1)
    jaccard = exact_jaccard(compared, pairs.select("original", "copy").iter_rows())
    several = np.flatnonzero(np.bincount(groups, minlength=len(groups))[groups] > 1)
    sample = np.random.default_rng(1).choice(several, SAMPLE, replace=False)
    benchmark.extra_info |= {
        "rows_per_second": round(len(texts) / seconds),
        "mean_characters": round(float(texts.str.len_chars().mean()), 1),  # type: ignore[arg-type]
        "duplicates": int((groups != np.arange(len(groups))).sum()),
        "planted_pairs_at_or_above_the_threshold": float((jaccard >= MIN_JACCARD).mean()),
        **grade(groups, pairs, jaccard),
        "rows_confirmed": confirmed(groups, compared, sample),
    }
    print(f"\n{benchmark.extra_info}")
    assert benchmark.extra_info["recall"] >= 0.98
    assert benchmark.extra_info["precision"] >= 0.99
    assert benchmark.extra_info["rows_confirmed"] >= 0.99


@pytest.mark.timeout(1200)
def test_memory_grows_with_the_rows_at_most(
    benchmark: BenchmarkFixture, million_rows: tuple[Path, Truth], hundred_thousand_rows: tuple[Path, Truth]
) -> None:
    def measured(path: Path) -> dict[str, float]:
        return measure("-c", MEASURE, str(path), POLARS_MAX_THREADS=str(THREADS))

    few = measured(hundred_thousand_rows[0])
    many = benchmark.pedantic(measured, args=(million_rows[0],), rounds=1)  # type: ignore[no-untyped-call]
    benchmark.extra_info |= {
        "rows_per_second_100k": round(100_000 / few["seconds"]),
        "rows_per_second_1m": round(1_000_000 / many["seconds"]),
        "peak_mib_100k": round(few["peak_mib"]),
        "peak_mib_1m": round(many["peak_mib"]),
    }
    print(f"\n{benchmark.extra_info}")
    assert many["peak_mib"] < 4096
    assert many["peak_mib"] < 10 * few["peak_mib"]


def by_datasketch(texts: list[str]) -> Indices:
    encoded = ([shingle.encode() for shingle in shingle_set(text)] for text in texts)
    index = MinHashLSH(threshold=MIN_JACCARD, num_perm=PERMUTATIONS)
    pairs = list[tuple[int, int]]()
    for row, signature in enumerate(MinHash.bulk(encoded, num_perm=PERMUTATIONS)):
        pairs += [(row, other) for other in index.query(signature)]
        index.insert(row, signature)
    left, right = np.array(pairs).reshape(-1, 2).T
    links = coo_array((np.ones(len(pairs)), (left, right)), shape=(len(texts), len(texts)))
    groups: Indices = connected_components(links, directed=False)[1]
    return groups


@pytest.mark.timeout(1200)
def test_beside_datasketch(benchmark: BenchmarkFixture, base_texts: pl.Series) -> None:
    ((records, truth),) = row_chunks(ROWS_SIDE_BY_SIDE, 11, base_texts)
    compared = normalise_texts(records["text"])
    plain = compared.to_list()
    jaccard = exact_jaccard(compared, truth.pairs.select("original", "copy").iter_rows())

    def timed(name: str, function: Callable[[], Indices]) -> float:
        start = time.perf_counter()
        groups = function()
        rate = ROWS_SIDE_BY_SIDE / (time.perf_counter() - start)
        benchmark.extra_info[f"{name}_rows_per_second"] = round(rate)
        graded = grade(groups, truth.pairs, jaccard)
        benchmark.extra_info |= {f"{name}_{measure}": value for measure, value in graded.items()}
        return rate

    def ours() -> Indices:
        return near_duplicate_groups(records["text"], PARAMS)

    benchmark.pedantic(ours, rounds=3)  # type: ignore[no-untyped-call]
    rate = statistics.median(timed("ours", ours) for _ in range(3))
    benchmark.extra_info["ours_rows_per_second"] = round(rate)
    peer = timed("datasketch", lambda: by_datasketch(plain))
    benchmark.extra_info["times_datasketch"] = round(rate / peer, 1)
    print(f"\n{benchmark.extra_info}")
    assert rate >= 10 * peer
    assert benchmark.extra_info["ours_recall"] >= benchmark.extra_info["datasketch_recall"]
