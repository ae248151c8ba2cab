"""Ratings as people have them: a line or a column for each rater, rated twice, and ids written in other ways."""

import ast
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.removed_rows import counts_by_rule
from assay.sources.ratings import Ratings, read_ratings
from tests.own_cases import read_cases
from tests.stages.test_ingest import BINS, PLAIN, fails, metrics, raw, records, removed, run, source, write_params

__all__ = ["raw"]
RATINGS: dict[str, Any] = {"format": "csv", "header": True, "not_rated": [], "repeated": "error", "exclude_slots": []}
CASES = read_cases(__file__)
LONG = CASES["a_line_for_each_rating"]
WIDE = "id,text,ann,bo,cy\n1,The kettle leaks,negative,negative,\n2,On time,positive,n/a,positive\n3,Kettle,neutral,,\n"
LONG_COLUMNS = {"id": "id", "annotator": "annotator", "rating": "sentiment"}
ITEMS = {"id": "item", "annotator": "worker", "rating": "answer"}
TEXTS = "id,text\n001,a\n002,b\n003,c\n005,e\n006,f\n"
TWICE = "item,worker,answer\n001,w1,x\n001,w1,y\n002,w1,y\n003,w2,y\n001,w2,y\n"


def rated(file: str, columns: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """A source with texts in rows.csv (`id`, `text`) and ratings in `file`."""
    ratings = RATINGS | {"file": file, "columns": columns} | changed
    return source(PLAIN, columns={"id": "id", "label": None}, ratings=ratings)


def votes() -> list[str]:
    table = pl.read_parquet("data/ingested/ratings.parquet")
    return [" ".join(row) for row in table.select("id", "annotator", "label").rows()]


def test_a_file_with_a_line_for_each_rating_is_one_row_a_text_and_all_votes(raw: Path) -> None:
    (raw / "rows.csv").write_text(LONG)
    run(rated("rows.csv", LONG_COLUMNS))
    kept = [("bank:1", "The kettle leaks", "negative"), ("bank:2", "On time, works", "neutral")]
    assert records().select("id", "text", "reference_label").rows() == kept
    assert votes()[:3] == ["bank:1 ann negative", "bank:1 bo negative", "bank:1 cy neutral"]
    assert metrics()["removed"] == {"text_repeated": 3}
    assert removed()[0] == ("rows.csv:3", "text_repeated", "The kettle leaks", None)


@pytest.mark.parametrize(("changed", "line", "differ"), CASES["lines_of_one_id_that_differ_or_have_no_rater"])
def test_lines_of_one_id_that_differ_or_have_no_rater(raw: Path, changed: Any, line: str, differ: Any) -> None:
    (raw / "rows.csv").write_text(LONG + line)
    long = rated("rows.csv", LONG_COLUMNS)
    write_params(long | source(long, **changed))
    message = fails()
    assert "the first 'bank:1' at ['rows.csv:2', 'rows.csv:" in message
    assert f"with other values in {differ}" in message
    advice = "make them unique" if line else "name this file, rater and rating in `ingest.sources.0.ratings`"
    assert advice in message


def test_lines_of_raters_taken_for_rows_are_said(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (raw / "rows.csv").write_text(LONG)
    run(source(PLAIN, columns={"label": "sentiment"}))
    said = "bank: texts in several rows with different labels: 2; if a line is one rater's"
    assert said in capsys.readouterr().out


def test_a_column_for_each_rater(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (raw / "rows.csv").write_text(WIDE)
    run(rated("rows.csv", {"id": "id", "raters": ["ann", "bo", "cy"]}, not_rated=["n/a"]))
    assert votes()[:3] == ["bank:1 ann negative", "bank:1 bo negative", "bank:2 ann positive"]
    assert votes()[3:] == ["bank:2 cy positive", "bank:3 ann neutral"]
    assert records()["label"].to_list() == ["negative", "positive", "neutral"]
    assert metrics()["removed_ratings"] == {"not_rated": 4}
    assert ("rows.csv:3", "not_rated", "bo n/a", None) in removed("removed_ratings")
    assert "bank: ratings removed: 'not_rated' 4" in capsys.readouterr().out


def test_slots_are_left_out_by_name(raw: Path) -> None:
    # JSON's list and Python's; who rated nothing is no error.
    (raw / "rows.csv").write_text('id,text,votes\n1,a,"[1, 2, 3]"\n2,b,"(-1, None, 0)"\n3,c,\n4,d,"[NaN]"\n')
    columns = {"id": "id", "ratings": "votes"}
    run(rated("rows.csv", columns, exclude_slots=["01", "02"]), bins=BINS)
    assert votes() == ["bank:1 03 positive", "bank:2 03 neutral"]
    assert metrics()["removed_ratings"] == {"excluded_slot": 3, "not_rated": 3}
    assert metrics()["sources"]["bank"]["rows_without_ratings"] == 2


@pytest.mark.parametrize(("repeated", "kept", "other", "line"), [("first", "x", "y", 3), ("last", "y", "x", 2)])
def test_the_params_say_which_of_two_ratings_counts(raw: Path, repeated: str, kept: str, other: str, line: int) -> None:
    (raw / "rows.csv").write_text(TEXTS)
    (raw / "votes.csv").write_text(TWICE)
    run(rated("votes.csv", ITEMS, repeated=repeated))
    assert votes()[:2] == [f"bank:001 w1 {kept}", "bank:001 w2 y"]
    assert removed("removed_ratings") == [(f"votes.csv:{line}", "rated_twice", f"w1 {other}", None)]


ZEROS = "item,worker,answer\n001,w1,x\n002,w1,x\n003,w1,y\n5,w1,x\n6,w1,y\n"
FLOATS = "item,worker,answer\n1.0,w1,x\n3.0,w2,y\n"


@pytest.mark.parametrize(
    ("votes", "changed", "ids", "expected"),
    [
        (TWICE.replace("w1,y", 'w2,"[""x"", ""y""]"'), {}, "error", 'votes.csv:3: value: \'["x", "y"]\'; 2 rows have'),
        (TWICE, {}, "error", "'w1' rated '001' more than once: 'x' (votes.csv:2) and 'y' (votes.csv:3)|to `last`"),
        (FLOATS, {}, "error", "2 value(s) of id|'001' (1 times, first in rows.csv:2) and '1.0' (1 times|'003' (1"),
        (ZEROS, {}, "error", "'005' (1 times, first in rows.csv:5) and '5' (1 times|set `ingest.forms.ids` to `join`"),
        (ZEROS, {}, "distinct", "votes.csv:5: rated_no_row: 'w1 x'; 2 of 5|['bank:5', 'bank:6']|['bank:005', 'bank:0"),
        (ZEROS, {"exclude_slots": ["1"]}, "join", "no rater or slot '1'; there are ['w1']"),
        (TWICE.replace("w1,y", "W1,y"), {}, "error", "'W1' (2 times, first in votes.csv:3) and 'w1' (1 times"),
        (ZEROS, {"repeated": "mean"}, "join", "`ingest.sources.0.ratings.repeated` = 'mean'"),
    ],
)
def test_ratings_that_do_not_fit(raw: Path, votes: str, changed: Any, ids: str, expected: str) -> None:
    (raw / "rows.csv").write_text(TEXTS)
    (raw / "votes.csv").write_text(votes)
    write_params(rated("votes.csv", ITEMS, **changed), forms={"labels": "error", "ids": ids})
    message = fails()
    assert [part for part in expected.split("|") if part not in message] == []


def test_ids_that_are_joined_are_those_of_the_texts(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (raw / "rows.csv").write_text(TEXTS)
    (raw / "votes.csv").write_text(ZEROS)
    run(rated("votes.csv", ITEMS), forms={"labels": "error", "ids": "join"})
    assert [one[:8] for one in votes()] == ["bank:001", "bank:002", "bank:003", "bank:005", "bank:006"]
    assert metrics()["joined_forms"] == 2
    said = "forms joined by `ingest.forms.ids`: '5' is '005' (1 times), '6' is '006' (1 times)"
    assert said in capsys.readouterr().out


def test_labels_of_two_files_that_are_one(raw: Path) -> None:
    (raw / "one.csv").write_text("text,category\nbroken,1\ngreat,0\n")
    (raw / "two.csv").write_text("text,category\nno reply,1.0\nquick,0.0\nnone yet,\n")
    sources = [source(PLAIN, name=name, file=f"{name}.csv") for name in ("one", "two")]
    write_params(*sources)
    assert "'1' (1 times, first in one.csv:2) and '1.0' (1 times, first in two.csv:2)" in fails()
    run(*sources, forms={"labels": "join", "ids": "error"})
    assert records()["label"].to_list() == ["1", "0", "1", "0", None]
    run(*sources, forms={"labels": "distinct", "ids": "error"})
    assert records()["label"].to_list() == ["1", "0", "1.0", "0.0", None]


def test_labels_that_cannot_be_told_apart_are_shown_by_their_code_points(raw: Path) -> None:
    shown = ["'R\u00e9clamation'", r"'Re\u0301clamation'", "'r\u00e9clamation '", r"'R\xe9\u200bclamation\xa0'"]
    labels = [ast.literal_eval(one) for one in shown]
    (raw / "rows.csv").write_text("text,category\nother,Demande\n" + "".join(f"to {one},{one}\n" for one in labels))
    write_params(PLAIN)
    message = fails()
    assert [one for one in shown if f"{one} (1 times, first in rows.csv:" not in message] == []
    assert "Demande" not in message
    assert "set `ingest.forms.labels` to `join`" in message


def test_a_rater_who_writes_a_label_in_another_way_votes_for_it(raw: Path) -> None:
    (raw / "rows.csv").write_text("id,text,label\n1,a,positive\n2,b,negative\n")
    (raw / "votes.csv").write_text("item,worker,answer\n1,w1,POSITIVE\n1,w2,Positive\n1,w3,other\n2,w1,negative \n")
    base = source(rated("votes.csv", ITEMS), columns={"label": "label"})
    write_params(base)
    assert "'positive' (1 times, first in rows.csv:2) and 'POSITIVE' (1 times, first in votes.csv:2)" in fails()
    run(base, forms={"labels": "join", "ids": "error"})
    assert votes() == ["bank:1 w1 positive", "bank:1 w2 positive", "bank:1 w3 other", "bank:2 w1 negative"]
    assert records()["reference_label"].to_list() == ["positive", "negative"]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["x", "y z", "4", "", "\u200b"]), min_size=3, max_size=3), min_size=1, max_size=5)
)
@pytest.mark.parametrize("shape", ["long", "wide", "list"])
def test_every_vote_of_every_shape_is_read_or_removed(
    tmp_path_factory: pytest.TempPathFactory, shape: str, votes: list[list[str]]
) -> None:
    folder, raters = tmp_path_factory.mktemp("votes"), ["01", "02", "03"]
    ids = [f"r{number}" for number in range(len(votes))]
    table = pl.DataFrame(votes, raters, orient="row").with_columns(id=pl.Series(ids))
    columns: dict[str, Any] = {"id": "id", "raters": raters}
    if shape == "long":
        table = table.unpivot(raters, index="id", variable_name="annotator", value_name="rating")
        columns = {"id": "id", "annotator": "annotator", "rating": "rating"}
    elif shape == "list":
        table = pl.DataFrame({"id": ids, "ratings": [json.dumps(row) for row in votes]})
        columns = {"id": "id", "ratings": "ratings"}
    table.write_csv(folder / "votes.csv")
    reading = dict.fromkeys(("separator", "quote", "encoding", "sheet")) | {"file": "votes.csv", "columns": columns}
    found = read_ratings(Ratings.model_validate(RATINGS | reading), folder, 0.0, "k")
    given_votes = {
        (row, *vote) for row, given in zip(ids, votes, strict=True) for vote in zip(raters, given, strict=True)
    }
    blank = {vote for vote in given_votes if vote[2] in ("", "\u200b")}
    assert set(found.kept.select("id", "annotator", "value").rows()) == given_votes - blank
    assert counts_by_rule(found.removed) == ({"not_rated": len(blank)} if blank else {})
