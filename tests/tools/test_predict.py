"""Tables in, the same tables with labels out: every row, every column, in order."""

import gzip
from pathlib import Path

import polars as pl
import pytest

from assay.core.errors import InputError
from assay.inference import table_windows
from assay.sources.table_files import read_table
from stages import finetune
from tests.own_cases import read_cases
from tests.own_params import change
from tests.own_process import run_main
from tests.stages.test_finetune import workspace as workspace
from tools import predict

CASES = read_cases(__file__)

ROWS = pl.DataFrame({"n": [str(n) for n in range(9)], "text": [*["great card", "awful bank"] * 4, ""]})
LABELS = [*["positive", "negative"] * 4, None]


@pytest.fixture
def words(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """TF-IDF, saved, and windows of three rows."""
    change("", inference={"wanted_precision": 0.6})
    run_main(finetune, "tfidf")
    monkeypatch.setattr(table_windows, "WINDOW_ROWS", 3)
    return workspace


def read(path: str) -> pl.DataFrame:
    return read_table(Path(path), table_windows.format_of(Path(path)), header=True).cells


@pytest.mark.parametrize("end", ["csv", "tsv", "jsonl", "parquet", "xlsx", "csv.gz", "tsv.gz", "jsonl.gz"])
def test_every_format_comes_in_and_goes_out(words: Path, capsys: pytest.CaptureFixture[str], end: str) -> None:
    ROWS.write_csv("rows.csv")
    run_main(predict, "tfidf", "rows.csv", f"first.{end}")
    run_main(predict, "tfidf", f"first.{end}", f"again.{end}")
    found = read(f"again.{end}")
    assert found.columns == [
        *("n", "text", "label", "probability", "is_sure", "reason"),
        *(f"predicted_{name}" for name in ("label", "probability", "is_sure", "reason")),
    ]
    assert found["n"].to_list() == ROWS["n"].to_list()
    for name in ("label", "predicted_label"):
        assert [label or None for label in found[name]] == LABELS
    assert found["predicted_reason"][8] == "missing_text"
    assert found["is_sure"].to_list() == found["predicted_is_sure"].to_list()
    said = capsys.readouterr()
    assert (
        f"predict: 9 rows in first.{end}: positive 4, negative 4; not sure 0; without a label 1 (missing_text 1)"
        in said.out
    )
    assert "tfidf: sure from probability" in said.err


def test_records_that_cannot_be_read_are_rows_with_their_reason(words: Path) -> None:
    lines = [
        "sep=;",
        "n;text",
        "1;great card",
        "2;awful;bank",
        '3;"great\ncard"',
        "",
        '4;"awful',
        "5;great card",
        "6;x",
    ]
    content = ("\n".join(lines) + "\n").encode() + b"7;gr\xffat\n8;awful bank\n"
    Path("rows.csv.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + content))
    run_main(predict, "tfidf", "rows.csv.gz", "labels.csv")
    found = pl.read_csv("labels.csv", infer_schema=False)
    assert found["n"].to_list() == ["1", None, "3", None, "5", "6", None, "8"]
    assert found["reason"].to_list() == [
        *(None, "too_many_cells: line 4", None, "bad_quotes: line 8", None, "min_characters", "not_utf8: line 11", None)
    ]


def test_keys_of_json_lines_may_differ_and_parquet_keeps_its_types(words: Path) -> None:
    Path("rows.jsonl").write_text('{"text": "great card"}\nnone\n{"a": 1}\n{"a": [1], "text": "awful bank"}\n')
    run_main(predict, "tfidf", "rows.jsonl", "labels.csv")
    assert pl.read_csv("labels.csv", infer_schema=False).select("a", "label", "reason").rows() == [
        (None, "positive", None),
        (None, None, "not_json: line 2"),
        ("1", None, "missing_text"),
        ("[1]", "negative", None),
    ]
    table = pl.DataFrame({"body": ["great card", None], "n": [1, 2], "all": [[1.5], None]})
    table.write_parquet("rows.parquet")
    run_main(predict, "tfidf", "rows.parquet", "labels.parquet", "--column", "body")
    assert pl.read_parquet("labels.parquet").select(table.columns).equals(table)
    run_main(predict, "models/finetuned/tfidf", "rows.parquet", "labels.tsv", "--column", "body")
    assert pl.read_csv("labels.tsv", separator="\t")["all"].to_list() == ["[1.5]", None]


def test_excel_gets_texts_and_no_formulas(words: Path) -> None:
    pl.DataFrame({"text": ["=1+1 great card", "awful\x01 bank"]}).write_csv("rows.csv")
    run_main(predict, "tfidf", "rows.csv", "labels.xlsx")
    assert read("labels.xlsx")["text"].to_list() == ["=1+1 great card", "awful bank"]


@pytest.mark.parametrize(("arguments", "message"), CASES["what_cannot_be_done_says_why_and_writes_nothing"])
def test_what_cannot_be_done_says_why_and_writes_nothing(words: Path, arguments: tuple[str, ...], message: str) -> None:
    ROWS.write_csv("rows.csv")
    Path("rows.csv.gz").write_bytes(gzip.compress(Path("rows.csv").read_bytes())[:-9])
    for name in ("empty.csv", "empty.parquet"):
        Path(name).write_bytes(b"")
    with pytest.raises(InputError, match=message):
        run_main(predict, *arguments)
    assert not list(Path().glob("*labels*"))
