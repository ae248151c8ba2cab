import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from stages import label_errors
from stages.lib.embedding_table import embeddings_of
from stages.lib.errors import InputError

PARAMS = """
seed: 7
label_errors: {folds: 5, l2_strength: 0.1, filter_by: predicted_neq_given, max_label_quality: 0.5, action: drop}
"""
DIMENSIONS = 8


def clusters(rows_of: dict[str, int], wrong: dict[str, str] | None = None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Train rows whose embeddings lie about their true label's centre, and the embeddings.

    `wrong` gives rows, such as `a0`, another label than their true one.
    """
    random = np.random.default_rng(1)
    names = sorted(rows_of)
    rows, vectors = [], []
    for i, name in enumerate(names):
        for j in range(rows_of[name]):
            id_ = f"{name}{j}"
            rows.append((id_, f"text {id_}", (wrong or {}).get(id_, name), name, id_))
            vectors.append(random.normal(size=DIMENSIONS) * 0.3 + 3 * np.eye(DIMENSIONS)[i])
    columns = ("id", "text", "label", "reference_label", "semantic_group")
    train = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
    embedding = pl.Series("embedding", np.array(vectors, dtype=np.float32), dtype=pl.Array(pl.Float32, DIMENSIONS))
    table = pl.DataFrame({"id": train["id"], "embedding": embedding})
    # Rows of other splits, and another order.
    return train, pl.concat([table.with_columns(pl.format("held-out:{}", "id").alias("id")), table]).reverse()


def train_embeddings(train: pl.DataFrame, embeddings: pl.DataFrame) -> NDArray[np.float64]:
    return embeddings_of(train["id"], embeddings, label_errors.TRAIN).astype(np.float64)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS, encoding="utf-8")
    Path("data/split").mkdir(parents=True)
    Path("data/embeddings").mkdir(parents=True)
    return tmp_path


def run(train: pl.DataFrame, embeddings: pl.DataFrame) -> tuple[dict[str, pl.DataFrame], dict[str, object]]:
    train.write_parquet("data/split/train.parquet")
    embeddings.write_parquet("data/embeddings/embeddings.parquet")
    label_errors.main()
    return (
        {name: pl.read_parquet(f"data/label_errors/{name}.parquet") for name in ("train", "scores", "removed")},
        json.loads(Path("metrics/label_errors.json").read_text(encoding="utf-8")),
    )


def change_params(old: str, new: str) -> None:
    Path("params.yaml").write_text(PARAMS.replace(old, new), encoding="utf-8")


def codes(train: pl.DataFrame) -> NDArray[np.int64]:
    return (train["label"].rank("dense").cast(pl.Int64) - 1).to_numpy()


WRONG = {"a0": "b", "a7": "c", "b3": "a", "c5": "b"}


@pytest.mark.usefixtures("repository")
def test_planted_label_errors_are_found_dropped_and_graded() -> None:
    train, embeddings = clusters({"a": 40, "b": 40, "c": 40}, WRONG)
    out, metrics = run(train, embeddings)
    assert out["removed"].rows() == [(id_, "label_error", f"text {id_}", None) for id_ in WRONG]
    assert out["train"]["id"].to_list() == [id_ for id_ in train["id"] if id_ not in WRONG]
    assert out["train"].columns == [*train.columns, "label_quality"]
    found = out["scores"].filter("is_label_error")
    assert dict(found.select("id", "suggested_label").iter_rows()) == {id_: id_[0] for id_ in WRONG}
    assert out["scores"].columns[5:] == ["probability_a", "probability_b", "probability_c"]
    assert out["scores"]["id"].equals(train["id"])
    expected = {
        "rows_in": 120, "rows_out": 116, "removed": {"label_error": 4}, "folds": 5, "rows_not_judged": 0,
        "label_errors": 4, "noise_rate": 0.033333, "precision": 1.0, "recall": 1.0,
        "average_precision_self_confidence": 1.0, "auroc_self_confidence": 1.0,
        "average_precision_normalized_margin": 1.0, "noise_rate_of_kept_rows": 0.0,
    }  # fmt: skip
    assert {key: metrics[key] for key in expected} == expected


@pytest.mark.usefixtures("repository")
def test_keep_drops_nothing_and_still_scores() -> None:
    change_params("action: drop", "action: keep")
    train, embeddings = clusters({"a": 40, "b": 40, "c": 40}, WRONG)
    out, metrics = run(train, embeddings)
    assert out["train"].drop("label_quality").equals(train)
    assert out["removed"].is_empty()
    assert (metrics["label_errors"], metrics["label_errors_kept"]) == (4, 4)
    assert metrics["removed"] == {"label_error": 0}


@pytest.mark.usefixtures("repository")
def test_the_reference_label_grades_and_nothing_else() -> None:
    train, embeddings = clusters({"a": 40, "b": 40, "c": 40}, WRONG)
    out, _ = run(train, embeddings)
    without, metrics = run(train.with_columns(reference_label=pl.lit(None, pl.String)), embeddings)
    for key in ("noise_rate", "precision", "recall", "noise_rate_of_kept_rows", "auroc_self_confidence"):
        assert key not in metrics
    assert without["scores"].equals(out["scores"])
    assert without["removed"].equals(out["removed"])


@pytest.mark.usefixtures("repository")
def test_quality_cap_lets_rows_off() -> None:
    change_params("max_label_quality: 0.5", "max_label_quality: 0.000001")
    out, metrics = run(*clusters({"a": 40, "b": 40, "c": 40}, WRONG))
    assert (metrics["label_errors"], out["removed"].height) == (0, 0)
    assert "precision" not in metrics
    assert metrics["recall"] == 0.0


@pytest.mark.usefixtures("repository")
def test_many_small_labels() -> None:
    # As BANKING77: most labels have fewer rows than there are folds; each model must know the label that it judges.
    change_params("filter_by: predicted_neq_given", "filter_by: both")
    sizes = {f"l{i}": 3 if i % 2 else 6 for i in range(DIMENSIONS)}
    out, metrics = run(*clusters(sizes))
    assert metrics["rows_not_judged"] == 0
    assert (metrics["label_errors"], out["train"].height) == (0, sum(sizes.values()))


@pytest.mark.usefixtures("repository")
def test_a_label_in_one_fold_is_not_judged(capsys: pytest.CaptureFixture[str]) -> None:
    train, embeddings = clusters({"a": 20, "b": 20, "c": 1, "d": 4})
    # The four rows of d are near-duplicates: one group, so one fold.
    group = pl.when(pl.col("label") == "d").then(pl.lit("d0")).otherwise(pl.col("semantic_group"))
    out, metrics = run(train.with_columns(semantic_group=group), embeddings)
    assert metrics["rows_not_judged"] == 5
    not_judged = out["scores"].filter(pl.col("label_quality").is_null())
    assert not_judged["label"].to_list() == ["c", "d", "d", "d", "d"]
    assert not_judged.select("suggested_label", "probability_a").null_count().row(0) == (5, 5)
    assert not not_judged["is_label_error"].any()
    assert out["train"].height == train.height
    assert "5 row(s) were not judged" in capsys.readouterr().err


def test_near_duplicates_are_in_one_fold() -> None:
    # Each pair of rows has one point and both labels. With the other row in the fitted folds, a row would get
    # the other's label; with the pair held out, its own cluster decides.
    random = np.random.default_rng(2)
    points = random.normal(size=(30, 4))
    embeddings = np.repeat(points, 2, axis=0)
    labels = np.tile([0, 1], 30)
    grouped = label_errors.out_of_fold_probabilities(embeddings, labels, np.repeat(np.arange(30), 2), 5, 100.0, 3)
    assert grouped.probabilities[::2] == pytest.approx(grouped.probabilities[1::2])


def test_probabilities_are_out_of_fold() -> None:
    # Labels without any relation to the embeddings: a model that had seen a row would know its label.
    random = np.random.default_rng(4)
    embeddings, labels = random.normal(size=(60, 100)), random.integers(0, 2, size=60)
    result = label_errors.out_of_fold_probabilities(embeddings, labels, np.arange(60), 5, 100.0, 3)
    assert result.probabilities.sum(axis=1) == pytest.approx(np.ones(60))
    assert (result.probabilities.argmax(axis=1) == labels).mean() < 0.7


@pytest.mark.parametrize(("rows", "folds"), [(3, 3), (2, 2)])
def test_fewer_folds_where_no_label_has_as_many_rows(rows: int, folds: int) -> None:
    train, embeddings = clusters({"a": rows, "b": rows})
    vectors = train_embeddings(train, embeddings)
    result = label_errors.out_of_fold_probabilities(vectors, codes(train), np.arange(train.height), 5, 1.0, 3)
    assert result.folds == folds
    assert not np.isnan(result.probabilities).any()


def test_one_row_per_label_cannot_be_judged() -> None:
    train, embeddings = clusters({"a": 1, "b": 1, "c": 1})
    vectors = train_embeddings(train, embeddings)
    result = label_errors.out_of_fold_probabilities(vectors, codes(train), np.arange(3), 5, 1.0, 3)
    assert result.folds == 0
    findings = label_errors.find_label_errors(codes(train), result.probabilities, "both", 1.0)
    assert not findings.is_label_error.any()


def test_no_label_dies_out() -> None:
    scores = pl.DataFrame(
        {
            "id": ["a0", "a1", "a2", "a3", "a4", "b0", "b1", "c0", "c1", "c2", "c3", "c4"],
            "label": ["a"] * 5 + ["b"] * 2 + ["c"] * 5,
            "label_quality": [0.5, 0.1, 0.4, 0.2, 0.3, 0.1, 0.2, 0.1, 0.9, 0.9, 0.9, 0.9],
            "is_label_error": [True] * 7 + [True] + [False] * 4,
        }
    )
    # The best three of a stay; b has only two; c has room for its one.
    assert sorted(label_errors.rows_to_drop(scores, 3)["id"]) == ["a1", "a3", "c0"]


def test_grades_of_a_worked_example() -> None:
    is_wrong = np.array([True, False, True, False, False])
    flagged = np.array([True, True, False, False, False])
    grades = label_errors.grade(is_wrong, flagged, {"quality": np.array([0.1, 0.2, 0.3, 0.4, 0.5])})
    # Ranked by quality: wrong, right, wrong, right, right. AP = (1/1 + 2/3) / 2; 5 of 6 pairs are in order.
    assert grades == {
        "noise_rate": 0.4,
        "precision": 0.5,
        "recall": 0.5,
        "average_precision_quality": pytest.approx(5 / 6),
        "auroc_quality": pytest.approx(5 / 6),
    }
    assert label_errors.grade(np.zeros(2, dtype=bool), np.zeros(2, dtype=bool), {"q": np.ones(2)}) == {
        "noise_rate": 0.0
    }
    assert label_errors.grade(np.zeros(0, dtype=bool), np.zeros(0, dtype=bool), {}) == {}


@pytest.mark.usefixtures("repository")
def test_a_row_without_an_embedding_is_named() -> None:
    train, embeddings = clusters({"a": 10, "b": 10})
    with pytest.raises(InputError, match=r"no embedding for 1 row.*'a4'; run `embed`"):
        run(train, embeddings.filter(pl.col("id") != "a4"))
    assert not Path("data/label_errors").exists()


@pytest.mark.usefixtures("repository")
def test_one_label_is_an_error() -> None:
    with pytest.raises(InputError, match="fewer than two labels"):
        run(*clusters({"a": 10}))


@pytest.mark.usefixtures("repository")
def test_a_wrong_param_is_named() -> None:
    change_params("filter_by: predicted_neq_given", "filter_by: magic")
    with pytest.raises(InputError, match=r"label_errors\.filter_by` = 'magic'.*low_self_confidence"):
        run(*clusters({"a": 10, "b": 10}))


@pytest.mark.usefixtures("repository")
def test_same_bytes_for_any_hash_seed_and_number_of_threads() -> None:
    run(*clusters({"a": 40, "b": 40, "c": 40}, WRONG))
    digests = set()
    for hash_seed, threads in (("1", "1"), ("2", "2")):
        environment = os.environ | {
            "PYTHONHASHSEED": hash_seed,
            "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "PYTHONPATH": str(Path(label_errors.__file__).parents[1]),
        }
        subprocess.run([sys.executable, "-m", "stages.label_errors"], check=True, env=environment)
        files = sorted(Path("data/label_errors").iterdir())
        digests.add(hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest())
    assert len(digests) == 1
