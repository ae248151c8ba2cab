"""Rows a CPU second of `assay.inference`, cleaning included, beside `transformers.pipeline(batch_size=32)`.

The same model, which both can load, and the same short texts, no two alike, in one thread; runs take turns in processes
of their own, and medians are compared. What is printed with the benchmark (`extra_info`) is the measurement.
"""

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from assay.classifiers.checkpoint import new_classifier, save_classifier
from assay.classifiers.inference_file import write_inference
from assay.core.progress import quiet_libraries
from assay.inference import load
from assay.inference.table_windows import WINDOW_ROWS
from stages.finetune import CLEANING
from tests.own_process import measure
from tests.template_params import read_template_params

ROUNDS = 3
ROWS = int(os.environ.get("ASSAY_BENCH_ROWS", "100000"))
CLASSES = ["negative", "neutral", "positive"]
MODULE = "tests.benchmarks.test_bench_predict"


def one_side(side: str, folder: str, file: str) -> dict[str, Any]:
    """One side in this process: its CPU seconds and its labels."""
    torch.set_num_threads(1)
    quiet_libraries()
    texts = pl.read_parquet(file)["text"].to_list()
    if side == "ours":
        classifier = load(folder, wanted_precision=0.8)
        began = time.process_time()
        windows = [texts[start : start + WINDOW_ROWS] for start in range(0, len(texts), WINDOW_ROWS)]
        labels = [label for window in windows for label in classifier.predict(window)["label"]]
    else:
        from transformers import pipeline

        predict = pipeline("text-classification", model=folder, device="cpu", batch_size=32)
        began = time.process_time()
        labels = [one["label"] for one in predict(texts, truncation=True)]
    return {"cpu_seconds": time.process_time() - began, "labels": labels}


@pytest.mark.timeout(7200)
def test_rows_a_cpu_second_beside_the_pipeline(benchmark: BenchmarkFixture, repository: Path, tmp_path: Path) -> None:
    base, records = repository / "models/base/minilm", repository / "data/ingested/records.parquet"
    if not (base / "config.json").is_file() or not records.is_file():
        pytest.skip("the default data are not there: run `make repro` first")
    torch.manual_seed(1)
    model, tokenizer = new_classifier(str(base), CLASSES, "cls")
    save_classifier(model, tokenizer, 128, tmp_path / "model")
    cleaning = {key: read_template_params()["clean"][key] for key in CLEANING}
    cleaning["max_tokens"] |= {"tokenizer": str(base / "tokenizer.json")}
    write_inference(tmp_path / "model", np.eye(3, dtype=np.float32), np.arange(3), cleaning, ["tweets"])
    texts = pl.read_parquet(records)["text"].to_list()
    pl.DataFrame({"text": [f"{texts[row % len(texts)]} {row}" for row in range(ROWS)]}).write_parquet(
        tmp_path / "texts.parquet"
    )
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "pipeline": []}

    def rounds() -> None:
        for _ in range(ROUNDS):
            for side, results in found.items():
                arguments = (side, str(tmp_path / "model"), str(tmp_path / "texts.parquet"))
                results.append(measure("-m", MODULE, *arguments, cwd=repository))

    benchmark.pedantic(rounds, rounds=1)  # type: ignore[no-untyped-call]
    seconds = {side: statistics.median(one["cpu_seconds"] for one in results) for side, results in found.items()}
    same = zip(*(results[0]["labels"] for results in found.values()), strict=True)
    benchmark.extra_info |= {
        "rows_a_cpu_second": {side: round(ROWS / value, 1) for side, value in seconds.items()},
        "times_as_many": round(seconds["pipeline"] / seconds["ours"], 2),
        "same_label_share": round(float(np.mean([ours == theirs for ours, theirs in same])), 4),
    }
    print(f"\n{benchmark.extra_info}")


if __name__ == "__main__":
    print(json.dumps(one_side(*sys.argv[1:])))
