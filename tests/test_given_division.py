"""Two files of one data set, an official train and test set, by params alone: from the raw files to the split."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from stages import annotation_qa, clean, correct, embed, ingest, semantic_duplicates, split
from tests.template_params import read_template_params

WORDS = ("card", "money", "account", "transfer", "app", "bank", "cash", "payment", "top", "fee", "rate", "refund")


def write_rows(path: Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "category"), *rows])


def source(part: str) -> dict[str, Any]:
    provenance = {"url": "https://example.org", "licence": None, "retrieved": None, "authenticity": "real"}
    carry = [{"name": "part", "constant": part}]
    shape = {"file": f"{part}.csv", "format": "csv", "header": True}
    return {"name": part, **provenance, **shape, "columns": {"text": "text", "label": "category"}, "carry": carry}


def test_an_official_division_of_two_files(tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(2)

    def rows(count: int) -> list[tuple[str, str]]:
        texts = [" ".join(random.choice(WORDS, 9)) + f" {random.integers(1000, 9999)}?" for _ in range(count)]
        return [(text, f"class_{number % 7}") for number, text in enumerate(texts)]

    train, test = rows(210), rows(70)
    train += [(train[0][0], train[0][1]), (test[1][0], "class_3"), (f"Hello, {test[2][0]}", test[2][1])]
    test.append(test[0])
    raw = Path("data/raw")
    raw.mkdir(parents=True)
    write_rows(raw / "train.csv", train)
    write_rows(raw / "test.csv", test)
    Path("data/corrections.csv").write_text("id,field,old,new,reason,reviewer,date\n")
    params = read_template_params()
    params["ingest"] |= {"path": "data/raw", "sources": [source("train"), source("test")], "rating_bins": None}
    params["clean"]["max_tokens"]["tokenizer"] = f"{tiny_encoder}/tokenizer.json"
    params["embed"] |= {"model": str(tiny_encoder), "last_layers": 2}
    params["semantic_duplicates"]["min_cosine"] = 0.9999
    params["annotation_qa"]["label_order"] = None
    params["split"] |= {"group_column": None, "given_column": "part"}
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for stage in (ingest, clean, embed, correct, semantic_duplicates, annotation_qa, split):
        stage.main()

    parts = {name: pl.read_parquet(f"data/split/{name}.parquet") for name in ("train", "validation", "test")}
    assert parts["test"]["text"].to_list() == [text for text, _ in test]
    # Of the train rows, one is there twice.
    assert parts["train"].height + parts["validation"].height == 212
    assert 10 <= parts["validation"].height <= 45
    counts = json.loads(Path("metrics/split.json").read_text())["leaks"]
    leaks = pl.read_parquet("data/split/leaks.parquet")
    assert counts["identical"]["shared"] == 1
    assert leaks.filter(pl.col("kind") == "identical")["text"].to_list() == [test[1][0]] * 2
    near = leaks.filter(pl.col("kind") == "near_duplicate")
    assert set(near["text"]) == {test[1][0], test[2][0], train[-1][0]}
    assert counts["near_duplicate"]["test_rows"] == 2
