from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from assay.core.outputs import read_json
from stages import label_effect

PARAMS = """
seed: 7
label_effect: {seeds: 3, C: 3.0, bootstrap_samples: 200}
"""
WIDTH = 6


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pl.DataFrame:
    """150 train rows of three labels, half of those of the first one wrong, and 90 test rows; clusters that overlap."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS, encoding="utf-8")
    random = np.random.default_rng(3)
    truth = np.arange(240) % 3
    vectors = (random.normal(size=(240, WIDTH)) + 1.2 * np.eye(WIDTH)[truth]).astype(np.float32)
    labels = np.where((np.arange(240) % 2 == 0) & (truth == 0), 1, truth)
    table = pl.DataFrame(
        {
            "id": [f"r{row}" for row in range(240)],
            "label": [f"l{label}" for label in labels],
            "reference_label": [f"l{label}" for label in truth],
        }
    )
    for folder in ("split", "clean", "label_errors", "embeddings"):
        Path("data", folder).mkdir(parents=True)
    table.head(150).write_parquet("data/split/train.parquet")
    table.tail(90).write_parquet("data/split/test.parquet")
    table.write_parquet("data/clean/records.parquet")
    column = pl.Series("embedding", vectors, dtype=pl.Array(pl.Float32, WIDTH))
    table.select("id", column).reverse().write_parquet("data/embeddings/embeddings.parquet")
    return table.head(150)


def run(acted_on: pl.DataFrame) -> dict[str, Any]:
    acted_on.write_parquet("data/label_errors/train.parquet")
    label_effect.main()
    metrics: dict[str, Any] = read_json("metrics/optional/label_effect.json")
    return metrics


def test_taking_out_what_is_wrong_helps(rows: pl.DataFrame) -> None:
    right = rows.filter(pl.col("label") == pl.col("reference_label")).with_columns(label_weight=pl.lit(1.0))
    found = run(right)
    difference = found["detector_on_minus_detector_off"]
    expected = found["detector_on"]["macro_f1"] - found["detector_off"]["macro_f1"]
    assert difference["macro_f1"] == pytest.approx(expected, abs=2e-6)
    assert 0 < difference["macro_f1_ci95_low"] < difference["macro_f1"] < difference["macro_f1_ci95_high"]
    assert found["rows_train"] == {"detector_off": 150, "detector_on": right.height}
    assert "uncorrected" not in found


def test_the_same_rows_make_no_difference(rows: pl.DataFrame) -> None:
    found = run(rows.with_columns(label_weight=pl.lit(1.0)))
    assert found["detector_on_minus_detector_off"] == {"macro_f1": 0.0}


def test_weights_count(rows: pl.DataFrame) -> None:
    right = pl.col("label") == pl.col("reference_label")
    found = run(rows.with_columns(label_weight=pl.when(right).then(1.0).otherwise(1e-9)))
    assert found["detector_on_minus_detector_off"]["macro_f1"] > 0.01


def test_corrections_are_measured_where_there_are_some(rows: pl.DataFrame) -> None:
    corrected = rows.with_columns(label="reference_label")
    corrected.write_parquet("data/split/train.parquet")
    found = run(corrected.with_columns(label_weight=pl.lit(1.0)))
    assert found["detector_off_minus_uncorrected"]["macro_f1"] > 0
    assert found["rows_train"] == {"uncorrected": 150, "detector_off": 150, "detector_on": 150}
