from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from assay.core.outputs import read_json
from stages import label_effect

PARAMS = """
seed: 7
label_effect: {C: 3.0, bootstrap_samples: 200}
"""
WIDTH = 6


@pytest.fixture
def rows() -> pl.DataFrame:
    """150 train rows of three labels, half of those of the first one wrong, and 90 for validation; overlapping."""
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
            "split_group": [f"g{row}" for row in range(240)],
        }
    )
    table.head(150).write_parquet("data/split/train.parquet", mkdir=True)
    table.tail(90).write_parquet("data/split/validation.parquet")
    table.write_parquet("data/clean/records.parquet", mkdir=True)
    column = pl.Series("embedding", vectors, dtype=pl.Array(pl.Float32, WIDTH))
    table.select("id", column).reverse().write_parquet("data/embeddings/embeddings.parquet", mkdir=True)
    return table.head(150)


def run(acted_on: pl.DataFrame, *, flagged: bool = False) -> dict[str, Any]:
    """The metrics; as if the wrong rows were `flagged`, or none."""
    train = pl.read_parquet("data/split/train.parquet")
    wrong = (pl.col("label") != pl.col("reference_label")) & flagged
    train.select("id", is_label_error=wrong).write_parquet("data/label_errors/scores.parquet", mkdir=True)
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
    assert found["rows_train"] == {"detector_off": 150, "detector_on": right.height, "oracle": 150}
    assert (found["rows_validation"], found["rows_with_reference_label"]) == (90, 90)
    assert found["oracle_minus_detector_off"]["macro_f1"] > 0
    assert "uncorrected" not in found


def test_an_action_that_changes_nothing_is_not_compared_and_dropping_is(rows: pl.DataFrame) -> None:
    found = run(rows.with_columns(label_weight=pl.lit(1.0)), flagged=True)
    assert list(found["rows_train"]) == ["detector_off", "flagged_dropped", "oracle"]
    dropped = run(rows.filter(pl.col("label") == pl.col("reference_label")).with_columns(label_weight=pl.lit(1.0)))
    assert found["flagged_dropped"] == dropped["detector_on"]


def test_without_reference_labels_there_is_no_oracle(rows: pl.DataFrame) -> None:
    without = rows.with_columns(reference_label=pl.lit(None, pl.String))
    without.write_parquet("data/split/train.parquet")
    assert list(run(without.with_columns(label_weight=pl.lit(1.0)))["rows_train"]) == ["detector_off"]


def test_without_validation_rows_nothing_is_scored(rows: pl.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    rows.head(0).write_parquet("data/split/validation.parquet")
    assert "oracle" not in run(rows.with_columns(label_weight=pl.lit(1.0)))
    assert "validation.parquet has no rows, so there is nothing to score labels on" in capsys.readouterr().err


def test_weights_count(rows: pl.DataFrame) -> None:
    right = pl.col("label") == pl.col("reference_label")
    found = run(rows.with_columns(label_weight=pl.when(right).then(1.0).otherwise(1e-9)))
    assert found["detector_on_minus_detector_off"]["macro_f1"] > 0.01


def test_corrections_are_measured_where_there_are_some(rows: pl.DataFrame) -> None:
    corrected = rows.with_columns(label="reference_label")
    corrected.write_parquet("data/split/train.parquet")
    found = run(corrected.with_columns(label_weight=pl.lit(1.0)))
    assert found["detector_off_minus_uncorrected"]["macro_f1"] > 0
    # The corrected labels are the reference labels.
    assert found["rows_train"] == {"detector_off": 150, "uncorrected": 150}
