from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from assay.compute.device import Device
from assay.core.outputs import read_json
from assay.core.params import load_params
from assay.embeddings.encoder import EmbedParams, embedded_texts
from stages import augment_quality
from tests.own_params import COMPUTE

LABELS = ["negative", "positive"]
TEXTS = {"negative": "awful slow broken bank", "positive": "great happy love app"}


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """80 rows, 40 of them with a copy; those of `spoilt` say the opposite of their parents."""
    monkeypatch.chdir(tmp_path)
    embed = {"model": str(tiny_encoder), "max_length_tokens": 32, "batch_size": 8, "last_layers": 2}
    quality = {"pairs_per_recipe": 10, "probe_folds": 4, "probe_C": 1.0}
    params = {"seed": 3, "compute": COMPUTE, "embed": embed, "augment_quality": quality}
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    random = np.random.default_rng(1)
    rows, copies = [], []
    for index in range(80):
        label = LABELS[index % 2]
        # One given label in eight is wrong; the consensus is not.
        given = label if index % 8 else LABELS[1 - index % 2]
        text = f"{TEXTS[label]} {random.choice(['card', 'money', 'today', 'phone'])}"
        rows.append((f"r{index}", text, given, label, f"r{index}"))
        if index % 2 == 0:
            recipe = "spoilt" if index % 4 else "kept"
            other = TEXTS["positive"] if recipe == "spoilt" else f"{text} now"
            copies.append((f"r{index}~{recipe}", other, given, f"r{index}", recipe))
    train = pl.DataFrame(rows, schema=["id", "text", "label", "reference_label", "split_group"], orient="row")
    made = pl.DataFrame(copies, schema=["id", "text", "label", "parent_id", "recipe"], orient="row")
    for folder in ("data/split", "data/augmented", "data/embeddings"):
        Path(folder).mkdir(parents=True)
    train.write_parquet("data/split/train.parquet")
    originals = train.select("id", "text", "label")
    pl.concat([originals, made], how="diagonal").write_parquet("data/augmented/train.parquet")
    device = Device(torch.device("cpu"), torch.float32)
    embedded, _ = embedded_texts(train["text"].to_list(), load_params("embed", EmbedParams), device)
    column = pl.Series("embedding", embedded.layers, dtype=pl.Array(pl.Float32, embedded.layers.shape[1]))
    train.select("id", column).write_parquet("data/embeddings/layers.parquet")
    return tmp_path


def test_examples_that_lost_their_label_are_seen() -> None:
    augment_quality.main()
    metrics = read_json("metrics/optional/augment_quality.json")
    assert metrics["pairs"] == 20
    kept, spoilt = metrics["per_recipe"]["kept"], metrics["per_recipe"]["spoilt"]
    assert (kept["pairs"], spoilt["pairs"]) == (10, 10)
    assert kept["label_kept"] == kept["label_right"] == 1.0
    assert spoilt["label_right"] == 0.0
    assert 0.6 < kept["label_kept_ci95_low"] < 1.0
    assert kept["pairs_of_right_parents"] == 10


def test_the_sample_is_drawn_by_seed() -> None:
    augmented = pl.read_parquet("data/augmented/train.parquet")
    ids = augment_quality.sample_examples(augmented, 5, 1)["id"]
    assert len(ids) == 10
    assert augment_quality.sample_examples(augmented.reverse(), 5, 1)["id"].sort().equals(ids.sort())
    assert not augment_quality.sample_examples(augmented, 5, 2)["id"].sort().equals(ids.sort())
    assert augment_quality.sample_examples(augmented, 1000, 1).height == 40


def test_no_examples_no_metrics() -> None:
    originals = pl.read_parquet("data/augmented/train.parquet").filter(pl.col("recipe").is_null())
    originals.write_parquet("data/augmented/train.parquet")
    augment_quality.main()
    assert read_json("metrics/optional/augment_quality.json").items() >= {"pairs": 0, "per_recipe": {}}.items()
