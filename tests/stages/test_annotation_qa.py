"""The stage measures over the rows it can, keeps all rows, and stops where annotators agree too little."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from assay.annotation.consensus import count_votes
from assay.annotation.quality import add_consensus
from assay.core.errors import InputError
from assay.core.outputs import read_json
from stages import annotation_qa
from tests.own_results import read_outputs
from tests.template_params import sections

COLUMNS = ("id", "text", "label", "reference_label", "response", "source", "origin", "near_duplicate_group")
RECORDS_SCHEMA = dict.fromkeys((*COLUMNS, "split_group"), pl.String)
RATINGS_SCHEMA = {"id": pl.String, "annotator": pl.String, "rating": pl.Float64, "label": pl.String}
PARAMS: dict[str, Any] = sections(
    annotation_qa={"label_order": ["n", "o", "p"], "min_krippendorff_alpha": None, "bootstrap_samples": 100}
    | {"disputed_rows": 2}
)["annotation_qa"]


def records(*rows: tuple[str, str | None, str | None, str]) -> pl.DataFrame:
    """Rows of id, label, reference_label, source."""
    return pl.DataFrame(
        [
            {"id": id_, "text": f"text {id_}", "label": label, "reference_label": reference, "source": source}
            | {"origin": f"file:{id_}", "near_duplicate_group": id_, "split_group": id_, "response": None}
            for id_, label, reference, source in rows
        ],
        schema=RECORDS_SCHEMA,
    )


def ratings(**labels: str) -> pl.DataFrame:
    """`row="ppn"`: the labels that annotators 0, 1, 2 gave a row, a letter each; a space is no rating.

    p is rated 1, n is rated -1.
    """
    values = {"p": 1.0, "n": -1.0, "o": 0.0}
    return pl.DataFrame(
        [
            {"id": id_, "annotator": str(i), "rating": values[letter], "label": letter}
            for id_, letters in labels.items()
            for i, letter in enumerate(letters)
            if letter != " "
        ],
        schema=RATINGS_SCHEMA,
    )


def write_params(**changes: Any) -> None:
    Path("params.yaml").write_text(yaml.safe_dump({"seed": 7, "annotation_qa": PARAMS | changes}), encoding="utf-8")


@pytest.fixture(autouse=True)
def repository() -> None:
    write_params()


def run(record_table: pl.DataFrame, rating_table: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, Any]]:
    record_table.write_parquet("data/semantic_duplicates/records.parquet", mkdir=True)
    rating_table.write_parquet("data/clean/ratings.parquet", mkdir=True)
    annotation_qa.main()
    tables, metrics = read_outputs("data/annotation_qa", "annotation_qa")
    return tables["records"], metrics


def output(name: str) -> pl.DataFrame:
    return pl.read_parquet(f"data/annotation_qa/{name}.parquet")


def many_rows(rows: int = 60, annotators: int = 5) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of three labels from two sources, and annotators who err in one rating of five."""
    random = np.random.default_rng(11)
    names = "nop"
    truth = random.integers(0, 3, rows)
    said = np.where(random.random((rows, annotators)) < 0.8, truth[:, None], random.integers(0, 3, (rows, annotators)))
    ids = [f"{row:03}" for row in range(rows)]
    table = records(
        *((id_, names[said[i, 0]], names[truth[i]], "even" if i % 2 == 0 else "odd") for i, id_ in enumerate(ids))
    )
    return table, ratings(**{id_: "".join(names[code] for code in said[i]) for i, id_ in enumerate(ids)})


def test_ratings_of_rows_removed_since_do_not_count() -> None:
    _, metrics = run(records(("a", "p", "p", "s"), ("b", "n", "n", "s")), ratings(a="pp", b="nn", gone="pn"))
    assert (metrics["ratings"], metrics["rows_in"]) == (4, 2)


def test_the_reference_label_has_no_say_in_the_consensus() -> None:
    some = ratings(a="nnpp", b="ppnn", c="nnn")
    for reference in ("p", "o", None):
        table = records(*((id_, "n", reference, "s") for id_ in "abc"))
        consensus = add_consensus(table, count_votes(some))
        assert consensus["consensus_label"].to_list() == ["n", "n", "n"]


def test_ratings_without_a_label_have_no_vote() -> None:
    some = ratings(a="np").with_columns(label=pl.when(pl.col("label") == "n").then(None).otherwise(pl.col("label")))
    out, _ = run(records(("a", "n", None, "s")), some)
    assert out.select("consensus_label", "annotator_agreement", "ratings").rows() == [("p", 1.0, 1)]


def test_single_rater_accuracy_is_against_the_others_and_the_reference() -> None:
    # Of a, each p faces one p and one n, a tie that p wins by its frequency; the n faces two p. Of b likewise, but the
    # tie goes to p, and so do both others of the p.
    rows = records(("a", "p", "p", "s"), ("b", "n", "p", "s"), ("c", "p", "p", "s"))
    _, metrics = run(rows, ratings(a="ppn", b="nnp", c="ppp"))
    assert metrics["single_rater_accuracy"] == pytest.approx(5 / 9, abs=1e-6)
    assert metrics["single_rater_accuracy_against_reference"] == pytest.approx(6 / 9, abs=1e-6)


def test_stage_writes_rows_annotators_and_metrics() -> None:
    table = records(("a", "p", "p", "x"), ("b", "n", "n", "x"), ("c", "p", "n", "y"), ("d", "p", None, "y"))
    out, metrics = run(table, ratings(a="ppp", b="nnp", c="npp", d=""))
    assert out.select(table.columns).equals(table)
    assert out.columns == [*table.columns, "consensus_label", "annotator_agreement", "ratings"]
    assert out["consensus_label"].to_list() == ["p", "n", "p", None]
    # Of b, the others of an n are n and p, a tie that p wins by its frequency.
    assert output("annotators").select("annotator", "ratings", "ratings_with_others", "accuracy").rows() == [
        ("0", 3, 3, 1 / 3),
        ("1", 3, 3, 2 / 3),
        ("2", 3, 3, 2 / 3),
    ]
    expected = {"rows_in": 4, "rows_out": 4, "removed": {}, "ratings": 9, "rows_with_ratings": 3, "annotators": 3}
    expected |= {"rows_with_several_ratings": 3}
    # Fleiss: agreement (1 + 1/3 + 1/3) / 3 = 5/9; p has 6 of 9 ratings, so 5/9 by chance, too.
    expected |= {"fleiss_kappa": 0.0}
    assert {key: metrics[key] for key in expected} == expected
    assert metrics["consensus_agrees_with_reference"] == pytest.approx(2 / 3, abs=1e-6)
    assert list(metrics["per_source"]) == ["x", "y"]
    assert metrics["per_source"]["x"]["single_rater_accuracy"] == 0.5


def test_every_figure_of_agreement_has_its_interval() -> None:
    _, metrics = run(*many_rows())
    names = ["fleiss_kappa", *(f"krippendorff_alpha_{level}" for level in ("nominal", "ordinal", "interval"))]
    for part in (metrics, metrics["per_source"]["even"], metrics["per_source"]["odd"]):
        for name in names:
            assert part[f"{name}_ci95_low"] < part[name] < part[f"{name}_ci95_high"], name


def test_labels_without_an_order_have_no_ordinal_alpha_but_the_numbers_have_theirs() -> None:
    write_params(label_order=None)
    _, metrics = run(*many_rows())
    assert [key for key in metrics if "ordinal" in key] == []
    assert metrics["krippendorff_alpha_interval"] > 0.5


def test_labels_that_are_no_numbers_have_no_interval_alpha() -> None:
    table, some = many_rows()
    _, metrics = run(table, some.with_columns(rating=pl.lit(None, pl.Float64)))
    assert "krippendorff_alpha_interval" not in metrics
    assert metrics["krippendorff_alpha_ordinal"] > 0.5


def test_a_label_that_is_not_in_the_order_is_named() -> None:
    write_params(label_order=["p", "o"])
    with pytest.raises(InputError, match=r"row 'b' has the label 'n' from annotator '1'.*label_order` = \['p', 'o'\]"):
        run(records(("a", "p", None, "s"), ("b", "p", None, "s")), ratings(a="pp", b="pn"))


def test_figures_that_are_undefined_have_no_key_where_all_raters_are_equal(capsys: pytest.CaptureFixture[str]) -> None:
    write_params(min_krippendorff_alpha=0.9)
    _, metrics = run(records(("a", "p", None, "x"), ("b", "p", None, "x")), ratings(a="pp", b="pp"))
    assert [key for key in metrics if "alpha" in key or "fleiss" in key] == []
    assert "single_rater_accuracy_against_reference" not in metrics
    assert metrics["single_rater_accuracy"] == 1.0
    assert "Krippendorff's alpha is undefined, and the gate lets them pass" in capsys.readouterr().err
    assert output("annotators").drop("annotator").unique().rows() == [(2, 2, 1.0)]
    assert output("disagreement")["disagreement"].to_list() == [0.0, 0.0]


def test_raters_who_agree_on_everything_have_an_alpha_of_one() -> None:
    write_params(min_krippendorff_alpha=1.0)
    _, metrics = run(records(*((id_, "p", None, "x") for id_ in "abcd")), ratings(a="ppp", b="nnn", c="ppp", d="nnn"))
    for name in ("fleiss_kappa", "krippendorff_alpha_nominal", "krippendorff_alpha_ordinal"):
        assert metrics[name] == 1.0
        assert f"{name}_ci95_high" not in metrics  # all samples are the same, and no interval has no width


def test_without_ratings_the_labels_pass_through(capsys: pytest.CaptureFixture[str]) -> None:
    write_params(min_krippendorff_alpha=0.5)
    table = records(("a", "p", None, "x"), ("b", "n", None, "x"))
    out, metrics = run(table, ratings())
    assert out.drop("consensus_label", "annotator_agreement", "ratings").equals(table)
    assert out.select("consensus_label", "annotator_agreement", "ratings").rows() == [(None, None, 0)] * 2
    assert out.schema["consensus_label"] == pl.String
    assert out.schema["annotator_agreement"] == pl.Float64
    del metrics["run_id"]
    assert metrics == {"rows_in": 2, "rows_out": 2, "removed": {}, "ratings": 0}
    assert "there are no ratings" in capsys.readouterr().err
    for name in ("annotators", "disagreement"):
        assert output(name).is_empty()
    assert Path("data/annotation_qa/disagreement.csv").read_text().startswith("id,text,label,consensus_label,")


def test_where_no_row_has_several_ratings_it_says_so_and_measures_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    write_params(min_krippendorff_alpha=0.5)
    table = records(("a", "p", "p", "x"), ("b", "n", "p", "x"), ("c", "n", None, "x"))
    out, metrics = run(table, ratings(a="p", b=" n"))
    assert out["consensus_label"].to_list() == ["p", "n", None]
    del metrics["run_id"]
    assert metrics == (
        {"rows_in": 3, "rows_out": 3, "removed": {}, "ratings": 2, "rows_with_ratings": 2}
        | {"rows_with_several_ratings": 0, "annotators": 2}
        | {"consensus_agrees_with_reference": 0.5, "label_agrees_with_reference": 0.5}
    )
    assert "none of 2 rated row(s) has more than one rating" in capsys.readouterr().err
    assert output("annotators").rows() == [("0", 1, 0, None), ("1", 1, 0, None)]
    assert output("disagreement").is_empty()


def test_figures_are_over_the_rows_that_have_several_ratings(capsys: pytest.CaptureFixture[str]) -> None:
    table, some = many_rows()
    _, whole = run(table, some)
    single = records(*((f"x{i}", "p", "n", "even") for i in range(40)), ("y", "p", None, "new"))
    one_each = ratings(**{f"x{i}": "      p" for i in range(40)})
    _, part = run(pl.concat([table, single]), pl.concat([some, one_each]))
    assert (part["rows_with_ratings"], part["rows_with_several_ratings"], part["annotators"]) == (100, 60, 6)
    words = ("kappa", "alpha", "single_rater")
    same = [key for key in whole if any(word in key for word in words) and not isinstance(whole[key], dict)]
    assert len(same) == 14
    assert {key: part[key] for key in same} == {key: whole[key] for key in same}
    assert part["per_source"] == whole["per_source"]
    error = capsys.readouterr().err
    assert "60 of 101 rows have several ratings, and agreement is measured on these; 40 have one, 1 have none" in error
    assert "1 of 6 annotators, such as '6', rated no row that another rated" in error
    assert output("annotators").row(-1) == ("6", 40, 0, None)


def test_an_annotator_with_one_rating() -> None:
    table, some = many_rows()
    once = pl.DataFrame({"id": ["003"], "annotator": ["new"], "rating": [1.0], "label": ["p"]}, schema=RATINGS_SCHEMA)
    _, metrics = run(table, pl.concat([some, once]))
    assert metrics["annotators"] == 6
    name, number, with_others, accuracy = output("annotators").row(-1)
    assert (name, number, with_others) == ("new", 1, 1)
    assert accuracy in (0.0, 1.0)


def test_disputed_rows_are_a_table_for_people_that_no_spreadsheet_runs() -> None:
    table = records(("a", "p", "p", "s"), ("b", "n", "p", "s"), ("c", "n", "p", "s")).with_columns(
        text=pl.Series(["=HYPERLINK(1)", '@you, and "this"\nline', "plain"])
    )
    run(table, ratings(a="pn", b="ppn", c="nnn"))
    parquet = output("disagreement")
    assert parquet["id"].to_list() == ["a", "b", "c"]
    assert parquet["text"].to_list()[:2] == ["=HYPERLINK(1)", '@you, and "this"\nline']
    assert parquet.select("ratings_n", "ratings_p").rows() == [(1, 1), (1, 2), (3, 0)]
    with Path("data/annotation_qa/disagreement.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == ["'=HYPERLINK(1)", '\'@you, and "this"\nline']
    assert rows[0]["disagreement"] == "1.0000"


def test_the_gate_fails_with_figure_threshold_worst_source_and_texts_and_leaves_the_outputs() -> None:
    table = records(*((id_, "p", None, "calm" if id_ < "e" else "hot") for id_ in "abcdefgh"))
    table = table.with_columns(text=pl.when(pl.col("id") == "e").then(pl.lit("so\nlong " * 40)).otherwise("text"))
    some = ratings(a="ppp", b="nnn", c="ppp", d="nnn", e="npop", f="npp", g="nnp", h="opn")
    write_params(min_krippendorff_alpha=0.9)
    with pytest.raises(InputError) as caught:
        run(table, some)
    alpha = read_json("metrics/annotation_qa.json")["krippendorff_alpha_nominal"]
    message = str(caught.value)
    assert f"alpha of the labels is {alpha:.3f} (95% interval " in message
    assert "less than `annotation_qa.min_krippendorff_alpha` = 0.9" in message
    assert "worst is source 'hot' with -0." in message
    assert "data/annotation_qa/disagreement.csv" in message
    lines = message.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["h", "e", "f", "g", "a"]
    assert lines[0] == "  h (n 1, o 1, p 1): text h"
    assert lines[1].startswith("  e (n 1, o 1, p 2): so long so long")
    assert lines[1].endswith("…")
    assert output("records").height == 8
    write_params(min_krippendorff_alpha=float(f"{alpha:.3f}") - 0.001)
    run(table, some)


def test_the_order_of_ratings_does_not_matter() -> None:
    table, some = many_rows()
    first = run(table, some)
    files = {path.name: path.read_bytes() for path in Path("data/annotation_qa").iterdir()}
    second = run(table, some.sample(fraction=1, shuffle=True, seed=3))
    assert first[0].equals(second[0])
    assert first[1] == second[1]
    assert {path.name: path.read_bytes() for path in Path("data/annotation_qa").iterdir()} == files


def test_the_number_of_threads_does_not_matter() -> None:
    table, some = many_rows(300)
    outputs = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            run(table, some)
        outputs.append({path.name: path.read_bytes() for path in Path("data/annotation_qa").iterdir()})
    assert outputs[0] == outputs[1]


def test_a_slot_that_is_filled_in_is_said_and_in_the_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    table, some = many_rows(rows=600, annotators=9)
    some = some.filter(pl.col("annotator") < "8").with_columns(rating=pl.lit(None, pl.Float64))
    most = some.group_by("id").agg(annotator=pl.lit("8"), rating=None, label=pl.col("label").mode().sort().first())
    _, metrics = run(table, pl.concat([some, most.cast(some.schema)]))
    assert {name: list(slots) for name, slots in metrics["like_the_others"].items()} == {"even": ["8"], "odd": ["8"]}
    said = "annotation_qa: odd: '8' gives what most others of the row give in 100.0% of its 300 ratings"
    assert said in capsys.readouterr().err
