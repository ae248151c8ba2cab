from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from assay.core.outputs import read_json
from stages import ablation
from tests.own_params import change
from tests.stages.test_label_errors import PARAMS, clusters
from tests.template_params import sections
from tools.run import ablation_page

WRONG = {f"a{i}": "b" for i in range(12)}


@pytest.fixture(autouse=True)
def inputs(tiny_encoder: Path) -> None:
    """What the stage reads: 120 rows, a duplicate removed, a row without a letter, one that a person removed."""
    params = PARAMS | sections(ablation={"repeats": 2}, embed={"model": str(tiny_encoder), "max_length_tokens": 16})
    params["label_errors"] |= {"action": "review"}
    params |= {"report": {"title": "Mine"}, "fetch": {"assets": {}}, "ingest": {"path": "x", "sources": []}}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    rows, _ = clusters({"a": 40, "b": 40, "c": 40}, WRONG)
    rows = rows.with_columns(near_duplicate_group="id")
    random = np.random.default_rng(1)
    true = rows["reference_label"].replace_strict({"a": 0, "b": 1, "c": 2}).to_numpy()
    vectors = random.normal(size=(121, 32)) * 0.3 + 3 * np.eye(32)[np.append(true, 0)]
    ids = pl.Series("id", [*rows["id"], "gone"])
    embedding = pl.Series("embedding", vectors.astype(np.float32), dtype=pl.Array(pl.Float32, 32))
    extra = rows.head(3).with_columns(id=pl.Series(["twin", "x", "gone"]), near_duplicate_group=pl.lit("a5"))
    removed = {"id": ["twin", "x"], "rule": ["r", "r"], "before": ["text", "x"], "kept_id": ["a5", None]}
    tables = {
        "ingested/records": pl.concat([rows.with_columns(text=pl.col("text") + "!"), extra]),
        "clean/records": pl.concat([rows.with_columns(label=pl.col("label").replace({"c": "a"})), extra.tail(1)]),
        "clean/removed": pl.DataFrame(removed),
        "clean/ratings": pl.DataFrame({"id": ["a0", "a0", "b0"], "label": ["a", "b", "b"]}),
        "corrected/removed": pl.DataFrame({"id": ["gone"]}),
        "embeddings/embeddings": pl.DataFrame([ids, embedding]),
        "embeddings/layers": pl.DataFrame([ids, embedding]),
        "split/train": rows.head(90),
        "split/validation": rows.tail(30),
        "augmented/train": rows.select(pl.col("id") + "+", "text", "label", parent_id="id").head(30),
    }
    for name, table in tables.items():
        table.write_parquet(f"data/{name}.parquet", mkdir=True)


def run() -> dict[str, Any]:
    ablation.main()
    found: dict[str, Any] = read_json("metrics/ablation/ablation.json")
    return found


def test_each_step_is_compared_with_what_it_changes() -> None:
    found = run()
    steps = found["steps"]
    means = {name: {kind: rows for kind, rows in one["a_fold"].items() if rows} for name, one in steps.items()}
    assert set(means) == {*ablation.IN_BASE, "augmentation", "target_consensus", "target_soft", "label_errors_drop"}
    assert means["cleaning"] == {"removed": 1}
    assert means["near_duplicates"] == {"removed": 0.8}  # in its twin's fold
    assert means["corrections"] == {"removed": 0.8, "relabelled": 32}
    assert means["augmentation"] == {"added": pytest.approx(24, abs=1)}
    assert means["target_consensus"] == {"relabelled": pytest.approx(9.6)}
    assert found["texts_changed_by_cleaning"] == 120
    assert steps["corrections"]["with_minus_control"]["verdict"] == "better"
    assert steps["label_errors_drop"]["with"]["accuracy"] > steps["label_errors_drop"]["without"]["accuracy"]
    assert "with_minus_control" not in steps["target_soft"]
    assert "corrections is better by +0." in found["conclusion"]
    assert found["tests"] == 12
    ablation_page.main()
    page = Path("report/ablation.html").read_text()
    for text in ("What each data step bought", "not in use: action review", "120 texts of all", found["conclusion"]):
        assert text in page


def test_what_changes_nothing_is_named_and_an_action_in_use_is_tested() -> None:
    change("label_errors", action="weight")
    change("ablation", folds=2, repeats=1)
    rows = pl.read_parquet("data/ingested/records.parquet").head(120).with_columns(pl.col("text").str.head(-1))
    rows.write_parquet("data/ingested/records.parquet")
    pl.read_parquet("data/clean/records.parquet").head(120).with_columns(label=rows["label"]).write_parquet(
        "data/clean/records.parquet"
    )
    found = run()
    assert found["changes_nothing"] == ["cleaning", "corrections", "near_duplicates"]
    assert found["steps"]["label_errors_weight"]["a_fold"]["reweighted"] > 90
