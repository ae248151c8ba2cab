"""From given probabilities to label errors and data issues: 10,000 rows of 77 labels, and 100,000 in bounded memory.

What is printed with each benchmark (`extra_info`) is the measurement. Beside it, in the same run and on the same rows,
stands Cleanlab's Datalab by itself with all its checks, of which ours leaves out the search for label errors.
"""

import time

import numpy as np
import pytest
import torch
from cleanlab import Datalab
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from assay.label_errors.data_issues import find_data_issues
from assay.label_errors.detector import Detector, Models, Regression, score_labels
from assay.label_errors.scores import update_by_evidence
from assay.probes import scale_temperature
from tests.own_process import measure

LABELS, WIDTH = 77, 384
PARAMS = Detector(
    folds=5,
    models=Models(linear=Regression(Cs=[1.0], weight=1.0), kernel=None, words=None, neighbours=None, finetuned=None),
    score="pairwise_confidence",
    filter_by="low_self_confidence",
    max_label_quality=0.5,
)
MEASURE = """
import json, time
from tests.benchmarks.test_bench_label_errors import detected, made
from tests.own_process import peak_mib
rows = made(100_000)
start = time.perf_counter()
found = detected(*rows)
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "peak_mib": peak_mib(), "label_errors": found}))
"""


def made(rows: int) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float32]]:
    """Labels of which a tenth are wrong, probabilities that mostly know better, and embeddings in clusters."""
    random = np.random.default_rng(1)
    truth = random.integers(0, LABELS, rows)
    labels = np.where(random.random(rows) < 0.1, random.integers(0, LABELS, rows), truth)
    logits = random.normal(size=(rows, LABELS)) + 6 * np.eye(LABELS)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    centres = random.normal(size=(LABELS, WIDTH)).astype(np.float32)
    embeddings = centres[truth] + random.normal(size=(rows, WIDTH)).astype(np.float32)
    return labels, probabilities, embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def detected(labels: NDArray[np.int64], probabilities: NDArray[np.float64], embeddings: NDArray[np.float32]) -> int:
    """What `label_errors` does once its models have judged: the number of label errors."""
    scaled, _ = scale_temperature(probabilities, labels)
    found = score_labels(labels, update_by_evidence(scaled, np.full(len(labels), -1)), PARAMS, {})
    find_data_issues(labels, found.probabilities, embeddings, torch.device("cpu"))
    return int(found.is_label_error.sum())


@pytest.mark.timeout(600)
def test_ten_thousand_rows_of_77_labels(benchmark: BenchmarkFixture) -> None:
    labels, probabilities, embeddings = made(10_000)
    start = time.perf_counter()
    found = benchmark.pedantic(detected, args=(labels, probabilities, embeddings), rounds=1)  # type: ignore[no-untyped-call]
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    Datalab(data={"label": labels}, label_name="label", task="classification", verbosity=0).find_issues(
        pred_probs=probabilities, features=embeddings
    )
    peer_seconds = time.perf_counter() - start
    benchmark.extra_info |= {
        "seconds": round(seconds, 2),
        "seconds_of_datalab": round(peer_seconds, 2),
        "times_as_fast_as_datalab": round(peer_seconds / seconds, 2),
        "label_errors": found,
    }
    print(f"\n{benchmark.extra_info}")


@pytest.mark.timeout(1200)
def test_a_hundred_thousand_rows_in_8_gib(benchmark: BenchmarkFixture) -> None:
    found = benchmark.pedantic(measure, args=("-c", MEASURE), rounds=1)  # type: ignore[no-untyped-call]
    benchmark.extra_info |= {"seconds": round(found["seconds"], 1), "peak_mib": round(found["peak_mib"])}
    print(f"\n{benchmark.extra_info}")
    assert found["peak_mib"] < 8192
