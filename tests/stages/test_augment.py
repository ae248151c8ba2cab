import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stages import augment
from stages.lib.errors import InputError
from stages.lib.near_duplicates import NearMatches
from tests.mini_wordnet import write_mini_wordnet

PARAMS = """
seed: 7
clean:
  near_duplicates: {shingle_unit: character, shingle_size: 5, permutations: 128, min_jaccard: 0.8}
augment:
  wordnet: wordnet
  recipes:
    - {name: synonym, share_of_rows: 0.5, share_of_words: 0.2}
    - {name: character_noise, share_of_rows: 0.4, share_of_words: 0.1}
  max_jaccard_to_held_out: 0.8
  workers: 1
"""
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
        }
    )


@pytest.fixture
def repository_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS, encoding="utf-8")
    write_mini_wordnet(Path("wordnet"))
    Path("data/label_errors").mkdir(parents=True)
    Path("data/split").mkdir(parents=True)
    return tmp_path


def write_inputs(train: pl.DataFrame, validation: pl.DataFrame, test: pl.DataFrame) -> None:
    train.write_parquet("data/label_errors/train.parquet")
    validation.write_parquet("data/split/validation.parquet")
    test.write_parquet("data/split/test.parquet")


def run(
    train: pl.DataFrame, validation: pl.DataFrame, test: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, object]]:
    write_inputs(train, validation, test)
    augment.main()
    return (
        pl.read_parquet("data/augmented/train.parquet"),
        pl.read_parquet("data/augmented/removed.parquet"),
        json.loads(Path("metrics/augment.json").read_text(encoding="utf-8")),
    )


def change_params(old: str, new: str) -> None:
    assert old in PARAMS
    Path("params.yaml").write_text(PARAMS.replace(old, new), encoding="utf-8")


def copies(**texts: tuple[str, str]) -> pl.DataFrame:
    """`id=(parent, text)`: copies as they come from a recipe."""
    return pl.DataFrame(
        [(id_, text, "good", parent, "synonym", 1) for id_, (parent, text) in texts.items()],
        schema=augment.COPIES_SCHEMA,
        orient="row",
    )


@pytest.mark.usefixtures("repository_copy")
def test_stage_adds_copies_of_train_rows_only() -> None:
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
    assert isinstance(made, dict)
    assert metrics["rows_in"] == 60 + sum(recipe["made"] for recipe in made.values())
    assert metrics["rows_out"] == out.height
    assert metrics["new_rows"] == sum(recipe["let_in"] for recipe in made.values()) == new.height
    reasons = metrics["removed"]
    assert isinstance(reasons, dict)
    assert list(reasons) == ["identical_to_parent", "duplicate", "near_held_out"]
    assert metrics["rows_in"] == out.height + sum(reasons.values())
    assert removed.height == sum(reasons.values())
    assert isinstance(metrics["largest_jaccard_to_held_out"], float)


def test_rows_are_chosen_by_a_keyed_draw() -> None:
    train = rows(0, 400)
    chosen = set(augment.plan_copies(train, "synonym", 0.25, 7)["parent_id"])
    assert len(chosen) == pytest.approx(100, abs=30)
    # Half as many rows: the draw of those that are left stays.
    fewer = set(augment.plan_copies(train.tail(200), "synonym", 0.25, 7)["parent_id"])
    assert fewer == chosen & set(train.tail(200)["id"])
    # A larger share takes more rows and leaves none; another recipe or seed takes others.
    assert chosen < set(augment.plan_copies(train, "synonym", 0.5, 7)["parent_id"])
    assert chosen != set(augment.plan_copies(train, "character_noise", 0.25, 7)["parent_id"])
    assert chosen != set(augment.plan_copies(train, "synonym", 0.25, 8)["parent_id"])
    assert augment.plan_copies(train, "synonym", 1.0, 7).height == 400


def test_copies_are_sifted_by_the_first_reason_that_fits() -> None:
    train = pl.DataFrame({"id": ["a", "b"], "text": ["one", "two"]})
    made = copies(
        same=("a", "one"),
        other=("a", "two"),
        new=("a", "three"),
        again=("b", "three"),
        close=("b", "four"),
        far=("b", "5"),
    )
    sifted = augment.sift_copies(made, train, pl.Series([0.9, 0.9, 0.0, 0.9, 0.8, 0.79]), 0.8)
    assert sifted.kept["id"].to_list() == ["new", "far"]
    assert sifted.kept.columns == made.columns
    assert sifted.removed.rows() == [
        ("same", "identical_to_parent", "one", None),
        ("other", "duplicate", "two", None),
        ("again", "duplicate", "three", None),
        ("close", "near_held_out", "four", None),
    ]


@pytest.mark.usefixtures("repository_copy")
def test_copies_near_a_held_out_row_are_removed() -> None:
    # The test row is far enough from the parent, and the synonym is one step nearer.
    train = rows(0, 20).with_columns(
        text=pl.when(pl.col("id") == "r3").then(pl.lit("awful awful awful awful awful phone")).otherwise("text")
    )
    test = rows(200, 5).with_columns(
        text=pl.when(pl.col("id") == "r200").then(pl.lit("dreadful awful awful awful awful phone")).otherwise("text")
    )
    change_params("share_of_rows: 0.5, share_of_words: 0.2", "share_of_rows: 1.0, share_of_words: 0.2")
    change_params("max_jaccard_to_held_out: 0.8", "max_jaccard_to_held_out: 0.5")
    out, removed, metrics = run(train, rows(100, 5), test)
    assert isinstance(metrics["removed"], dict)
    assert metrics["removed"]["near_held_out"] > 0
    assert set(removed.filter(pl.col("rule") == "near_held_out")["id"]).isdisjoint(out["id"])
    # Original rows are measured against the threshold of cleaning, not this one.
    assert out.filter(pl.col("parent_id").is_null()).height == 20


@pytest.mark.usefixtures("repository_copy")
def test_a_train_row_near_a_held_out_row_is_an_error() -> None:
    test = rows(200, 5)
    leaked = rows(0, 20).with_columns(
        text=pl.when(pl.col("id") == "r4").then(pl.lit(test["text"][2])).otherwise(pl.col("text"))
    )
    with pytest.raises(InputError, match=r"1 train row.*'r4' and 'r202'.*similarity of 1\.000"):
        run(leaked, rows(100, 5), test)
    assert not Path("data/augmented").exists()


def test_no_leakage_passes() -> None:
    train, held_out = rows(0, 2), rows(2, 2)
    closest = NearMatches(np.array([0.79, 0.0]), np.array([1, -1]))
    augment.refuse_leakage(train, held_out, closest, 0.8)
    augment.refuse_leakage(train.clear(), held_out, NearMatches(np.zeros(0), np.zeros(0, dtype=np.int64)), 0.8)


@pytest.mark.usefixtures("repository_copy")
def test_no_recipe_leaves_the_rows_as_they_are() -> None:
    recipes = PARAMS[PARAMS.index("  recipes:") : PARAMS.index("  max_jaccard")]
    change_params(recipes, "  recipes: []\n")
    out, removed, metrics = run(rows(0, 12), rows(100, 5), rows(200, 5))
    assert (out.height, removed.height) == (12, 0)
    assert (metrics["rows_in"], metrics["rows_out"], metrics["per_recipe"]) == (12, 12, {})


@pytest.mark.usefixtures("repository_copy")
def test_ids_that_copies_would_repeat_are_refused() -> None:
    change_params("share_of_rows: 0.4", "share_of_rows: 1.0")
    train = rows(0, 12)
    with pytest.raises(InputError, match="no longer unique"):
        run(train.with_columns(id=pl.col("id").replace("r1", "r0~character_noise")), rows(100, 5), rows(200, 5))


@pytest.mark.usefixtures("repository_copy")
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: synonym", "name: translate", r"augment\.recipes\.0\.name` = 'translate'.*synonym"),
        ("name: synonym", "name: character_noise", "a recipe is named twice"),
        ("share_of_rows: 0.5", "share_of_rows: 1.5", r"share_of_rows` = 1\.5"),
        ("workers: 1", "workers: 0", r"augment\.workers` = 0"),
        ("wordnet: wordnet", "wordnet: elsewhere", r"elsewhere/data\.noun: no such file"),
    ],
)
def test_bad_params(old: str, new: str, message: str) -> None:
    change_params(old, new)
    with pytest.raises(InputError, match=message):
        run(rows(0, 12), rows(100, 5), rows(200, 5))
    assert not Path("data/augmented").exists()


@pytest.mark.usefixtures("repository_copy")
def test_same_bytes_for_any_hash_seed_and_number_of_workers(repository: Path) -> None:
    def bytes_written() -> str:
        return digest(b"".join(file.read_bytes() for file in sorted(Path("data/augmented").iterdir())))

    # Two chunks of each recipe; this process has a hash seed of its own.
    run(rows(0, 200), rows(300, 10), rows(400, 10))
    one_worker = bytes_written()
    change_params("workers: 1", "workers: 2")
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": str(repository)}
    subprocess.run([sys.executable, "-m", "stages.augment"], check=True, env=environment)
    assert bytes_written() == one_worker
