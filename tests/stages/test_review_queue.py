import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from assay.classifiers.baselines import save_baseline, tfidf
from assay.core.errors import InputError
from assay.core.outputs import read_json
from assay.core.skipped import LEFT_OUT_FILE
from assay.duplicates.kept_rows import meaning_marks
from assay.embeddings.table import EMBEDDINGS
from assay.fine_tuning.params import Tfidf
from assay.human_review.queue import build_list, fuse_lists, list_conflicts, list_disagreements, show_percent
from stages import review_queue
from tests.own_process import run_main

PARAMS = """
compute: {device: cpu, precision: float32, threads: 1, processes: 1, checkpoint_seconds: 600.0, backend: processes}
label_errors: {action: drop}
approaches: [tfidf, probe, majority]
review_queue: {rows: 10, test_rows: 2, neighbours: 2, min_confidence: 0.5, batch_size: 8}
semantic_duplicates: {min_cosine: 0.9999}
split: {group_column: null}
"""
GOOD, BAD = "good great love it", "bad awful hate it"
Row = tuple[str, str, str, bool]
TRAIN: list[Row] = [
    *((f"g{number}", f"{GOOD} {number}", "good", False) for number in range(6)),
    *((f"b{number}", f"{BAD} {number}", "bad", False) for number in range(6)),
    ("seen", f"{GOOD} seen", "bad", True),
]
VALIDATION: list[Row] = [("v1", GOOD, "bad", False), ("v2", BAD, "bad", False), ("v3", GOOD, "bad", True)]
TEST: list[Row] = [("t1", GOOD, "bad", False)]


def frame(rows: list[Row]) -> pl.DataFrame:
    columns = {"id": pl.String, "text": pl.String, "label": pl.String, "reviewed": pl.Boolean}
    return pl.DataFrame(rows, schema=columns, orient="row").with_columns(
        near_duplicate_group="id",
        source=pl.lit("s"),
        # What a queue must not look at, but of test rows.
        reference_label=pl.when(~pl.col("id").str.starts_with("t")).then(pl.lit("secret")),
    )


@pytest.fixture(autouse=True)
def workspace() -> None:
    Path("params.yaml").write_text(PARAMS, encoding="utf-8")
    for folder in ("split", "label_errors", "annotation_qa", "clean", "embeddings"):
        Path("data", folder).mkdir(parents=True)
    Path("models/finetuned/tfidf").mkdir(parents=True)
    for name, rows in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
        frame(rows).write_parquet(f"data/split/{name}.parquet")
    learnt = frame(TRAIN).filter(~pl.col("reviewed"))
    model = tfidf(Tfidf(method="tfidf", max_word_ngram=1, min_document_frequency=1, C=100.0)).fit(
        learnt["text"].to_list(), learnt["label"].to_list()
    )
    save_baseline(model, Path("models/finetuned/tfidf"))
    every = [row[0] for row in TRAIN + VALIDATION + TEST]
    vectors = np.array(
        [[1.0, number / 10] if one[0] in "gvs" else [number / 10, 1.0] for number, one in enumerate(every)]
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    embedding = pl.Series("embedding", vectors.astype(np.float32), dtype=pl.Array(pl.Float32, 2))
    pl.DataFrame({"id": every, "embedding": embedding}).write_parquet("data/embeddings/embeddings.parquet")
    frame([]).write_parquet("data/corrected/unlabelled.parquet", mkdir=True)
    write_predictions({})
    write_findings(scores=[("g0", "good", "bad", 0.03, True, 0.91), ("seen", "bad", "good", 0.01, True, 0.01)])


def write_predictions(good: dict[str, list[float]], decided: list[str] = []) -> None:  # noqa: B006
    """What each approach gives `good` on the test rows, which are `bad`; by default what is right."""
    test = pl.read_parquet("data/split/test.parquet")
    for name in ("tfidf", "probe", "majority"):
        folder = Path("data/predictions", name)
        folder.mkdir(parents=True, exist_ok=True)
        share = pl.Series(good.get(name, [0.9 if name == "majority" else 0.1 / n for n in range(1, test.height + 1)]))
        test.select(
            "id",
            target_label=pl.coalesce("reference_label", "label"),
            predicted_label=pl.when(share > 0.5).then(pl.lit("good")).otherwise(pl.lit("bad")),
            probability_bad=1 - share,
            probability_good=share,
        ).write_parquet(folder / "predictions.parquet")
    Path("data/corrected").mkdir(exist_ok=True)
    pl.DataFrame({"id": decided}, schema={"id": pl.String}).write_parquet("data/corrected/changed.parquet")


def write_findings(
    scores: list[tuple[str, str, str | None, float | None, bool, float]] = [],  # noqa: B006
    disputed: dict[str, float] | None = None,
    ratings: list[tuple[str, str]] = [],  # noqa: B006
) -> None:
    table = pl.DataFrame(
        [(*row, None if row[3] is None else 1 - row[5]) for row in scores],
        schema={
            "id": pl.String,
            "label": pl.String,
            "suggested_label": pl.String,
            "label_quality": pl.Float64,
            "is_label_error": pl.Boolean,
            "probability_bad": pl.Float64,
            "probability_good": pl.Float64,
        },
        orient="row",
    )
    table.write_parquet("data/label_errors/scores.parquet")
    pl.DataFrame(
        {"id": list(disputed or {}), "disagreement": list((disputed or {}).values())},
        schema={"id": pl.String, "disagreement": pl.Float64},
    ).with_columns(consensus_label=pl.lit("secret")).write_parquet("data/annotation_qa/disagreement.parquet")
    pl.DataFrame(ratings, schema={"id": pl.String, "label": pl.String}, orient="row").with_columns(
        annotator=pl.lit("1"), rating=pl.lit(1.0)
    ).write_parquet("data/clean/ratings.parquet")


def run() -> tuple[list[dict[str, str]], dict[str, Any]]:
    run_main(review_queue, "tfidf")
    with Path("data/review/queue.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return rows, read_json("metrics/optional/review_queue.json")


def test_each_row_says_why_it_is_there() -> None:
    votes = [("b1", "bad")] * 3 + [("b1", "good")] * 2 + [("g0", "bad"), ("t1", "bad"), ("t1", "good")]
    write_findings(
        [("g0", "good", "bad", 0.03, True, 0.91), ("g1", "good", "bad", 0.2, False, 0.8)],
        {"t1": 0.9, "b1": 0.8, "b2": 0.0, "seen": 0.7},
        votes,
    )
    rows, metrics = run()
    assert [(row["rank"], row["id"], row["split"], row["label"], row["suggested_label"]) for row in rows] == [
        ("1", "g0", "train", "good", "bad"),
        ("2", "v1", "validation", "bad", "good"),
        ("3", "b1", "train", "bad", ""),
    ]
    assert list(rows[0]) == list(review_queue.COLUMNS)
    assert rows[0]["reasons"] == 'label error: the model gives "good" 9% and "bad" 91%'
    assert rows[1]["reasons"].startswith('confident mistake on validation: tfidf gives "good" ')
    assert rows[2]["reasons"] == "annotators disagree: 3 bad, 2 good"
    assert {row["score"] for row in rows} == {"0.016393"}
    assert "secret" not in Path("data/review/queue.csv").read_text(encoding="utf-8")
    del metrics["run_id"]
    nothing = {"conflict": 0, "suspected_test_error": 0}
    assert metrics == (
        {"rows": 3, "rows_with_suggested_label": 2}
        | {"contradicted_test_rows": 0}
        | {"rows_by_reason": dict.fromkeys(("label_error", "confident_mistake", "disagreement"), 1) | nothing}
    )


def test_a_test_row_and_a_reviewed_row_are_never_in_it() -> None:
    write_findings(
        [("seen", "bad", "good", 0.01, True, 0.01)],
        {"t1": 0.9, "seen": 0.8, "v3": 0.7},
        [(one, label) for one in ("t1", "seen", "v3") for label in ("bad", "good")],
    )
    assert [row["id"] for row in run()[0]] == ["v1"]


def test_test_rows_that_all_contradict_are_shown_without_what_would_lead_a_person() -> None:
    ids = [f"t{number}" for number in range(5)]
    # Scored by the reference label where there is one.
    rows = frame([(name, GOOD, "good" if name == "t1" else "bad", False) for name in ids])
    rows = rows.with_columns(reference_label=pl.when(pl.col("id") == "t1").then(pl.lit("bad")))
    rows.write_parquet("data/split/test.parquet")
    vectors = pl.read_parquet("data/embeddings/embeddings.parquet").filter(pl.col("id") != "t1")
    pl.concat([vectors, vectors.head(5).with_columns(id=pl.Series(ids))]).write_parquet(EMBEDDINGS)
    # One is right about t0, and t4 was decided; of t1 to t3 the least credible two are shown.
    write_predictions({"tfidf": [0.9, 0.8, 0.7, 0.6, 0.9], "probe": [0.1, 0.9, 0.7, 0.9, 0.9]}, decided=["t4"])
    found, metrics = run()
    shown = [row for row in found if row["split"] == "test"]
    assert [(row["id"], row["label"], row["field"]) for row in shown] == [
        ("t1", "bad", "reference_label"),
        ("t3", "bad", "label"),
    ]
    leading = {(row["suggested_label"], row["neighbours"], row["reasons"]) for row in shown}
    assert leading == {("", "[]", review_queue.TEST_REASON)}
    assert (metrics["contradicted_test_rows"], metrics["rows_by_reason"]["suspected_test_error"]) == (3, 2)


def test_one_approach_that_can_tell_brings_no_test_row(capfd: pytest.CaptureFixture[str]) -> None:
    write_predictions({"tfidf": [0.9], "probe": [0.9]})
    assert "t1" not in {row["id"] for row in run()[0]}
    assert "no test rows: that takes two approaches" in capfd.readouterr().out


def test_neighbours_are_the_closest_train_rows_and_never_the_row_itself() -> None:
    rows, _ = run()
    neighbours = {row["id"]: json.loads(row["neighbours"]) for row in rows}
    assert [one["id"] for one in neighbours["g0"]] == ["g1", "g2"]
    assert neighbours["g0"][0] == {"id": "g1", "label": "good", "text": f"{GOOD} 1", "cosine": 0.995}
    assert len(neighbours["v1"]) == 2


def test_a_row_in_two_lists_comes_first_and_the_number_of_rows_holds() -> None:
    lists = {
        "one": build_list(pl.Series("id", ["a", "b"]), [None, "x"], ["r1", "r2"]),
        "two": build_list(pl.Series("id", ["c", "b"]), ["y", "z"], ["r3", "r4"]),
    }
    table = fuse_lists(lists)
    assert table.select("id", "suggested_label", "reasons").rows() == [
        ("b", "x", "r2; r4"),
        ("a", None, "r1"),
        ("c", "y", "r3"),
    ]
    assert table["score"].to_list() == pytest.approx([2 / 62, 1 / 61, 1 / 61])
    Path("params.yaml").write_text(PARAMS.replace("rows: 10", "rows: 1"), encoding="utf-8")
    assert len(run()[0]) == 1


def test_the_second_list_suggests_where_the_first_does_not() -> None:
    lists = {
        "one": build_list(pl.Series("id", ["a"]), [None], ["r1"]),
        "two": build_list(pl.Series("id", ["a"]), ["y"], ["r2"]),
    }
    assert fuse_lists(lists)["suggested_label"].to_list() == ["y"]


def test_a_tie_of_the_annotators_suggests_nothing() -> None:
    disputed = pl.DataFrame({"id": ["a", "b", "c"], "disagreement": [0.5, 0.9, 0.1]})
    ratings = pl.DataFrame(
        [("a", "x"), ("a", "y"), ("b", "y"), ("b", "y"), ("b", "x"), ("c", "v"), *(("c", one) for one in "vwxyz")],
        schema=["id", "label"],
        orient="row",
    )
    rows = pl.DataFrame({"id": ["a", "b", "c"], "label": ["x", "x", "x"]})
    assert list_disagreements(disputed, ratings, rows).rows() == [
        ("b", "y", "annotators disagree: 2 y, 1 x"),
        ("a", None, "annotators disagree: 1 x, 1 y"),
        ("c", "v", "annotators disagree: 2 v, 1 w, 1 x, 1 y, 1 others"),
    ]


def test_near_duplicates_with_other_labels_are_listed_with_what_most_say() -> None:
    rows = [
        ("a", "it is :)", "x"),
        ("b", "it is :)", "y"),
        ("c", "It is :)!", "y"),
        ("d", "it is :(", "z"),
        ("e", "no", None),
    ]
    table = pl.DataFrame(rows, schema=["id", "text", "label"], orient="row").with_columns(
        meaning_marks(pl.Series([text for _, text, _ in rows])), near_duplicate_group=pl.lit("a")
    )
    assert list_conflicts(table).rows() == [
        ("a", "y", "near-duplicates have other labels: 2 y, 1 x"),
        ("b", None, "near-duplicates have other labels: 2 y, 1 x"),
        ("c", None, "near-duplicates have other labels: 2 y, 1 x"),
    ]


def test_label_errors_that_are_kept_are_not_queued() -> None:
    write_findings([("g0", "good", "bad", 0.1, True, 0.9)])
    queued = [row["id"] for row in run()[0]]
    Path("params.yaml").write_text(PARAMS.replace("drop", "keep"), encoding="utf-8")
    assert [row["id"] for row in run()[0]] == [row_id for row_id in queued if row_id != "g0"]
    assert "g0" in queued


def test_without_findings_the_queue_is_empty() -> None:
    Path("params.yaml").write_text(PARAMS.replace("0.5", "1.0"), encoding="utf-8")
    write_findings()
    rows, metrics = run()
    assert rows == []
    assert metrics["rows"] == 0
    assert Path("data/review/queue.csv").read_text(encoding="utf-8").strip() == ",".join(review_queue.COLUMNS)


def test_validation_rows_that_are_all_reviewed_are_not_put_to_the_model() -> None:
    frame(VALIDATION).with_columns(reviewed=pl.lit(value=True)).write_parquet("data/split/validation.parquet")
    assert [row["id"] for row in run()[0]] == ["g0"]


@pytest.mark.parametrize(
    ("approach", "message"),
    [
        ("full", r"models/finetuned/full: no such model; set `optional\.review_queue`"),
        ("tfidf", r"models/finetuned/tfidf: skipped on this machine: no kernel; set `optional\.review_queue`"),
    ],
)
def test_an_approach_without_a_model_says_what_to_do(approach: str, message: str) -> None:
    Path("models/finetuned/tfidf", LEFT_OUT_FILE).write_text("no kernel", encoding="utf-8")
    with pytest.raises(InputError, match=message):
        run_main(review_queue, approach)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, "0%"), (0.001, "<1%"), (0.03, "3%"), (0.91, "91%"), (0.9999, ">99%"), (1.0, "100%")]
)
def test_what_is_not_certain_is_not_shown_as_certain(share: float, expected: str) -> None:
    assert show_percent(share) == expected
