import json
from pathlib import Path

import polars as pl
import pytest

from stages import annotation_qa
from stages.lib.errors import InputError

COLUMNS = ("id", "text", "label", "reference_label", "response", "source", "origin", "near_duplicate_group")
RECORDS_SCHEMA = dict.fromkeys(COLUMNS, pl.String)
RATINGS_SCHEMA = {"id": pl.String, "annotator": pl.String, "rating": pl.Float64, "label": pl.String}


def records(*rows: tuple[str, str | None, str | None, str]) -> pl.DataFrame:
    """Rows of id, label, reference_label, source."""
    return pl.DataFrame(
        [
            {"id": id_, "text": f"text {id_}", "label": label, "reference_label": reference, "source": source}
            | {"origin": f"file:{id_}", "near_duplicate_group": id_, "response": None}
            for id_, label, reference, source in rows
        ],
        schema=RECORDS_SCHEMA,
    )


def ratings(**labels: str) -> pl.DataFrame:
    """`row="ppn"`: the labels that annotators 0, 1, 2 gave a row, a letter each; p is rated 1, n is rated -1."""
    values = {"p": 1.0, "n": -1.0, "o": 0.0}
    return pl.DataFrame(
        [
            {"id": id_, "annotator": str(i), "rating": values[letter], "label": letter}
            for id_, letters in labels.items()
            for i, letter in enumerate(letters)
        ],
        schema=RATINGS_SCHEMA,
    )


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("annotation_qa: {min_common_items: 2, max_annotator_pairs: 10}\n", encoding="utf-8")
    Path("data/clean").mkdir(parents=True)
    Path("data/semantic_duplicates").mkdir()
    return tmp_path


def run(record_table: pl.DataFrame, rating_table: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, object]]:
    record_table.write_parquet("data/semantic_duplicates/records.parquet")
    rating_table.write_parquet("data/clean/ratings.parquet")
    annotation_qa.main()
    metrics = json.loads(Path("metrics/annotation_qa.json").read_text(encoding="utf-8"))
    return pl.read_parquet("data/annotation_qa/records.parquet"), metrics


@pytest.mark.usefixtures("repository")
def test_ratings_of_rows_removed_since_do_not_count() -> None:
    _, metrics = run(records(("a", "p", "p", "s"), ("b", "n", "n", "s")), ratings(a="pp", b="nn", gone="pn"))
    assert (metrics["ratings"], metrics["consensus_ties"], metrics["rows_in"]) == (4, 0, 2)


def test_consensus_is_the_label_of_most_ratings() -> None:
    consensus = annotation_qa.add_consensus(
        records(("b", "n", "n", "s"), ("a", "p", "p", "s"), ("c", "p", None, "s")), ratings(a="ppn", b="nppp")
    )
    assert consensus.ties == 0
    assert consensus.records.select("id", "consensus_label", "annotator_agreement", "ratings").rows() == [
        ("b", "p", 0.75, 4),
        ("a", "p", 2 / 3, 3),
        ("c", None, None, 0),
    ]


def test_a_tie_goes_to_the_reference_label_then_to_the_first_in_label_order() -> None:
    consensus = annotation_qa.add_consensus(
        records(("a", "n", "p", "s"), ("b", "n", "o", "s"), ("c", "n", None, "s")),
        ratings(a="nnpp", b="ppnno", c="pn"),
    )
    assert consensus.records["consensus_label"].to_list() == ["p", "n", "n"]
    assert consensus.ties == 3


def test_ratings_without_a_label_have_no_vote() -> None:
    some = ratings(a="np").with_columns(label=pl.when(pl.col("label") == "n").then(None).otherwise(pl.col("label")))
    consensus = annotation_qa.add_consensus(records(("a", "n", None, "s")), some)
    assert consensus.records.select("consensus_label", "annotator_agreement", "ratings").rows() == [("p", 1.0, 1)]


def test_single_rater_accuracy_against_consensus_and_reference() -> None:
    table = records(("a", "p", "p", "s"), ("b", "n", "p", "s"))
    some = ratings(a="ppn", b="nnp")
    joined = annotation_qa.with_consensus(some, annotation_qa.add_consensus(table, some).records)
    assert annotation_qa.single_rater_accuracy(joined) == {
        "single_rater_accuracy": pytest.approx(4 / 6),
        "single_rater_accuracy_against_reference": pytest.approx(3 / 6),
    }


@pytest.mark.usefixtures("repository")
def test_stage_writes_rows_annotators_and_metrics() -> None:
    table = records(("a", "p", "p", "x"), ("b", "n", "n", "x"), ("c", "p", "n", "y"), ("d", "p", None, "y"))
    out, metrics = run(table, ratings(a="ppp", b="nnp", c="npp", d=""))
    assert out.select(table.columns).equals(table)
    assert out["consensus_label"].to_list() == ["p", "n", "p", None]
    assert pl.read_parquet("data/annotation_qa/annotators.parquet").rows() == [
        ("0", 3, 2 / 3),
        ("1", 3, 1.0),
        ("2", 3, 2 / 3),
    ]
    expected = {"rows_in": 4, "rows_out": 4, "removed": {}, "ratings": 9, "rows_with_ratings": 3, "annotators": 3}
    expected |= {"ratings_per_row_min": 3, "ratings_per_row_max": 3, "consensus_ties": 0}
    # Fleiss: agreement (1 + 1/3 + 1/3) / 3 = 5/9; p has 6 of 9 ratings, so 5/9 by chance, too.
    expected |= {"fleiss_kappa": 0.0, "label_agrees_with_consensus": 1.0}
    assert {key: metrics[key] for key in expected} == expected
    assert metrics["consensus_agrees_with_reference"] == pytest.approx(2 / 3, abs=1e-6)
    sources = metrics["per_source"]
    assert isinstance(sources, dict)
    assert list(sources) == ["x", "y"]
    assert sources["x"]["single_rater_accuracy"] == pytest.approx(5 / 6, abs=1e-6)


@pytest.mark.usefixtures("repository")
def test_undefined_figures_have_no_key() -> None:
    _, metrics = run(records(("a", "p", None, "x"), ("b", "p", None, "x")), ratings(a="pp", b="pp"))
    assert "krippendorff_alpha_nominal" not in metrics
    assert "single_rater_accuracy_against_reference" not in metrics
    assert metrics["single_rater_accuracy"] == 1.0
    assert metrics["cohen_kappa_undefined_pairs"] == 1


@pytest.mark.usefixtures("repository")
def test_without_ratings_the_labels_pass_through(capsys: pytest.CaptureFixture[str]) -> None:
    table = records(("a", "p", None, "x"), ("b", "n", None, "x"))
    out, metrics = run(table, ratings())
    assert out.drop("consensus_label", "annotator_agreement", "ratings").equals(table)
    assert out.select("consensus_label", "annotator_agreement", "ratings").rows() == [(None, None, 0)] * 2
    assert out.schema["consensus_label"] == pl.String
    assert out.schema["annotator_agreement"] == pl.Float64
    assert metrics == {"rows_in": 2, "rows_out": 2, "removed": {}, "ratings": 0}
    assert "there are no ratings" in capsys.readouterr().err
    assert pl.read_parquet("data/annotation_qa/annotators.parquet").is_empty()


@pytest.mark.usefixtures("repository")
def test_the_order_of_ratings_does_not_matter() -> None:
    table = records(("a", "p", "p", "x"), ("b", "n", "n", "x"), ("c", "p", "n", "y"))
    some = ratings(a="pnpn", b="nnp", c="npp")
    first = run(table, some)
    second = run(table, some.sample(fraction=1, shuffle=True, seed=3))
    assert first[0].equals(second[0])
    assert first[1] == second[1]


@pytest.mark.usefixtures("repository")
def test_a_wrong_param_is_named() -> None:
    Path("params.yaml").write_text("annotation_qa: {min_common_items: 1, max_annotator_pairs: 10}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"annotation_qa\.min_common_items` = 1"):
        annotation_qa.main()
