from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from assay.core.errors import InputError
from assay.core.outputs import read_json
from stages import learning_curve
from tests.own_params import change
from tests.template_params import read_template_params
from tools.run import ablation_page

PARAMS = {"shares": [0.2, 0.4, 0.7], "probe_draws": 3, "draws": 2, "approach": "linear_probe", "samples": 100}
WORDS = {"negative": "awful slow broken", "neutral": "card account money", "positive": "great love happy"}


def rows(count: int, prefix: str) -> pl.DataFrame:
    random = np.random.default_rng(4)
    labels = [list(WORDS)[index % 3] for index in range(count)]
    texts = [f"{random.choice(WORDS[label].split())} {random.choice(['bank', 'app', 'now'])}" for label in labels]
    ids = [f"{prefix}{index}" for index in range(count)]
    table = pl.DataFrame({"id": ids, "text": texts, "label": labels})
    return table.with_columns(split_group="id", reference_label=pl.lit(None, pl.String))


@pytest.fixture
def workspace(tiny_encoder: Path) -> None:
    """60 train rows with an augmented example of each third one, and 45 validation rows."""
    params = read_template_params()
    params["embed"] |= {"model": str(tiny_encoder), "max_length_tokens": 16}
    params["finetune"]["defaults"] |= {"model": str(tiny_encoder), "max_length_tokens": 16}
    params["finetune"]["linear_probe"] |= {"max_epochs": 1}
    params["learning_curve"] |= PARAMS
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    train = rows(60, "t")
    train.write_parquet("data/split/train.parquet", mkdir=True)
    rows(45, "v").write_parquet("data/split/validation.parquet")
    own = train.select("id", "text", "label", parent_id=pl.lit(None, pl.String), label_weight=1.0)
    examples = own[::3].with_columns(parent_id="id", id="a" + pl.col("id"))
    pl.concat([own, examples]).write_parquet("data/augmented/train.parquet", mkdir=True)


def test_curves_labels_and_the_page(workspace: None, capsys: pytest.CaptureFixture[str]) -> None:
    learning_curve.main()
    found: dict[str, Any] = read_json("metrics/ablation/learning_curve.json")
    assert (found["rows_train"], found["examples"], found["rows_validation"]) == (60, 20, 45)
    printed = capsys.readouterr().out
    for name, draws in (("probe", 3), ("linear_probe", 2)):
        one = found[name]
        assert one["draws"] == draws
        sizes = [int(key.removesuffix("_rows")) for key in one["points"]]
        assert sizes == pytest.approx([12, 24, 42, 60], abs=3)
        assert one["twice"]["macro_f1_band90_low"] <= one["twice"]["macro_f1"] <= one["twice"]["macro_f1_band90_high"]
        assert one["conclusion"].startswith("not shown") == (one["twice"]["gain_points_band90_low"] <= 0)
        assert f"learning_curve: {name}: {one['conclusion']}" in printed
    gains = [label["gain_points"] for label in found["labels"].values()]
    assert sorted(gains, reverse=True) == gains
    assert {label["rows"] for label in found["labels"].values()} == {20}
    plot = pl.read_csv("metrics/plots/learning_curve.csv")
    assert plot.filter(kind="point").height == 8
    assert plot.filter(kind="law")["rows"].max() == 180

    ablation_page.main()
    page = Path("report/ablation.html").read_text()
    assert "Would more train rows help?" in page
    assert "macro-F1 on validation rows</text>" in page

    first = Path("metrics/ablation/learning_curve.json").read_bytes()
    learning_curve.main()
    assert Path("metrics/ablation/learning_curve.json").read_bytes() == first


def test_subsets_hold_each_label_and_whole_groups() -> None:
    labels, groups = np.repeat([0, 1, 2], [60, 30, 2]), np.arange(92) // 2
    keys = learning_curve.subset_keys(labels, groups, np.random.default_rng(1))
    for share in (0.1, 0.5):
        kept = keys < share
        assert np.unique(labels[kept]).tolist() == [0, 1, 2]
        assert all(len(set(kept[groups == group])) == 1 for group in groups)
        assert np.bincount(labels[kept])[:2] == pytest.approx([60 * share, 30 * share], abs=2)
    assert (keys < 1).all()


def test_a_baseline_has_no_fine_tuned_curve(workspace: None) -> None:
    change("learning_curve", approach="tfidf")
    with pytest.raises(InputError, match="'tfidf': name one that is fine-tuned"):
        learning_curve.main()
