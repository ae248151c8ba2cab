import hashlib
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
import yaml

from assay.core.errors import InputError
from stages import label_errors
from tests.own_cases import read_cases
from tests.own_params import change
from tests.own_process import run_python
from tests.own_results import read_outputs
from tests.template_params import sections

MODELS = {"linear": {"Cs": [1.0, 10.0], "weight": 1.0}, "neighbours": {"neighbours": 5, "weight": 1.0}}
PARAMS = sections(
    seed=7,
    compute={},
    label_errors={"models": dict.fromkeys(("kernel", "words", "finetuned")) | MODELS, "score": "self_confidence"}
    | {"filter_by": "predicted_neq_given", "min_relabel_probability": 0.6},
)
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
            rows.append((id_, f"text {id_}", (wrong or {}).get(id_, name), name, id_, "s"))
            vectors.append(random.normal(size=DIMENSIONS) * 0.3 + 3 * np.eye(DIMENSIONS)[i])
    columns = ("id", "text", "label", "reference_label", "split_group", "source")
    train = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
    embedding = pl.Series("embedding", np.array(vectors, dtype=np.float32), dtype=pl.Array(pl.Float32, DIMENSIONS))
    table = pl.DataFrame({"id": train["id"], "embedding": embedding})
    # Rows of other splits, and another order.
    return train, pl.concat([table.with_columns(pl.format("held-out:{}", "id").alias("id")), table]).reverse()


@pytest.fixture(autouse=True)
def workspace() -> None:
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS), encoding="utf-8")


def run(
    train: pl.DataFrame, embeddings: pl.DataFrame, validation: pl.DataFrame | None = None
) -> tuple[dict[str, pl.DataFrame], dict[str, Any]]:
    train.write_parquet("data/split/train.parquet", mkdir=True)
    (train.head(0) if validation is None else validation).write_parquet("data/split/validation.parquet")
    embeddings.write_parquet("data/embeddings/embeddings.parquet", mkdir=True)
    embeddings.write_parquet("data/embeddings/layers.parquet")
    label_errors.main()
    return read_outputs("data/label_errors", "label_errors")


WRONG = {"a0": "b", "a7": "c", "b3": "a", "c5": "b"}


def test_planted_label_errors_are_found_dropped_and_graded() -> None:
    train, embeddings = clusters({"a": 40, "b": 40, "c": 40}, WRONG)
    out, metrics = run(train, embeddings)
    assert out["removed"].rows() == [(id_, "label_error", f"text {id_}", None) for id_ in WRONG]
    assert out["train"]["id"].to_list() == [id_ for id_ in train["id"] if id_ not in WRONG]
    assert out["train"].columns == [*train.columns, "label_quality", "label_weight"]
    assert out["train"]["label_weight"].unique().to_list() == [1.0]
    found = out["scores"].filter("is_label_error")
    assert dict(found.select("id", "suggested_label").iter_rows()) == {id_: id_[0] for id_ in WRONG}
    assert out["scores"].columns[-3:] == ["probability_a", "probability_b", "probability_c"]
    assert out["scores"]["id"].equals(train["id"])
    expected = {
        "rows_in": 120, "rows_out": 116, "removed": {"label_error": 4}, "relabelled": 0, "folds": 5,
        "rows_not_judged": 0, "rows_reviewed": 0, "label_errors": 4, "noise_rate_of_kept_rows": 0.0,
    }  # fmt: skip
    assert {key: metrics[key] for key in expected} == expected
    grade = metrics["grade"]
    assert (grade["rows"], grade["noise_rate"], grade["precision"], grade["recall"]) == (120, 0.033333, 1.0, 1.0)
    perfect = {
        "average_precision": 1.0, "auroc": 1.0, "precision_at_1pct": 1.0, "recall_at_1pct": 0.25,
        "precision_at_5pct": 0.666667, "recall_at_5pct": 1.0, "precision_at_10pct": 0.333333, "recall_at_10pct": 1.0,
    }  # fmt: skip
    for name in ("label_quality", "self_confidence", "normalized_margin", "pairwise_confidence", "rank_average"):
        assert grade[name] == perfect
    # The text is all there is, and tells the clusters apart; each of the four wrong labels contradicts it.
    assert metrics["out_of_fold_text_accuracy"] == pytest.approx(116 / 120, abs=1e-6)
    assert (list(grade["baselines"]), grade["differences"]) == (["random"], {})
    assert grade["per_source"]["s"] == {"rows": 120, "noise_rate": 0.033333} | perfect
    curve = pl.read_csv("metrics/plots/label_errors/precision_recall.csv")
    assert curve.filter(pl.col("score") == "label_quality").sort("recall").row(-1)[1] == 1.0


@pytest.mark.parametrize("action", ["keep", "review"])
def test_keep_and_review_change_nothing_and_still_score(action: str) -> None:
    change("label_errors", action=action)
    train, embeddings = clusters({"a": 40, "b": 40, "c": 40}, WRONG)
    out, metrics = run(train, embeddings)
    assert out["train"].drop("label_quality", "label_weight").equals(train)
    assert out["removed"].is_empty()
    assert metrics["label_errors"] == 4
    assert metrics["removed"] == {"label_error": 0}


def test_relabel_gives_the_suggested_label_where_it_is_sure() -> None:
    change("label_errors", action="relabel")
    train, embeddings = clusters({"a": 40, "b": 40, "c": 40}, WRONG)
    out, metrics = run(train, embeddings)
    assert out["changed"].rows() == [(id_, "label_error", label, id_[0]) for id_, label in WRONG.items()]
    assert out["train"]["label"].equals(train["reference_label"].alias("label"))
    assert (metrics["relabelled"], metrics["rows_out"]) == (4, 120)
    change("label_errors", min_relabel_probability=1.0)
    out, metrics = run(train, embeddings)
    assert (metrics["relabelled"], out["changed"].height, metrics["label_errors"]) == (0, 0, 4)


def test_weight_lets_doubtful_rows_count_less() -> None:
    change("label_errors", action="weight")
    train, embeddings = clusters({"a": 40, "b": 40, "c": 40}, WRONG)
    weights = run(train, embeddings)[0]["train"]
    assert weights.height == 120
    assert weights["label_weight"].mean() == pytest.approx(1.0)
    doubtful = weights.filter(pl.col("id").is_in(list(WRONG)))["label_weight"]
    assert cast("float", doubtful.max()) < 0.3


def test_a_row_that_a_person_reviewed_is_left_alone() -> None:
    train, embeddings = clusters({"a": 40, "b": 40, "c": 40}, WRONG)
    out, metrics = run(train.with_columns(reviewed=pl.col("id") == "a0"), embeddings)
    assert out["removed"]["id"].to_list() == ["a7", "b3", "c5"]
    assert (metrics["rows_reviewed"], metrics["label_errors"]) == (1, 3)


def test_the_reference_label_grades_and_nothing_else() -> None:
    train, embeddings = clusters({"a": 40, "b": 40, "c": 40}, WRONG)
    out, _ = run(train, embeddings)
    without, metrics = run(train.with_columns(reference_label=pl.lit(None, pl.String)), embeddings)
    assert "grade" not in metrics
    assert "noise_rate_of_kept_rows" not in metrics
    assert without["scores"].equals(out["scores"])
    assert without["removed"].equals(out["removed"])


def test_quality_cap_lets_rows_off() -> None:
    change("label_errors", max_label_quality=0.000001)
    out, metrics = run(*clusters({"a": 40, "b": 40, "c": 40}, WRONG))
    assert (metrics["label_errors"], out["removed"].height) == (0, 0)
    grade = metrics["grade"]
    assert "precision" not in grade
    assert grade["recall"] == 0.0


def test_many_small_labels() -> None:
    # As BANKING77: most labels have fewer rows than there are folds; each model must know the label that it judges.
    change("label_errors", filter_by="both")
    sizes = {f"l{i}": 3 if i % 2 else 6 for i in range(DIMENSIONS)}
    out, metrics = run(*clusters(sizes))
    assert metrics["rows_not_judged"] == 0
    assert (metrics["label_errors"], out["train"].height) == (0, sum(sizes.values()))


def test_a_label_in_one_fold_is_not_judged(capsys: pytest.CaptureFixture[str]) -> None:
    train, embeddings = clusters({"a": 20, "b": 20, "c": 1, "d": 4})
    # The four rows of d are near-duplicates: one group, so one fold.
    group = pl.when(pl.col("label") == "d").then(pl.lit("d0")).otherwise(pl.col("split_group"))
    out, metrics = run(train.with_columns(split_group=group), embeddings)
    assert metrics["rows_not_judged"] == 5
    not_judged = out["scores"].filter(pl.col("label_quality").is_null())
    assert not_judged["label"].to_list() == ["c", "d", "d", "d", "d"]
    assert not_judged.select("suggested_label", "probability_a").null_count().row(0) == (5, 5)
    assert not not_judged["is_label_error"].any()
    assert out["train"].height == train.height
    assert "5 row(s) have no scores" in capsys.readouterr().err


def test_the_detector_stands_beside_baselines_that_know_as_much() -> None:
    """Of rows with a rating, all of 1 are wrong; without the rating, those of label `a` are wrong more often."""
    wrong = {f"a{row}": "b" for row in range(60)} | {f"b{row}": "a" for row in range(40)}
    train, embeddings = clusters({"a": 200, "b": 200, "c": 50}, wrong)
    train = train.with_columns(given_rating=pl.when(pl.col("id").is_in(list(wrong))).then(1.0).otherwise(-3.0))
    grade = run(train, embeddings, train)[1]["grade"]
    of_baselines = {name: graded["average_precision"] for name, graded in grade["baselines"].items()}
    # A tie counts as one threshold. Of labels a, b and c, 40 of 180, 60 of 220 and none of 50 are wrong.
    expected = 60 / 100 * 60 / 220 + 40 / 100 * 100 / 400
    assert of_baselines["label_error_rate"] == pytest.approx(expected, abs=1e-6)
    assert of_baselines["evidence_error_rate"] == of_baselines["evidence_magnitude"] == 1.0
    assert of_baselines["random"] == pytest.approx(100 / 450, abs=0.02)
    assert list(grade["differences"]) == [
        "without_evidence_minus_label_error_rate",
        "label_quality_minus_evidence_error_rate",
    ]
    difference = grade["differences"]["without_evidence_minus_label_error_rate"]
    found = grade["without_evidence"]["average_precision"] - of_baselines["label_error_rate"]
    assert difference["average_precision"] == pytest.approx(found, abs=2e-6)
    assert 0 < difference["average_precision_ci95_low"] < found < difference["average_precision_ci95_high"]
    assert "average_precision_ci95_low" not in grade["baselines"]["evidence_error_rate"]


def test_evidence_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    run(*clusters({"a": 10, "b": 10}))
    assert "has no column `given_rating` (`label_errors.evidence`)" in capsys.readouterr().err


@pytest.mark.parametrize(("rows_of", "without", "filter_by", "message"), read_cases(__file__)["what_is_wrong_is_named"])
def test_what_is_wrong_is_named(rows_of: dict[str, int], without: str, filter_by: str, message: str) -> None:
    change("label_errors", filter_by=filter_by)
    train, embeddings = clusters(rows_of)
    with pytest.raises(InputError, match=message):
        run(train, embeddings.filter(pl.col("id") != without))
    assert not Path("data/label_errors").exists()


@pytest.mark.slow
def test_same_bytes_for_any_hash_seed_and_number_of_threads() -> None:
    run(*clusters({"a": 40, "b": 40, "c": 40}, WRONG))
    digests = set()
    for hash_seed, threads in (("1", "1"), ("2", "2")):
        more = {"PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        run_python("-m", "stages.label_errors", cwd=None, status=0, **more)
        files = sorted(Path("data/label_errors").iterdir())
        digests.add(hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest())
    assert len(digests) == 1
