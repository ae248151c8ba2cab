import copy
import gzip
import json
import re
import struct
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
import yaml

from assay.core.errors import InputError
from assay.core.outputs import file_sha256, read_json
from assay.core.removed_rows import REMOVED_SCHEMA
from assay.sources.provenance import content_ids
from assay.sources.ratings import RatingBin, bin_ratings
from stages import ingest
from tests.own_cases import read_cases

CASES = read_cases(__file__)

BINS = CASES["bins"]
RATED: dict[str, Any] = {
    "name": "tweets",
    "url": "https://example.org/tweets",
    "licence": "MIT",
    "retrieved": "2026-11-22",
    "authenticity": "real",
    "file": "texts.txt",
    "format": "tsv",
    "header": False,
    "columns": {"id": 1, "text": 3, "label": None, "reference_label": None, "response": None},
    "ratings": {"file": "ratings.txt", "columns": {"id": 1, "ratings": 2}}
    | {"not_rated": [], "repeated": "error", "exclude_slots": []},
}
PLAIN: dict[str, Any] = CASES["plain"]
FILES = yaml.safe_load(Path(__file__).with_name("ingest_files.yaml").read_text(encoding="utf-8"))
DEFAULTS = dict.fromkeys(("separator", "quote", "encoding", "sheet", "ratings")) | {"layout": "table", "carry": []}


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / "raw" / "mine"
    folder.mkdir(parents=True)
    return folder


def write_params(
    *sources: dict[str, Any], bins: Any = None, seed: int = 1, max_rows: int | None = None, **changed: Any
) -> None:
    section = {"path": "data/raw/mine", "max_reject_fraction": 0.01, "sources": list(sources), "rating_bins": bins}
    section["forms"] = {"labels": "error", "ids": "error"}
    section["source_defaults"] = DEFAULTS
    Path("params.yaml").write_text(yaml.safe_dump({"seed": seed, "max_rows": max_rows, "ingest": section | changed}))


def run(*sources: dict[str, Any], **changed: Any) -> None:
    write_params(*sources, **changed)
    ingest.main()


def source(base: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """A source with other values; `columns` and `ratings` are merged."""
    result = copy.deepcopy(base)
    for key, value in changed.items():
        result[key] = result[key] | value if isinstance(value, dict) and isinstance(result.get(key), dict) else value
    return result


def records() -> pl.DataFrame:
    return pl.read_parquet("data/ingested/records.parquet")


def ratings() -> pl.DataFrame:
    return pl.read_parquet("data/ingested/ratings.parquet")


def removed(name: str = "removed") -> list[tuple[Any, ...]]:
    frame = pl.read_parquet(f"data/ingested/{name}.parquet")
    assert frame.schema == REMOVED_SCHEMA
    return frame.rows()


def metrics() -> dict[str, Any]:
    result: dict[str, Any] = read_json("metrics/ingest.json")
    assert result["rows_in"] == result["rows_out"] + sum(result["removed"].values())
    return result


def fails() -> str:
    with pytest.raises(InputError) as caught:
        ingest.main()
    assert not Path("data/ingested").exists()
    assert not Path("metrics").exists()
    return str(caught.value)


def write_rated(raw: Path, lists: dict[str, Any]) -> None:
    texts = [f"{key}\t0.1\ttext {key}" for key in lists]
    lines = [f"{key}\t{json.dumps(values)}" for key, values in lists.items()]
    (raw / "texts.txt").write_bytes("\r\n".join(texts).encode())
    (raw / "ratings.txt").write_bytes(("\ufeff" + "\r\n".join(lines) + "\r\n").encode())


def test_texts_and_ratings_in_two_files(raw: Path) -> None:
    write_rated(raw, {"a": [4, 4, 3], "b": [0, 0, 1], "c": [-1, 2, -4, -4]})
    run(RATED, bins=BINS)
    frame = records()
    assert frame.columns == [
        *("id", "text", "label", "reference_label", "response", "source", "origin"),
        *("source_url", "licence", "retrieved", "source_sha256", "authenticity", "given_rating"),
    ]
    assert set(frame.drop("given_rating").dtypes) == {pl.String}
    assert frame.select("id", "text", "reference_label", "response", "source", "origin").rows() == [
        ("tweets:a", "text a", "positive", None, "tweets", "texts.txt:1"),
        ("tweets:b", "text b", "neutral", None, "tweets", "texts.txt:2"),
        ("tweets:c", "text c", "negative", None, "tweets", "texts.txt:3"),
    ]
    assert frame["label"][0] == "positive"
    assert ratings().schema == {"id": pl.String, "annotator": pl.String, "rating": pl.Float64, "label": pl.String}
    assert ratings().filter(pl.col("id") == "tweets:c").rows() == [
        ("tweets:c", "01", -1.0, "negative"),
        ("tweets:c", "02", 2.0, "positive"),
        ("tweets:c", "03", -4.0, "negative"),
        ("tweets:c", "04", -4.0, "negative"),
    ]
    assert removed() == removed("removed_ratings") == []
    assert metrics()["sources"]["tweets"] == (
        {"rows_in": 3, "rows_out": 3, "sha256": file_sha256(raw / "texts.txt"), "ragged_rows": 0, "ratings": 10}
        | {"labels": {"negative": 1, "neutral": 1, "positive": 1}, "rows_without_label": 0}
        | {"nested_cells": {}, "unused_columns": 1, "rows_without_ratings": 0}
    )


def test_the_given_label_is_one_raters_in_proportion(raw: Path) -> None:
    write_rated(raw, {str(key): [4, -4, -4, -4] for key in range(2000)})
    run(RATED, bins=BINS)
    share = (records()["label"] == "positive").mean()
    assert share == pytest.approx(0.25, abs=0.03)
    assert metrics()["given_label_accuracy"] == pytest.approx(1 - float(str(share)), abs=1e-6)
    assert sum(metrics()["labels"].values()) == 2000


def test_the_rating_behind_the_given_label_goes_with_it(raw: Path) -> None:
    write_rated(raw, {str(key): [4, 1, -1, -4] for key in range(400)})
    run(RATED, bins=BINS)
    signs = records().select("label", "given_rating").unique().sort("given_rating").rows()
    assert signs == [("negative", -4.0), ("negative", -1.0), ("positive", 1.0), ("positive", 4.0)]


def test_a_row_keeps_its_given_label_when_others_are_added_or_moved(raw: Path) -> None:
    lists = {str(key): [4, -4, 0] for key in range(50)}
    write_rated(raw, lists)
    run(RATED, bins=BINS)
    before = dict(records().select("id", "label").rows())
    write_rated(raw, {"new": [1, 2, 3]} | dict(reversed(list(lists.items()))))
    ingest.main()
    after = dict(records().select("id", "label").rows())
    assert before == {key: after[key] for key in before}
    run(RATED, bins=BINS, seed=2)
    assert before != {key: label for key, label in records().select("id", "label").rows() if key in before}


def test_rated_rows_without_text_and_texts_without_rating_are_counted(raw: Path) -> None:
    write_rated(raw, {"a": [4], "b": [1]})
    (raw / "texts.txt").write_text("a\t0\tone\nz\t0\ttwo\n")
    run(RATED, bins=BINS, max_reject_fraction=0.5)
    assert records().select("id", "label", "reference_label").rows() == [
        ("tweets:a", "positive", "positive"),
        ("tweets:z", None, None),
    ]
    assert ratings()["id"].to_list() == ["tweets:a"]
    found = metrics()
    assert found["rows_without_label"] == 1
    assert found["sources"]["tweets"]["rows_without_ratings"] == 1
    assert removed("removed_ratings") == [("ratings.txt:2", "rated_no_row", "01 1", None)]


@pytest.mark.parametrize(
    ("columns", "expected"), [({"label": 2}, ("0.1", "positive")), ({"reference_label": 2}, ("positive", "0.1"))]
)
def test_a_named_column_wins_over_the_raters(raw: Path, columns: dict[str, int], expected: tuple[str, str]) -> None:
    write_rated(raw, {"a": [4, 4]})
    run(source(RATED, columns=columns), bins=BINS)
    assert records().select("label", "reference_label").row(0) == expected


def long_form(raw: Path, rows: str) -> dict[str, Any]:
    (raw / "rows.csv").write_text("key,body\n1,one\n2,two\n")
    (raw / "votes.csv").write_text("key,who,vote\n" + rows)
    columns = {"id": "key", "text": "body", "label": None}
    votes = {"file": "votes.csv", "format": "csv", "header": True}
    votes |= {"columns": {"id": "key", "annotator": "who", "rating": "vote"}}
    return source(PLAIN, columns=columns, ratings=votes | {"not_rated": [], "repeated": "error", "exclude_slots": []})


def test_ratings_in_long_form_that_are_labels(raw: Path) -> None:
    run(long_form(raw, "1,ann,spam\n1,bob,spam\n1,cy,ham\n2,bob,spam\n2,ann,ham\n"))
    assert ratings().rows() == [
        ("bank:1", "ann", None, "spam"),
        ("bank:1", "bob", None, "spam"),
        ("bank:1", "cy", None, "ham"),
        ("bank:2", "ann", None, "ham"),
        ("bank:2", "bob", None, "spam"),
    ]
    # The majority; of equally frequent labels the one that raters give more often, as the consensus of `annotation_qa`.
    assert records()["reference_label"].to_list() == ["spam", "spam"]
    assert set(records()["label"]) <= {"ham", "spam"}


def test_ratings_that_cannot_be_used_are_set_aside(raw: Path) -> None:
    base = long_form(raw, "1,ann,2\n1,ann,3\n1,,4\n,bob,1\n2,bob,many\n2,ann,\n")
    base["ratings"]["repeated"] = "first"
    run(base, bins=BINS, max_reject_fraction=0.9)
    assert ratings().rows() == [("bank:1", "ann", 2.0, "positive")]
    assert removed("removed_ratings") == [
        ("votes.csv:7", "not_rated", "ann ", None),
        ("votes.csv:3", "rated_twice", "ann 3", None),
        ("votes.csv:4", "no_annotator", " 4", None),
        ("votes.csv:5", "no_id", "bob 1", None),
        ("votes.csv:6", "rating_not_a_number", "bob many", None),
    ]
    counts = {"no_annotator": 1, "no_id": 1, "not_rated": 1, "rated_twice": 1, "rating_not_a_number": 1}
    assert metrics()["removed_ratings"] == counts


def test_too_many_ratings_that_are_no_numbers(raw: Path) -> None:
    write_params(long_form(raw, "1,ann,good\n2,ann,bad\n"), bins=BINS)
    message = fails()
    assert "votes.csv:2: rating_not_a_number: 'ann good'; 2 of 2 ratings" in message
    assert "null where a rating is itself a label" in message


def test_too_many_ratings_that_are_no_list(raw: Path) -> None:
    write_rated(raw, {"a": 3, "b": [[1]]})
    write_params(RATED, bins=BINS)
    message = fails()
    assert "ratings.txt:1: ratings_not_a_list: '3'; 2 of 2 rows are no JSON list" in message
    assert "ingest.sources.0.ratings.columns.ratings" in message


def test_two_columns_and_no_ratings(raw: Path) -> None:
    (raw / "rows.csv").write_text('text,category\n"card, lost",lost_card\nwhy a fee?,card_fee\n')
    run(PLAIN)
    assert records().select("text", "label", "reference_label").rows() == [
        ("card, lost", "lost_card", None),
        ("why a fee?", "card_fee", None),
    ]
    assert ratings().height == 0
    assert ratings().schema == {"id": pl.String, "annotator": pl.String, "rating": pl.Float64, "label": pl.String}
    found = metrics()
    assert found["labels"] == {"card_fee": 1, "lost_card": 1}
    assert found["ratings"] == 0
    assert "given_label_accuracy" not in found


def test_where_a_row_comes_from_goes_with_it(raw: Path) -> None:
    (raw / "rows.csv").write_text("text,category\none,x\n,y\n")
    write_rated(raw, {"1": [4]})
    run(PLAIN, RATED, bins=BINS, max_reject_fraction=0.5)
    bank, tweets = file_sha256(raw / "rows.csv"), file_sha256(raw / "texts.txt")
    columns = ["origin", "source_url", "licence", "retrieved", "source_sha256", "authenticity"]
    assert records().select(columns).rows() == [
        ("rows.csv:2", "https://example.org/bank", None, None, bank, "generated"),
        ("texts.txt:1", "https://example.org/tweets", "MIT", "2026-11-22", tweets, "real"),
    ]
    rated = file_sha256(raw / "ratings.txt")
    assert pl.read_parquet("data/ingested/sources.parquet").rows() == [
        ("bank", "rows.csv", "https://example.org/bank", None, None, "generated", bank, None, None, 2, 1),
        (
            *("tweets", "texts.txt", "https://example.org/tweets", "MIT", "2026-11-22", "real", tweets),
            *("ratings.txt", rated, 1, 1),
        ),
    ]


def test_columns_carried_are_null_where_another_source_has_none(raw: Path) -> None:
    (raw / "rows.csv").write_text("text,category,agent,score\none,x,ann,3\ntwo,y,,4\n")
    write_rated(raw, {"1": [4]})
    run(source(PLAIN, carry=["agent", "score"]), source(RATED, carry=[2]), bins=BINS)
    assert records().select("source", "agent", "score", "2").rows() == [
        ("bank", "ann", "3", None),
        ("bank", "", "4", None),
        ("tweets", None, None, "0.1"),
    ]
    assert set(records().drop("given_rating").dtypes) == {pl.String}


def test_columns_are_carried_under_other_names_by_patterns_and_as_constants(raw: Path) -> None:
    (raw / "rows.csv").write_text("text,category,split,key\none,x,trn,17_1\ntwo,y,tst,none\n")
    taken = {"name": "review", "column": "key", "pattern": "^([0-9]+)_"}
    renamed = {"name": "my_split", "column": "split", "pattern": None}
    run(source(PLAIN, carry=[taken, renamed, {"name": "file", "constant": "train"}]))
    assert records().select("review", "my_split", "file").rows() == [("17", "trn", "train"), (None, "tst", "train")]
    for pattern in ("^([a-z]+)_", "^[0-9]+"):
        with pytest.raises(InputError, match=re.escape(f"{pattern!r} takes nothing from column 'key', such as '17_1'")):
            run(source(PLAIN, carry=[taken | {"pattern": pattern}]))


def test_row_groups_are_small_enough_to_be_read_in_batches(raw: Path) -> None:
    (raw / "rows.csv").write_text("text,category\n" + "".join(f"row {number},x\n" for number in range(120_000)))
    run(PLAIN)
    file = pq.ParquetFile("data/ingested/records.parquet").metadata
    assert max(file.row_group(number).num_rows for number in range(file.num_row_groups)) <= 50_000


def column_of_bad_text(data: bytes) -> pa.Table:
    """One row whose String cell holds these bytes, whatever they are."""
    offsets = pa.py_buffer(struct.pack("<2i", 0, len(data)))
    text = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(data)])
    return pa.table({"text": text, "category": ["x"]})


def test_parquet_text_that_is_not_utf8(raw: Path) -> None:
    pq.write_table(column_of_bad_text(b"caf\xe9"), raw / "rows.parquet")
    write_params(source(PLAIN, file="rows.parquet", format="parquet"))
    assert "rows.parquet: holds text that is not UTF-8" in fails()


def test_parquet_bytes_that_are_not_utf8_are_set_aside(raw: Path) -> None:
    texts = [b"good", b"caf\xe9", None, b"fine"]
    pl.DataFrame({"text": texts, "category": ["a", "b", "c", "d"]}).write_parquet(raw / "rows.parquet")
    run(source(PLAIN, file="rows.parquet", format="parquet"), max_reject_fraction=0.5)
    assert records().select("text", "label", "origin").rows() == [
        ("good", "a", "rows.parquet:1"),
        ("fine", "d", "rows.parquet:4"),
    ]
    assert removed() == [("rows.parquet:2", "not_utf8", "caf\\xe9", None), ("rows.parquet:3", "empty_text", None, None)]


@pytest.mark.parametrize("table_format", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.timeout(100)  # seconds; quadratic would be hours
def test_ten_megabytes_in_one_cell(raw: Path, table_format: str) -> None:
    text = "a b<" * 2_500_000
    path = raw / f"rows.{table_format}"
    table = pl.DataFrame({"text": [text, "short"], "category": ["x", "y"]})
    if table_format == "jsonl":
        table.write_ndjson(path)
    elif table_format == "parquet":
        table.write_parquet(path)
    else:
        table.write_csv(path, separator="\t" if table_format == "tsv" else ",")
    run(source(PLAIN, file=path.name, format=table_format))
    assert records()["text"].to_list() == [text, "short"]


@pytest.mark.parametrize(
    "bomb", ["[" * 100_000 + "]" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000, "9" * 100_000, "[" * 100_000]
)
@pytest.mark.timeout(100)  # seconds; quadratic would be minutes
def test_json_that_is_a_bomb_is_set_aside(raw: Path, bomb: str) -> None:
    (raw / "rows.jsonl").write_text(f'{{"text": "good", "category": "a"}}\n{{"text": "bad", "category": {bomb}}}\n')
    run(source(PLAIN, file="rows.jsonl", format="jsonl"), max_reject_fraction=0.5)
    assert records()["text"].to_list() == ["good"]
    assert metrics()["removed"] == {"not_json": 1}


@pytest.mark.parametrize("bomb", ["[" * 100_000 + "]" * 100_000, "[" + "9" * 100_000 + "]"])
def test_a_list_of_ratings_that_is_a_bomb_is_set_aside(raw: Path, bomb: str) -> None:
    write_rated(raw, {"a": [1], "b": [2]})
    (raw / "ratings.txt").write_text(f"a\t[4]\nb\t{bomb}\n")
    run(RATED, bins=BINS, max_reject_fraction=0.5)
    assert metrics()["removed_ratings"] == {"ratings_not_a_list": 1}


@pytest.mark.timeout(100)  # seconds; quadratic would be hours
def test_a_record_of_a_million_cells_is_set_aside(raw: Path) -> None:
    lines = ["text\tcategory", *(f"row {number}\tx" for number in range(200)), "x\t" * 1_000_000]
    (raw / "rows.tsv").write_text("\n".join(lines))
    run(source(PLAIN, file="rows.tsv", format="tsv"))
    assert metrics()["removed"] == {"too_many_cells": 1}


LABEL_STUDIO = source(PLAIN, format="json", layout="label_studio", columns={"id": "id", "label": "topic"})


def annotated(number: int, *choices: str, by: Any = 4, **more: Any) -> dict[str, Any]:
    result = {"from_name": "topic", "to_name": "t", "type": "choices", "value": {"choices": list(choices)}}
    return {"id": number, "completed_by": by, "result": [result] if choices else []} | more


def task(number: int, text: str, *annotations: dict[str, Any], **data: Any) -> dict[str, Any]:
    return {"id": number, "annotations": list(annotations), "data": {"text": text} | data, "predictions": []}


def test_annotations_of_label_studio_are_ratings(raw: Path) -> None:
    tasks = [
        task(11, "charged twice", annotated(1, "billing"), annotated(2, "billing", by=5), annotated(3, "post", by=6)),
        task(12, "wrong month", annotated(4), annotated(5, "billing", by={"id": 5, "email": "mia@example.org"})),
        task(13, "late", annotated(6, "post", was_cancelled=True)),
    ]
    (raw / "rows.csv").write_text(json.dumps(tasks))
    run(LABEL_STUDIO)
    assert records().select("id", "text", "reference_label").rows() == [
        ("bank:11", "charged twice", "billing"),
        ("bank:12", "wrong month", "billing"),
        ("bank:13", "late", None),
    ]
    assert set(records()["label"]) <= {"billing", "post", None}
    assert ratings().select("id", "annotator", "label").rows() == [
        *(("bank:11", "4", "billing"), ("bank:11", "5", "billing"), ("bank:11", "6", "post")),
        ("bank:12", "mia@example.org", "billing"),
    ]
    assert [row[:2] for row in removed("removed_ratings")] == [
        *(("rows.csv:2", "annotation_empty"), ("rows.csv:3", "annotation_skipped"))
    ]
    assert metrics()["sources"]["bank"]["rows_without_ratings"] == 1


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (task(1, "a", {"result": ["billing"]}), "rows.csv:1: no task of Label Studio's"),
        (task(1, "a") | {"data": None}, "rows.csv:1: no task of Label Studio's"),
        ({"id": 1, "text": "a", "topic": "x"}, "no export of Label Studio's: JSON has"),
        (task(1, "a", annotated(1, "billing", "post")), "1 rows have several labels"),
        # Votes of nobody, of one person, and of two texts: none of them is the one that counts.
        (task(1, "a", annotated(1, "x", by=None), annotated(2, "y", by=None)), "no_annotator: 'x'; 2 of 2 annotations"),
        (task(1, "a", annotated(1, "x"), annotated(2, "y")), "rated_twice: '4 y'; 1 of 2 annotations cannot be used"),
        ([task(1, "a", annotated(1, "x")), task(1, "b", annotated(2, "y", by=5))], "with other values in ['text']"),
    ],
)
def test_an_export_that_is_none_says_so(raw: Path, row: Any, says: str) -> None:
    (raw / "rows.csv").write_text(json.dumps(row if isinstance(row, list) else [row]))
    write_params(LABEL_STUDIO)
    assert says in fails()


@pytest.mark.parametrize("table_format", ["json", "csv"])
def test_one_annotation_a_task_is_its_label(raw: Path, table_format: str) -> None:
    rows: list[dict[str, Any]] = [
        {"id": number, "text": text, "topic": topic, "annotator": 4, "annotation_id": number}
        for number, text, topic in ((7, "late", "post"), (8, "charged", "billing"))
    ]
    if table_format == "csv":
        pl.DataFrame(rows).write_csv(raw / "rows.csv")
    else:
        # The JSON export keeps an id of the data, and JSON_MIN has the task's number in its place.
        tasks = [task(row["id"], row["text"], annotated(1, row["topic"]), id=f"own{row['id']}") for row in rows]
        (raw / "rows.csv").write_text(json.dumps(tasks))
    own = {"columns": {"id": "data.id"}} if table_format == "json" else {}
    run(source(LABEL_STUDIO, format=table_format, **own))
    names = ["bank:own7", "bank:own8"] if own else ["bank:7", "bank:8"]
    assert records().select("id", "label", "reference_label").rows() == [
        (names[0], "post", None),
        (names[1], "billing", None),
    ]
    assert ratings().height == 0


@pytest.mark.parametrize(("cells", "label", "says"), FILES["labels"])
def test_a_list_of_one_label_is_that_label(raw: Path, cells: list[str], label: list[str | None], says: str) -> None:
    pl.DataFrame({"text": [f"text {cell}" for cell in cells], "category": cells}).write_csv(raw / "rows.csv")
    write_params(PLAIN)
    if says:
        assert says in fails()
        return
    ingest.main()
    assert records()["label"].to_list() == label


def test_doccano(raw: Path) -> None:
    (raw / "rows.csv").write_text('{"id": 1, "data": "a", "labels": ["bug"], "Comments": []}\n{"id": 2, "data": "b"}\n')
    run(source(PLAIN, format="jsonl", layout="doccano", columns={"id": "id", "label": "label"}))
    assert records().select("id", "text", "label").rows() == [("bank:1", "a", "bug"), ("bank:2", "b", None)]


def test_what_was_seen_is_said_and_counted(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["subject;body;category;;tags", *(f"s{number}; ;x;;" for number in range(200)), "s;b;y;;;", "s;b"]
    (raw / "rows.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode("utf-16")))
    run(source(PLAIN, file="rows.csv.gz", separator=";", encoding="utf-16", columns={"text": ["subject", "body"]}))
    assert records()["text"].to_list()[-2:] == ["s199", "s\nb"]
    assert removed() == [("rows.csv.gz:203", "too_few_cells", "2 cells, 5 wanted: s;b", None)]
    found = metrics()["sources"]["bank"]
    assert (found["labels"], found["ragged_rows"], found["unused_columns"]) == ({"x": 200, "y": 1}, 2, 2)
    assert capsys.readouterr().out.splitlines() == [
        "ingest: bank: labels: 'x' 200, 'y' 1; rows without: 0",
        "ingest: bank: columns that nothing uses: '4', 'tags'",
        "ingest: bank: records with another number of cells: 2",
        "ingest: 202 rows in, 201 out; removed: 1 too_few_cells; ratings 0",
    ]


def test_what_may_be_wrong_with_labels_and_texts_is_said(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (raw / "rows.csv").write_text(
        "text,category,bo,n\na b,x,y,\na  b,y,x,\nc,x,,\nc,x,x,\nd,nan,,1\ne,x;y,,\nf,y#z,,\n"
    )
    (raw / "more.csv").write_text("first,x\na b,z\ng,y\n")
    more = source(PLAIN, name="more", file="more.csv", columns={"text": 1, "label": 2})
    run(PLAIN, more)
    advice = "if a line is one rater's judgement, name the columns in its `ratings`, so that every vote counts"
    assert capsys.readouterr().out.splitlines()[:-1] == [
        "ingest: texts in several sources with different labels: 1; if each file is one rater's, put them into "
        "one with a column of raters, as `ratings`, so that every vote counts",
        "ingest: bank: labels: 'x' 3, 'nan' 1, 'x;y' 1, 'y' 1, 'y#z' 1; rows without: 0",
        "ingest: bank: columns that nothing uses: 'bo', 'n'",
        f"ingest: bank: of these, columns that hold labels alone: 'bo'; {advice.replace('line', 'column')}",
        "ingest: bank: labels that may mean that there is none: 'nan'; empty them, or name them in `not_rated`",
        "ingest: bank: labels that look like several: 'x;y'; a text has one label here",
        f"ingest: bank: texts in several rows with different labels: 1; {advice}",
        f"ingest: bank: texts in several rows with one label: 1; {advice}",
        "ingest: more: labels: 'y' 1, 'z' 1; rows without: 0",
        "ingest: more: columns by number: 1 is 'first', 2 is 'x'",
    ]


def test_parquet_and_responses(raw: Path) -> None:
    pl.DataFrame({"text": ["a", "b"], "category": [0, None], "answer": ["x", ""]}).write_parquet(raw / "rows.parquet")
    run(source(PLAIN, file="rows.parquet", format="parquet", columns={"response": "answer"}))
    assert records().select("label", "response").rows() == [("0", "x"), (None, None)]
    assert metrics()["rows_without_label"] == 1


def test_ids_from_the_content(raw: Path) -> None:
    (raw / "rows.csv").write_text("text,category\nsame,a\nother,b\nsame,c\nsame,d\n")
    run(PLAIN)
    first, other, second, third = records()["id"]
    assert first.startswith("bank:")
    assert len(first) == len("bank:") + 16
    assert (second, third) == (f"{first}-2", f"{first}-3")
    assert other not in (first, second, third)


def test_content_ids_are_those_of_blake2b() -> None:
    # Computed with coreutils: printf 'hello\x1f' | b2sum -l 64
    found = content_ids(pl.Series(["hello"]), pl.Series([None], dtype=pl.String))
    assert found.to_list() == ["35f4fae133c131ef"]


def test_rows_without_text_or_id_are_set_aside(raw: Path) -> None:
    (raw / "rows.csv").write_text('id,text,category\n1,a,x\n2,,x\n3,"  ",x\n,d,x\n')
    base = source(PLAIN, columns={"id": "id"})
    write_params(base)
    assert "rows.csv:3: empty_text: ''; 3 of 4 rows have no text or no id: correct" in fails()
    run(base, max_reject_fraction=0.75)
    assert records()["id"].to_list() == ["bank:1"]
    assert removed() == [
        ("rows.csv:3", "empty_text", "", None),
        ("rows.csv:4", "empty_text", "  ", None),
        ("rows.csv:5", "no_id", "d", None),
    ]
    assert metrics()["removed"] == {"empty_text": 2, "no_id": 1}


@pytest.mark.parametrize(("content", "changed", "expected"), FILES["files"])
def test_a_file_that_is_not_as_the_params_say(
    raw: Path, content: str, changed: dict[str, Any], expected: list[str]
) -> None:
    (raw / "rows.csv").write_bytes(content.encode(errors="surrogateescape"))
    write_params(source(PLAIN, **changed))
    message = fails()
    assert message.startswith("data/raw/mine/rows.csv:")
    assert [text for text in expected if text not in message] == []


def test_rows_without_any_text(raw: Path) -> None:
    (raw / "rows.csv").write_text("text,category\n,x\n,y\n")
    write_params(PLAIN)
    assert "no row with a text" in fails()


def test_the_first_bin_that_fits_wins() -> None:
    bins = [
        RatingBin(label="low", at_least=None, at_most=-0.5),
        RatingBin(label="odd", at_least=-1.0, at_most=0.0),
        RatingBin(label="high", at_least=0.5, at_most=None),
    ]
    frame = pl.DataFrame({"rating": [-0.5, -0.4, 0.0, 0.4, 0.5, None]})
    found = frame.select(bin_ratings(pl.col("rating"), bins)).to_series().to_list()
    assert found == ["low", "odd", "odd", None, "high", None]


def test_a_sample_has_its_share_of_each_label_and_is_the_same_when_rows_are_added(raw: Path) -> None:
    def rows(count: int) -> dict[str, str]:
        kinds = ["often"] * 80 + ["rare"] * 16 + ["once"] * 4
        lines = [f"text {number},{kinds[number % 100]}" for number in range(count)]
        (raw / "rows.csv").write_text("\n".join(["text,category", *lines]))
        run(PLAIN, max_rows=50)
        return dict(pl.read_parquet("data/ingested/records.parquet").select("id", "label").iter_rows())

    first = rows(300)
    labels = pl.Series(first.values()).value_counts()
    # Ten rows of each at least, and what is left by share: of the rarest label 2 of 50 would be too few to split.
    assert dict(labels.iter_rows()) == {"often": 30, "rare": 10, "once": 10}
    metrics = read_json("metrics/ingest.json")
    assert (metrics["rows_in"], metrics["rows_out"], metrics["removed"]) == (300, 50, {"max_rows": 250})
    assert set(pl.read_parquet("data/ingested/removed.parquet")["rule"]) == {"max_rows"}
    assert len(first.keys() & rows(320).keys()) > 40


def test_a_sample_of_rated_rows_keeps_their_ratings_alone(raw: Path) -> None:
    (raw / "texts.txt").write_text("".join(f"{number}\t1\ttext {number}\n" for number in range(40)))
    (raw / "ratings.txt").write_text("".join(f"{number}\t[{number % 3 - 1}, 1]\n" for number in range(40)))
    run(RATED, bins=BINS, max_rows=12)
    records, ratings = (pl.read_parquet(f"data/ingested/{name}.parquet") for name in ("records", "ratings"))
    assert records.height == 12
    assert set(ratings["id"]) == set(records["id"])
