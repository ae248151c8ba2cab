"""Rows without a label, from the raw file to the train split: they wait, are ranked, get a label from a person."""

import csv
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from assay.classifiers.baselines import save_baseline, tfidf
from assay.core.outputs import read_json
from assay.fine_tuning.params import Tfidf
from stages import annotation_qa, clean, correct, embed, ingest, review_queue, semantic_duplicates, split
from tests.own_params import change
from tests.own_process import run_main
from tests.template_params import read_template_params
from tools.changes.why import history

WORDS = {"bad": ["awful", "hate", "slow", "broken"], "good": ["great", "love", "fast", "works"]}
THINGS = ("card", "money", "account", "transfer", "app", "bank", "cash", "payment", "top", "fee", "rate", "refund")
SPLITS = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """120 rows with a label and 40 without, by threads of three rows; the threads of some of both are the same."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(3)
    rows = []
    for number in range(160):
        label, kind = ("bad", "good")[number % 2], "l" if number < 120 else "u"
        words = random.permutation([*random.choice(THINGS, 7), *random.choice(WORDS[label], 2)])
        text = f"{' '.join(words)} {random.integers(1000, 9999)}?"
        thread = (number if number < 140 else number - 140) // 3
        rows.append([f"{kind}{number}", text, label if kind == "l" else "", f"t{thread}"])
    rows[120][1] = rows[0][1].replace("?", "!")
    rows[121][1] = rows[122][1]
    rows[123][1] += " me@example.org"
    Path("data/raw").mkdir(parents=True)
    with Path("data/raw/rows.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "text", "label", "thread"), *rows])
    params = read_template_params()
    shape = {"name": "s", "file": "rows.csv", "format": "csv", "header": True, "carry": ["thread"], "ratings": None}
    source = params["ingest"]["sources"][0] | shape | {"columns": {"id": "id", "text": "text", "label": "label"}}
    params["ingest"] |= {"path": "data/raw", "sources": [source], "rating_bins": None}
    tokens = {"tokenizer": f"{tiny_encoder}/tokenizer.json", "tokens": 1000}
    params["clean"] |= {"missing": {"label": "pool"}, "max_tokens": tokens}
    params["embed"] |= {"model": str(tiny_encoder), "last_layers": 2}
    params["semantic_duplicates"]["min_cosine"] = 0.9999
    params["annotation_qa"]["label_order"], params["approaches"] = None, []
    params["split"] |= {"group_column": "thread", "given_column": None}
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    ingest.main()


def decide(*lines: str) -> dict[str, pl.DataFrame]:
    """The splits after these decisions of Ann, each `id,field,old,new`."""
    said = ["id,field,old,new,reason,reviewer,date", *(f"{line},,Ann,2026-12-01" for line in lines), ""]
    Path("data/corrections.csv").write_text("\n".join(said))
    for stage in (correct, semantic_duplicates, annotation_qa, split):
        stage.main()
    return {name: pl.read_parquet(f"data/split/{name}.parquet") for name in SPLITS}


def make_queue(train: pl.DataFrame) -> pl.DataFrame:
    """The rows of the queue that wait for a label, by a model of the train rows and without label errors."""
    schema = dict.fromkeys(("id", "label", "suggested_label"), pl.String) | {"label_quality": pl.Float64}
    found = pl.DataFrame(schema=schema | {"is_label_error": pl.Boolean})
    found.write_parquet("data/label_errors/scores.parquet", mkdir=True)
    model = tfidf(Tfidf(method="tfidf", max_word_ngram=1, min_document_frequency=1, C=3.0))
    Path("models/finetuned/tfidf").mkdir(parents=True, exist_ok=True)
    save_baseline(model.fit(train["text"].to_list(), train["label"].to_list()), Path("models/finetuned/tfidf"))
    run_main(review_queue, "tfidf")
    return pl.read_csv("data/review/queue.csv").filter(split="unlabelled")


def test_a_label_given_to_a_waiting_row_makes_it_a_train_row(capsys: pytest.CaptureFixture[str]) -> None:
    clean.main()
    embed.main()
    counted = read_json("metrics/clean.json")
    assert counted["rows_in"] == counted["rows_out"] + sum(counted["removed"].values()) == 160
    assert counted["removed"]["waits_for_label"] == 38
    removed = {row["id"]: row for row in pl.read_parquet("data/clean/removed.parquet").to_dicts()}
    assert (removed["s:u120"]["rule"], removed["s:u120"]["kept_id"]) == ("near_duplicate", "s:l0")
    (twin,) = (one for one in ("s:u121", "s:u122") if removed[one]["rule"] == "exact_duplicate")
    assert {twin, removed[twin]["kept_id"]} == {"s:u121", "s:u122"}
    pool = pl.read_parquet("data/clean/unlabelled.parquet")
    assert pool.columns == pl.read_parquet("data/clean/records.parquet").columns
    assert "<EMAIL>" in pool.filter(id="s:u123")["text"].item()

    before = decide()
    assert not any(part["id"].str.starts_with("s:u").any() for part in before.values())
    queue = make_queue(before["train"])
    held_out = pl.concat([before["validation"], before["test"]])["thread"].implode()
    belongs = pool.filter(pl.col("thread").is_in(held_out))["id"]
    assert set(queue["id"]) == set(pool["id"]) - set(belongs) < set(pool["id"])
    assert read_json("metrics/optional/review_queue.json")["unlabelled"]["belong_to_held_out_rows"] == len(belongs)
    assert queue["reasons"].str.extract(r'^no label yet: tfidf gives "\w+" (\d+)%$').cast(pl.Int64).is_sorted()

    first, second = queue["id"].head(2)
    lines = f"{first},label,,good", f"{second},row,keep,remove", f"{belongs[0]},label,,bad", "s:u120,label,,bad"
    after = decide(*lines)
    told = capsys.readouterr().err
    assert "not applied, since `clean` removed s:u120 (near_duplicate; s:l0 stands for it)" in told
    assert "split: 1 row(s) removed: held_out_group" in told
    given = after["train"].filter(pl.col("id").str.starts_with("s:u"))
    assert given.select("id", "label", "reviewed").rows() == [(first, "good", True)]
    assert all(after[name].filter(pl.col("id") != first)["id"].equals(before[name]["id"]) for name in SPLITS)
    assert read_json("metrics/correct.json")["unlabelled"] == {"decided": 3, "waiting": 35}
    assert not {first, second} & set(make_queue(after["train"])["id"])
    way, waits = "\n".join(history(first, Path("data"))), "\n".join(history(queue["id"][3], Path("data")))
    assert "correct: label None → 'good' by Ann on 2026-12-01, line 2\n" in way
    assert "split: train\n  a person gave its label: it trains" in way
    assert "has no label, and waits for one; `make review` shows it" in waits
    assert "split: removed by held_out_group" in history(belongs[0], Path("data"))


def test_rows_that_the_division_of_the_data_holds_out_do_not_wait() -> None:
    change("split", given_column="thread", given_values={f"t{n}": "test" if n > 5 else "train" for n in range(50)})
    clean.main()
    assert set(pl.read_parquet("data/clean/unlabelled.parquet")["thread"]) == {f"t{number}" for number in range(6)}
