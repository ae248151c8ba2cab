from pathlib import Path
from typing import Any, get_args

import polars as pl
import pytest

from assay.core.errors import InputError
from assay.sources.table_files import Table, TableFormat, column, read_table


def read(tmp_path: Path, content: bytes, table_format: TableFormat, header: bool = True) -> Table:
    path = tmp_path / f"table.{table_format}"
    path.write_bytes(content)
    return read_table(path, table_format, header)


def cells(table: Table) -> dict[str, list[Any]]:
    return table.cells.to_dict(as_series=False)


def test_tsv_is_taken_as_it_is(tmp_path: Path) -> None:
    table = read(tmp_path, b'1\t0.5\t"quoted, once\r\n2\t-1\ttwo "" quotes\r\n', "tsv", header=False)
    assert cells(table) == {"1": ["1", "2"], "2": ["0.5", "-1"], "3": ['"quoted, once', 'two "" quotes']}
    assert table.lines.to_list() == [1, 2]
    assert table.unreadable.height == 0


@pytest.mark.parametrize("table_format", ["tsv", "csv"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_byte_order_mark_line_ends_and_blank_lines(tmp_path: Path, table_format: TableFormat, end: bytes) -> None:
    tab = b"\t" if table_format == "tsv" else b","
    content = b"\xef\xbb\xbf" + end.join([b"id" + tab + b"text", b"", b"1" + tab + "né".encode(), b"2" + tab + b"b"])
    table = read(tmp_path, content, table_format)
    assert cells(table) == {"id": ["1", "2"], "text": ["né", "b"]}
    assert table.lines.to_list() == [3, 4]


@pytest.mark.parametrize("table_format", ["tsv", "csv"])
def test_unequal_column_counts(tmp_path: Path, table_format: TableFormat) -> None:
    content = b"1\tone\n2\n3\tthree\tmore\n4\tfour\n".replace(b"\t", b"\t" if table_format == "tsv" else b",")
    table = read(tmp_path, content, table_format, header=False)
    assert cells(table) == {
        "1": ["1", "2", "3", "4"],
        "2": ["one", None, "three", "four"],
        "3": [None, None, "more", None],
    }
    assert table.ragged_rows == 2


def test_cells_beyond_the_header_have_numbers(tmp_path: Path) -> None:
    table = read(tmp_path, b"a,b\n1,2\n1,2,3\n", "csv")
    assert cells(table) == {"a": ["1", "1"], "b": ["2", "2"], "3": [None, "3"]}
    assert table.ragged_rows == 1


def test_csv_quotes(tmp_path: Path) -> None:
    table = read(tmp_path, b'id,text\n1,"a, ""b""\r\nc"\n2,d\n', "csv")
    assert cells(table) == {"id": ["1", "2"], "text": ['a, "b"\r\nc', "d"]}
    assert table.lines.to_list() == [2, 4]


def test_csv_with_a_very_long_cell(tmp_path: Path) -> None:
    assert cells(read(tmp_path, b"text\n" + b"x" * 200_000, "csv")) == {"text": ["x" * 200_000]}


@pytest.mark.parametrize(
    ("table_format", "content", "error"),
    [
        ("csv", b'id,text\n1,a\n2,"b\n3,c\n', r"table\.csv:3: a quote in this record is never closed"),
        ("csv", b"id,t\xe9xt\n1,a\n", r"table\.csv:1: the header cannot be read"),
        ("csv", b"text,text\n1,a\n", "'text' more than once"),
        ("tsv", "id\ttext\n".encode("utf-16"), "UTF-16"),
        ("parquet", b"id,text\n", "not a Parquet file"),
        ("json", b'{"a": 1}\n{"a": 2}', "not JSON .*set its `format` to jsonl"),
        ("json", b'{"a": 1}', "holds no JSON list, but .*write a list of objects"),
        ("json", b'["\xff"]', "is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(
    tmp_path: Path, table_format: TableFormat, content: bytes, error: str
) -> None:
    with pytest.raises(InputError, match=error):
        read(tmp_path, content, table_format)


def test_a_record_with_bad_quotes_is_set_aside(tmp_path: Path) -> None:
    table = read(tmp_path, b'id,text\n1,"a" b\n2,c\n', "csv")
    assert cells(table) == {"id": ["2"], "text": ["c"]}
    assert table.unreadable.rows() == [(2, "bad_quotes", '1,"a" b')]


@pytest.mark.parametrize(
    ("table_format", "content"),
    [
        ("tsv", b"id\ttext\n1\tgood\n2\tcaf\xe9\n3\tgood\n"),
        ("csv", b"id,text\n1,good\n2,caf\xe9\n3,good\n"),
        ("jsonl", b'{"id": 1, "text": "good"}\n\n{"id": 2, "text": "caf\xe9"}\n{"id": 3, "text": "good"}'),
    ],
)
def test_bytes_that_are_not_utf8_are_set_aside(tmp_path: Path, table_format: TableFormat, content: bytes) -> None:
    table = read(tmp_path, content, table_format)
    assert cells(table) == {"id": ["1", "3"], "text": ["good", "good"]}
    line, rule, before = table.unreadable.row(0)
    assert (line, rule) == (3, "not_utf8")
    assert "caf\\xe9" in before


def test_jsonl_values_become_text(tmp_path: Path) -> None:
    content = (
        b'{"a": 3, "b": "x", "c": [1, 2.5, null], "d": true}\n{"b": null, "a": 0.1, "c": {"k": "\xc3\xa9"}, "e": NaN}\n'
    )
    assert cells(read(tmp_path, content, "jsonl")) == (
        {"a": ["3", "0.1"], "b": ["x", None], "c": ["[1, 2.5, null]", '{"k": "é"}'], "d": ["true", None]}
        | {"e": [None, None]}
    )


def test_jsonl_lines_that_are_no_objects_are_set_aside(tmp_path: Path) -> None:
    table = read(tmp_path, b'{"a": 1}\n[1]\n{"a": 1\n{"a": "\\ud800"}\n', "jsonl")
    assert cells(table) == {"a": ["1"]}
    assert table.unreadable.select("line", "rule").rows() == [(2, "not_an_object"), (3, "not_json"), (4, "not_utf8")]


def test_parquet_values_become_text(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    frame = pl.DataFrame(
        {"n": [3, None], "f": [0.5, float("nan")], "t": ["x", None], "l": [[1, 2], None], "b": [True, False]},
        schema_overrides={"n": pl.Int16},
    ).with_columns(c=pl.col("t").cast(pl.Categorical))
    frame.write_parquet(path)
    table = read_table(path, "parquet", header=True)
    assert cells(table) == (
        {"n": ["3", None], "f": ["0.5", None], "t": ["x", None], "l": ["[1, 2]", None], "b": ["true", "false"]}
        | {"c": ["x", None]}
    )
    assert table.lines.to_list() == [1, 2]


@pytest.mark.parametrize("table_format", get_args(TableFormat))
def test_no_such_file_lists_what_is_there(tmp_path: Path, table_format: TableFormat) -> None:
    (tmp_path / "there.csv").touch()
    with pytest.raises(InputError, match=r"absent\.csv: no such file; .* holds \['there\.csv'\]"):
        read_table(tmp_path / "absent.csv", table_format, header=True)


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"id,text\n", b"\n\n"])
def test_no_rows(tmp_path: Path, content: bytes) -> None:
    assert read(tmp_path, content, "csv").cells.height == 0
    assert read(tmp_path, content.replace(b"id,text", b""), "jsonl").cells.height == 0


def test_a_missing_column_lists_those_there(tmp_path: Path) -> None:
    table = read(tmp_path, b"id,text\n1,a\n", "csv")
    assert column(table, "text", Path("t.csv"), "ingest.x").to_list() == ["a"]
    with pytest.raises(InputError) as caught:
        column(table, "body", Path("t.csv"), "ingest.x")
    assert str(caught.value) == "t.csv: no column 'body'; it has ['id', 'text']: correct `ingest.x`"


def test_a_column_by_number(tmp_path: Path) -> None:
    table = read(tmp_path, b"1\ta\n", "tsv", header=False)
    assert column(table, 2, Path("t"), "k").to_list() == ["a"]
    with pytest.raises(InputError, match=r"no column 3; it has \['1', '2'\]"):
        column(table, 3, Path("t"), "k")


def test_a_json_list_is_read_as_lines_are(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('\ufeff[\n {"a": "x", "b": 1.50},\n {"a": null, "c": [{"d": "é"}]},\n 3\n]\n', encoding="utf-8")
    table = read_table(path, "json", True)
    assert table.cells.rows() == [("x", "1.5", None), (None, None, '[{"d": "é"}]')]
    assert table.lines.to_list() == [1, 2]
    assert table.unreadable.rows() == [(3, "not_an_object", "3")]
