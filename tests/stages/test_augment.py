import hashlib
import os
import re
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import yaml

from assay.augmentation.make_examples import REASONS
from assay.compute.device import Device
from assay.core.errors import InputError
from assay.core.outputs import read_json
from assay.core.params import load_params
from assay.embeddings.encoder import EmbedParams, embedded_texts
from stages import augment
from tests.mini_wordnet import write_mini_wordnet
from tests.own_params import change
from tests.own_process import run_python
from tests.own_results import read_outputs
from tests.template_params import sections

SYNONYM, NOISE = (
    recipe | {"share_of_rows": rows, "share_of_words": words}
    for recipe, rows, words in zip(sections(augment={})["augment"]["recipes"], (0.5, 0.4), (0.2, 0.1), strict=True)
)
PARAMS = sections(
    seed=7,
    compute={},
    clean={},
    semantic_duplicates={"min_cosine": 0.99999},
    split={},
    embed={"model": "encoder", "max_length_tokens": 32, "batch_size": 8, "last_layers": 2},
    augment={"wordnet": "wordnet", "recipes": [SYNONYM, NOISE], "max_cosine_to_held_out": 1.0, "workers": 1}
    | {"preserve": {"min_cosine_to_parent": -1.0, "probe_folds": 2, "probe_C": 1.0}},
)
IN_CHUNKS = """
from assay.augmentation import apply
from stages import augment
apply.ROWS_PER_CHUNK = 50
augment.main()
"""
"""The stage, with so few rows a chunk that workers have something to do."""
SUBJECTS = ["movie", "phone", "price", "problem", "screen", "battery", "account", "transfer"]
VERBS = ["hate", "love", "recommend", "need"]
JUDGEMENTS = ["great", "awful", "cheap", "happy", "useless", "broken"]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def rows(start: int, count: int) -> pl.DataFrame:
    """Rows `r<start>` and on, each of another text."""
    texts = [
        f"{VERBS[i % 4]} the {SUBJECTS[i % 8]} #{digest(str(i).encode())[:24]} <URL>,"
        f" it is really {JUDGEMENTS[i % 6]} today"
        for i in range(start, start + count)
    ]
    return pl.DataFrame(
        {
            "id": [f"r{i}" for i in range(start, start + count)],
            "text": texts,
            "label": ["good" if i % 2 else "bad" for i in range(start, start + count)],
            "reference_label": pl.Series([None] * count, dtype=pl.String),
            "authenticity": pl.Series(["real"] * count, dtype=pl.String),
            "label_weight": pl.int_range(count, eager=True) / count,
            "split_group": [f"r{i}" for i in range(start, start + count)],
        }
    )


@pytest.fixture(autouse=True)
def workspace(tiny_encoder: Path) -> None:
    Path("encoder").symlink_to(tiny_encoder)
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS), encoding="utf-8")
    write_mini_wordnet(Path("wordnet"))


def write_inputs(train: pl.DataFrame, validation: pl.DataFrame, test: pl.DataFrame) -> None:
    train.write_parquet("data/label_errors/train.parquet", mkdir=True)
    validation.write_parquet("data/split/validation.parquet", mkdir=True)
    # No stage that makes training data reads a label of a test row (docs/protocol.md).
    test.select("id", "text").write_parquet("data/split/test.parquet")
    embed = load_params("embed", EmbedParams)
    everything = pl.concat([train, validation, test])
    embedded, _ = embedded_texts(everything["text"].to_list(), embed, Device(torch.device("cpu"), torch.float32))
    for name, vectors in (("embeddings", embedded.embeddings), ("layers", embedded.layers)):
        column = pl.Series("embedding", vectors, dtype=pl.Array(pl.Float32, vectors.shape[1]))
        everything.select("id", column).write_parquet(f"data/embeddings/{name}.parquet", mkdir=True)


def run(
    train: pl.DataFrame, validation: pl.DataFrame, test: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, Any]]:
    write_inputs(train, validation, test)
    augment.main()
    tables, metrics = read_outputs("data/augmented", "augment")
    return tables["train"], tables["removed"], metrics


def test_stage_adds_examples_of_train_rows_only() -> None:
    train = rows(0, 60)
    out, removed, metrics = run(train, rows(100, 10), rows(200, 10))
    assert out.columns == ["id", "text", "label", "parent_id", "recipe", "seed", "authenticity", "label_weight"]
    weights = dict(train.select("id", "label_weight").rows())
    assert out["label_weight"].to_list() == [
        weights[row] for row in out.select(pl.coalesce("parent_id", "id")).to_series()
    ]
    assert out.schema["seed"] == pl.UInt64
    originals = out.filter(pl.col("parent_id").is_null())
    assert out.head(60).equals(originals)
    assert originals.select("id", "text", "label").equals(train.select("id", "text", "label"))
    assert originals.select("recipe", "seed").null_count().row(0) == (60, 60)

    new = out.tail(-60)
    assert set(originals["authenticity"]) == {"real"}
    assert set(new["authenticity"]) == {"augmented"}
    assert new.height == out["text"].n_unique() - 60
    assert sorted(new["recipe"].unique()) == ["character_noise", "synonym"]
    parents = new.join(train, left_on="parent_id", right_on="id", suffix="_of_parent")
    assert parents.height == new.height
    assert (parents["label"] == parents["label_of_parent"]).all()
    assert (parents["text"] != parents["text_of_parent"]).all()
    # Placeholders, tags and stop words are as they were.
    for text, parent in parents.select("text", "text_of_parent").iter_rows():
        pattern = re.compile(r"#\w+ <URL>, it is")
        assert pattern.findall(text) == pattern.findall(parent)

    made = metrics["per_recipe"]
    assert metrics["rows_in"] == 60 + sum(recipe["made"] for recipe in made.values())
    assert metrics["rows_out"] == out.height
    assert metrics["new_rows"] == sum(recipe["let_in"] for recipe in made.values()) == new.height
    reasons = metrics["removed"]
    assert list(reasons) == list(REASONS)
    assert metrics["rows_in"] == out.height + sum(reasons.values())
    assert removed.height == sum(reasons.values())
    assert isinstance(metrics["largest_jaccard_to_held_out"], float)
    assert set(read_json("metrics/cost/augment.json")) == {"augment_seconds", "rows_per_second"}
    pairs = pl.read_csv("data/augmented/pairs.csv")
    assert pairs.columns == ["recipe", "label", "parent_id", "before", "after", "cosine"]
    assert pairs.height == new.height
    assert (pairs["before"] != pairs["after"]).all()
    assert set(pairs["recipe"]) == {"synonym", "character_noise"}


def test_balance_raises_the_rare_label() -> None:
    change("augment", balance=1.0)
    train = rows(0, 60).with_columns(label=pl.when(pl.int_range(60) < 8).then(pl.lit("good")).otherwise(pl.lit("bad")))
    out, _, metrics = run(train, rows(100, 10), rows(200, 10))
    per_label = metrics["rows_per_label"]
    assert per_label["good"] > 0.5 * per_label["bad"]
    assert out.filter(pl.col("parent_id").is_not_null() & (pl.col("label") == "good"))["parent_id"].n_unique() <= 8


def test_examples_that_stray_from_their_source_are_removed_and_counted() -> None:
    change("augment.preserve", min_cosine_to_parent=0.999)
    _, removed, metrics = run(rows(0, 60), rows(100, 10), rows(200, 10))
    recipes = metrics["per_recipe"].values()
    assert sum(of_recipe["meaning_changed"] for of_recipe in recipes) > 0
    for of_recipe in recipes:
        assert of_recipe["made"] == of_recipe["let_in"] + sum(of_recipe[reason] for reason in REASONS)
    assert removed.filter(pl.col("rule") == "meaning_changed").height > 0


def test_a_train_row_that_says_what_a_held_out_row_says_is_an_error() -> None:
    # The same tokens to an encoder that knows no capitals, and few characters in common.
    test = rows(200, 5)
    said = "aaa bbb ccc ddd eee fff ggg hhh"
    leaked = rows(0, 20).with_columns(text=pl.when(pl.col("id") == "r4").then(pl.lit(said)).otherwise(pl.col("text")))
    test = test.with_columns(text=pl.when(pl.col("id") == "r202").then(pl.lit(said[::-1])).otherwise(pl.col("text")))
    change("semantic_duplicates", min_cosine=0.5)
    change("augment", max_cosine_to_held_out=0.5)
    with pytest.raises(InputError, match=r"near-duplicates of .* test rows; .*have a cosine of embeddings of"):
        run(leaked, rows(100, 5), test)
    assert not Path("data/augmented").exists()


def test_examples_near_a_held_out_row_are_removed() -> None:
    # The test row is far enough from the parent, and the synonym is one step nearer.
    train = rows(0, 20).with_columns(
        text=pl.when(pl.col("id") == "r3").then(pl.lit("awful awful awful awful awful phone")).otherwise("text")
    )
    test = rows(200, 5).with_columns(
        text=pl.when(pl.col("id") == "r200").then(pl.lit("dreadful awful awful awful awful phone")).otherwise("text")
    )
    change("augment", recipes=[SYNONYM | {"share_of_rows": 1.0}, NOISE], max_jaccard_to_held_out=0.5)
    out, removed, metrics = run(train, rows(100, 5), test)
    assert metrics["removed"]["near_held_out"] > 0
    assert set(removed.filter(pl.col("rule") == "near_held_out")["id"]).isdisjoint(out["id"])
    # Original rows are measured against the threshold of cleaning, not this one.
    assert out.filter(pl.col("parent_id").is_null()).height == 20


def test_a_train_row_near_a_held_out_row_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    test = rows(200, 5)
    leaked = rows(0, 20).with_columns(
        text=pl.when(pl.col("id") == "r4").then(pl.lit(test["text"][2])).otherwise(pl.col("text"))
    )
    with pytest.raises(InputError, match=r"1 train row.*'r4' and 'r202'.*similarity of 1\.000"):
        run(leaked, rows(100, 5), test)
    assert not Path("data/augmented").exists()
    # The data brings the division: it is taken as it is, and said.
    change("split", given_column="part")
    assert run(leaked, rows(100, 5), test)[2]["original_rows"] == 20
    said = capsys.readouterr().err
    assert "1 train row(s) are near-duplicates of validation or test rows" in said
    assert "the division is that of the data" in said
    change("clean", near_duplicates=None)
    change("semantic_duplicates", min_cosine=1.5)
    assert run(leaked, rows(100, 5), test)[2]["original_rows"] == 20


def test_no_recipe_leaves_the_rows_as_they_are() -> None:
    change("augment", recipes=[])
    out, removed, metrics = run(rows(0, 12), rows(100, 5), rows(200, 5))
    assert (out.height, removed.height) == (12, 0)
    assert (metrics["rows_in"], metrics["rows_out"], metrics["per_recipe"]) == (12, 12, {})


def test_ids_that_examples_would_repeat_are_refused() -> None:
    change("augment", recipes=[SYNONYM, NOISE | {"share_of_rows": 1.0}])
    train = rows(0, 12)
    with pytest.raises(InputError, match="no longer unique"):
        run(train.with_columns(id=pl.col("id").replace("r1", "r0~character_noise")), rows(100, 5), rows(200, 5))


def test_a_wordnet_that_is_not_there_is_an_error() -> None:
    change("augment", wordnet="elsewhere")
    with pytest.raises(InputError, match=r"elsewhere/data\.noun: no such file"):
        run(rows(0, 12), rows(100, 5), rows(200, 5))
    assert not Path("data/augmented").exists()


@pytest.mark.slow
def test_same_bytes_for_any_hash_seed_and_number_of_workers() -> None:
    def bytes_written() -> str:
        return digest(b"".join(file.read_bytes() for file in sorted(Path("data/augmented").iterdir())))

    # This process has a hash seed of its own.
    run(rows(0, 200), rows(300, 10), rows(400, 10))
    one_worker = bytes_written()
    change("augment", workers=2)
    run_python("-c", IN_CHUNKS, PYTHONHASHSEED="1")
    assert bytes_written() == one_worker


@pytest.mark.slow
def test_same_bytes_on_a_ray_cluster(repository: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra `ray`")
    train, validation, test = rows(0, 120), rows(300, 10), rows(400, 10)
    change("augment", recipes=[SYNONYM, NOISE | {"share_of_rows": 1.0}])
    out, _, _ = run(train, validation, test)
    change("compute", backend="ray")
    change("augment", workers=2)
    # In a process of its own, since the cluster ends with it.
    python_path = os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])
    run_python("-c", IN_CHUNKS, PYTHONPATH=python_path, RAY_USAGE_STATS_ENABLED="0")
    assert pl.read_parquet("data/augmented/train.parquet").equals(out)
    assert out.filter(pl.col("recipe") == "character_noise").height > 100


def test_ray_that_is_not_installed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    change("compute", backend="ray")
    with pytest.raises(InputError, match=r"`compute\.backend` = 'ray', but there is no package ray.*\[ray\]"):
        run(rows(0, 12), rows(100, 5), rows(200, 5))
