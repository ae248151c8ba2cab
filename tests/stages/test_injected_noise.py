from pathlib import Path

import polars as pl
import pytest
import yaml

from assay.core.outputs import read_json
from stages import injected_noise
from tests.stages.test_label_errors import PARAMS, clusters
from tests.template_params import sections

NOISE = {"kinds": ["uniform", "instance_dependent", "confusable"], "shares": [0.1]}


@pytest.fixture
def train() -> pl.DataFrame:
    params = PARAMS | sections(injected_noise=NOISE, label_effect={"bootstrap_samples": 100})
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    rows, embeddings = clusters({"a": 40, "b": 40, "c": 40}, {"a0": "b"})
    embeddings.write_parquet("data/embeddings/layers.parquet", mkdir=True)
    embeddings.write_parquet("data/embeddings/embeddings.parquet")
    rows.write_parquet("data/split/validation.parquet", mkdir=True)
    return rows


def test_every_kind_is_put_into_the_reference_labels_and_found(train: pl.DataFrame) -> None:
    train.write_parquet("data/split/train.parquet", mkdir=True)
    injected_noise.main()
    metrics = read_json("metrics/optional/injected_noise.json")
    kinds = ["uniform", "instance_dependent", "confusable"]
    assert list(metrics) == ["run_id", "rows", "rows_validation", *kinds]
    for kind in kinds:
        # Clusters far apart: every wrong label is seen.
        assert metrics[kind]["10pct"]["average_precision"] == pytest.approx(1.0)
        effect = metrics[kind]["10pct"]["effect"]
        assert effect["oracle"]["accuracy"] == effect["flagged_dropped"]["accuracy"] == 1.0
        expected = 1 - effect["noisy"]["accuracy"]
        assert effect["oracle_minus_noisy"]["accuracy"] == pytest.approx(expected, abs=2e-6)
    curves = pl.read_csv("metrics/plots/injected_noise/precision_recall.csv")
    assert set(curves["noise"]) == {f"{kind} 10%" for kind in kinds}


def test_without_reference_labels_there_is_nothing_to_grade(
    train: pl.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    train.with_columns(reference_label=pl.lit(None, pl.String)).write_parquet("data/split/train.parquet", mkdir=True)
    injected_noise.main()
    assert list(read_json("metrics/optional/injected_noise.json")) == ["run_id", "rows", "rows_validation"]
    assert "no reference labels" in capsys.readouterr().err
