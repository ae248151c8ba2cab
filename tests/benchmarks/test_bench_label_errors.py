"""From given probabilities to label errors: 100,000 rows of 77 labels, in bounded memory.

What is printed with the benchmark (`extra_info`) is the measurement.
"""

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from assay.label_errors.detector import Detector, Models, Regression, score_labels
from assay.label_errors.scores import update_by_evidence
from assay.probes import scale_temperature
from tests.own_process import measure

LABELS = 77
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


def made(rows: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels of which a tenth are wrong, and probabilities that mostly know better."""
    random = np.random.default_rng(1)
    truth = random.integers(0, LABELS, rows)
    labels = np.where(random.random(rows) < 0.1, random.integers(0, LABELS, rows), truth)
    logits = random.normal(size=(rows, LABELS)) + 6 * np.eye(LABELS)[truth]
    return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def detected(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> int:
    """What `label_errors` does once its models have judged: the number of label errors."""
    scaled, _ = scale_temperature(probabilities, labels)
    found = score_labels(labels, update_by_evidence(scaled, np.full(len(labels), -1)), PARAMS, {})
    return int(found.is_label_error.sum())


@pytest.mark.timeout(1200)
def test_a_hundred_thousand_rows_in_8_gib(benchmark: BenchmarkFixture) -> None:
    found = benchmark.pedantic(measure, args=("-c", MEASURE), rounds=1)  # type: ignore[no-untyped-call]
    benchmark.extra_info |= {key: round(value, 1) for key, value in found.items()}
    print(f"\n{benchmark.extra_info}")
    assert found["peak_mib"] < 8192
