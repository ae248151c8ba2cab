import csv
import datetime
import gzip
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import openpyxl
import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.errors import InputError
from assay.sources import spreadsheets, table_files
from assay.sources.table_files import Table, TableFormat, check_readable, column, read_table
from tests.own_cases import read_cases

CASES = read_cases(__file__)

FILES = yaml.safe_load(Path(__file__).with_name("tables.yaml").read_text(encoding="utf-8"))


def read(tmp_path: Path, content: bytes, table_format: TableFormat, header: bool = True, **settings: Any) -> Table:
    path = tmp_path / f"table.{table_format}"
    path.write_bytes(content)
    return read_table(path, table_format, header, **settings)


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
    assert cells(table) == {"1": ["1", "4"], "2": ["one", "four"]}
    assert [row[:2] for row in table.unreadable.rows()] == [(2, "too_few_cells"), (3, "too_many_cells")]
    assert table.unreadable["before"][0] == "1 cells, 2 wanted: 2"
    assert table.ragged_rows == 2


def test_blank_cells_beyond_the_header_are_none(tmp_path: Path) -> None:
    table = read(tmp_path, b"a,b\n1,2\n1,2,, \n1,2,3\n", "csv")
    assert cells(table) == {"a": ["1", "1"], "b": ["2", "2"]}
    assert (table.ragged_rows, table.unreadable["line"].to_list()) == (2, [4])


def test_csv_quotes(tmp_path: Path) -> None:
    table = read(tmp_path, b'id,text\n1,"a, ""b""\r\nc"\n2,d\n', "csv")
    assert cells(table) == {"id": ["1", "2"], "text": ['a, "b"\r\nc', "d"]}
    assert table.lines.to_list() == [2, 4]


@pytest.mark.parametrize(
    ("table_format", "content", "error"),
    [
        ("csv", b"id,t\xe9xt\n1,a\n", r"table\.csv:1: the header cannot be read"),
        ("csv", b"text,text\n1,a\n", "'text' more than once"),
        ("tsv", "id\ttext\n".encode("utf-16"), "UTF-16"),
        ("parquet", b"id,text\n", "not a Parquet file"),
        ("json", b'{"a": 1}\n{"a": 2}', "not JSON .*set its `format` to jsonl"),
        ("json", b'{"a": 1}', "holds no JSON list, but .*write a list of objects"),
        ("json", b'["\xff"]', "is not UTF-8"),
        ("csv", b"PK\x03\x04\x00\xff", "is packed, or Excel or Parquet, and no text"),
        ("tsv", gzip.compress(gzip.compress(b"a\tb", mtime=0), mtime=0), "is packed, or Excel or Parquet, and no text"),
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
        {"n": [3, None], "f": [0.1, float("nan")], "t": ["x", None], "l": [[1, 2], None], "b": [True, False]},
        schema_overrides={"n": pl.Int16, "f": pl.Float32},
    ).with_columns(c=pl.col("t").cast(pl.Categorical), d=pl.Series([datetime.timedelta(1), None]))
    frame.write_parquet(path)
    table = read_table(path, "parquet", header=True)
    assert cells(table) == (
        {"n": ["3", None], "f": ["0.1", None], "t": ["x", None], "l": ["[1, 2]", None], "b": ["true", "false"]}
        | {"c": ["x", None], "d": ["1 day, 0:00:00", None]}
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
    assert read(tmp_path, content.replace(b"id,text", b""), "json").cells.height == 0


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
    of_pandas = read(tmp_path, b"0,1\na,x\n", "csv")
    assert column(of_pandas, "1", Path("t"), "k").to_list() == ["x"]
    assert column(of_pandas, 2, Path("t"), "k").to_list() == ["x"]
    with pytest.raises(InputError, match="`k`: 1 is the number of '0' and a name"):
        column(of_pandas, 1, Path("t"), "k")


def test_a_json_list_is_read_as_lines_are(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('\ufeff[\n {"a": "x", "b": 1.50},\n {"a": null, "c": [{"d": "é"}]},\n 3\n]\n', encoding="utf-8")
    table = read_table(path, "json", True)
    assert table.cells.rows() == [("x", "1.5", None), (None, None, '[{"d": "é"}]')]
    assert table.lines.to_list() == [1, 2]
    assert table.unreadable.rows() == [(3, "not_an_object", "3")]


@pytest.mark.parametrize(("table_format", "content", "how", "rows"), FILES["cells"])
def test_cells_of_files_as_people_have_them(
    tmp_path: Path, table_format: TableFormat, content: str, how: dict[str, Any], rows: list[list[str]]
) -> None:
    table = read(tmp_path, content.encode(), table_format, **how)
    assert list(map(list, table.cells.rows())) == rows
    assert (table.unreadable.height, table.ragged_rows) == (0, 0)


@pytest.mark.parametrize(("table_format", "content", "says"), FILES["says"])
def test_cells_that_do_not_fit_say_what_to_set(
    tmp_path: Path, table_format: TableFormat, content: str, says: str
) -> None:
    how = {"separator": "|"} if "sep=" in content else {"header": "Web" not in content}

    def read_checked() -> None:
        table = read(tmp_path, content.encode(), table_format, **how)
        check_readable(table, tmp_path, 0.01)
        column(table, "label", tmp_path, "k")

    with pytest.raises(InputError) as caught:
        read_checked()
    assert says in str(caught.value)


@pytest.mark.parametrize(("stray", "last"), CASES["a_stray_quote_takes_one_row"])
@pytest.mark.parametrize("between", [0, 1, 300])
def test_a_stray_quote_takes_one_row(tmp_path: Path, stray: str, last: str, between: int) -> None:
    usual = [f"text {number},{('refund', 'delivery')[number % 2]}" for number in range(300)]
    lines = ["text,label", *usual[:9], stray, *usual[:between], last, *usual]
    table = read(tmp_path, "\n".join(lines).encode(), "csv")
    assert table.unreadable["line"].to_list() == [11] + ([12 + between] if last.startswith(("it", "he")) else [])
    assert table.unreadable["rule"][0] == "bad_quotes"
    assert table.cells.height == len(lines) - 1 - table.unreadable.height
    assert sorted([*table.lines, *table.unreadable["line"]]) == list(range(2, len(lines) + 1))


def test_bad_bytes_behind_a_stray_quote_are_a_reject(tmp_path: Path) -> None:
    table = read(tmp_path, b'a,b\n"1,x\n\xe9,x\n3",x\n4,x\n5,x\n6,y\n7,y\n8,y\n', "csv")
    assert table.unreadable["rule"].to_list() == ["bad_quotes", "not_utf8"]
    assert table.cells["a"].to_list() == ['3"', "4", "5", "6", "7", "8"]


@pytest.mark.parametrize("order", [1, -1])
def test_letters_of_several_lines_are_one_cell(tmp_path: Path, order: int) -> None:
    letters = ["Dear all,\nmy lamp, the blue one", "Hello,\n\nit is dead,\nplease help,\nMia", "a\nb", "a\nb,c\nd", "e"]
    rows = [(letter, ("x", "y")[number % 2])[::order] for number, letter in enumerate(letters * 5)]
    file = io.StringIO()
    csv.writer(file).writerows([("text", "label"), *rows])
    assert read(tmp_path, file.getvalue().encode(), "csv").cells.rows() == rows


def test_quotes_that_never_close_take_linear_time(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="set its `quote` to none"):
        read(tmp_path, b'x",,"b\n' * 100_000, "csv", header=False)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "cp1252", "utf-8"])
@pytest.mark.parametrize("table_format", ["csv", "tsv", "jsonl", "json"])
def test_other_encodings_and_gzip(tmp_path: Path, table_format: TableFormat, encoding: str) -> None:
    separator = "\t" if table_format == "tsv" else ","
    text = f"a{separator}b\ngr\u00f6\u00dfer{separator}2\n"
    if table_format in ("json", "jsonl"):
        text = json.dumps({"a": "gr\u00f6\u00dfer", "b": 2}, ensure_ascii=False)
        text = f"[{text}]" if table_format == "json" else text
    content = gzip.compress(text.encode(encoding))
    assert read(tmp_path, content, table_format, encoding=encoding).cells.rows() == [("gr\u00f6\u00dfer", "2")]
    if encoding != "utf-8":
        with pytest.raises(InputError, match=r"utf-16|such as cp1252"):
            check_readable(read(tmp_path, content, table_format), tmp_path, 0.01)
    elif table_format != "json":
        with pytest.raises(InputError, match="is UTF-8 throughout, and its `encoding` is cp1252"):
            read(tmp_path, content, table_format, encoding="cp1252")


def test_a_file_of_two_encodings_and_a_gzip_that_is_cut(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="other records are UTF-8, so convert those that are not"):
        check_readable(read(tmp_path, b"a\nx\xe9\n\xc3\xa9\n", "csv"), tmp_path, 0.01)
    with pytest.raises(InputError, match="cannot be unpacked by gzip"):
        read(tmp_path, gzip.compress(b"a\nb\n" * 99)[:-9], "csv")


def test_a_key_twice_in_an_object_and_lists_in_cells(tmp_path: Path) -> None:
    table = read(tmp_path, b'{"a": [1], "b": {}}\n{"a": [], "b": 1}\n{"a": 1, "a": 2}\n', "jsonl")
    assert table.nested == {"a": 2, "b": 1}
    assert table.unreadable.rows() == [(3, "key_twice", '{"a": 1, "a": 2}')]


def write_xlsx(path: Path, rows: list[list[Any]], *others: str) -> None:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for name in others:
        if ":" in name:
            book.active.merge_cells(name)
        else:
            book.create_sheet(name).append(["text"])
    book.save(path)


def test_excel(tmp_path: Path) -> None:
    path = tmp_path / "table.xlsx"
    day = datetime.datetime(2026, 11, 22)
    write_xlsx(path, [["id", "text", "on"], [], [5, "a\nb", day], [0.5, True, day.replace(hour=9)], [1, "#N/A", 1e20]])
    book = openpyxl.load_workbook(path)
    book.active["A3"].number_format = "000"
    book.save(path)
    table = read_table(path, "xlsx", True)
    assert table.cells.rows() == [("005", "a\nb", "2026-11-22"), ("0.5", "true", "2026-11-22 09:00:00")]
    assert table.lines.to_list() == [3, 4]
    assert table.unreadable.rows() == [(5, "formula_error", "B5: #N/A")]


@pytest.mark.parametrize(("rows", "others", "sheet", "says"), CASES["excel_that_cannot_be_read_says_why"])
def test_excel_that_cannot_be_read_says_why(
    tmp_path: Path, rows: list[list[Any]], others: list[str], sheet: str | None, says: str
) -> None:
    write_xlsx(tmp_path / "table.xlsx", rows, *others)
    with pytest.raises(InputError) as caught:
        read_table(tmp_path / "table.xlsx", "xlsx", True, sheet=sheet)
    assert says in str(caught.value)
    for name in ("table.xlsx", "table.xls"):
        (tmp_path / name).write_bytes(b"text\na\n")
        with pytest.raises(InputError, match=r"not an Excel file of the kind \.xlsx"):
            read_table(tmp_path / name, "xlsx", True)


def write_rows(
    path: Path, table_format: TableFormat, names: list[str], rows: list[list[str]], how: dict[str, Any]
) -> None:
    """The rows as the usual programs write them."""
    if table_format == "xlsx":
        write_xlsx(path, [names, *rows])
    elif table_format == "parquet":
        pl.DataFrame(rows, schema=names, orient="row").write_parquet(path)
    elif table_format in ("json", "jsonl"):
        objects = [dict(zip(names, row, strict=True)) for row in rows]
        path.write_text(json.dumps(objects) if table_format == "json" else "\n".join(map(json.dumps, objects)))
    else:
        with path.open("w", newline="", encoding=how["encoding"] or "utf-8") as file:
            csv.writer(file, delimiter=how["separator"] or ("\t" if table_format == "tsv" else ",")).writerows(
                [names, *rows]
            )


CELL = st.text(st.sampled_from("ab ,;\t\n\"'|\u00e9\U0001f600[{1"), min_size=1, max_size=8)


@pytest.mark.parametrize("table_format", get_args(TableFormat))
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, table_format: TableFormat, data: st.DataObject
) -> None:
    width = data.draw(st.integers(1, 4))
    drawn = data.draw(st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=1, max_size=6))
    # No cell is there twice: a line of a text that has the label of other rows may be a row behind a stray quote.
    rows = [[f"{number}{cell}" for cell in row] for number, row in enumerate(drawn)]
    how: dict[str, Any] = {"separator": None, "quote": None, "encoding": None}
    if table_format in ("csv", "tsv"):
        how = {"separator": data.draw(st.sampled_from([None, ";", "|"])), "quote": '"'}
        how["encoding"] = data.draw(st.sampled_from([None, "utf-16"]))
    path = tmp_path_factory.mktemp("written") / f"table.{table_format}"
    write_rows(path, table_format, [f"c{number}" for number in range(width)], rows, how)
    if table_format not in ("parquet", "xlsx") and data.draw(st.booleans()):
        path.write_bytes(gzip.compress(path.read_bytes()))
    table = read_table(path, table_format, True, **how)
    assert [list(row) for row in table.cells.rows()] == rows
    assert (table.unreadable.height, table.ragged_rows) == (0, 0)


ROWS = b'h 1,"two\nlines"\n1,joy\n2\n3,joy,more\n4,"a\nb"\nh 1,"two\nlines"\n5,"open\n6,joy\n'
OBJECTS = b'{}\n{"a": 1}\n{"b": [1]}\n[]\n{"a": 2, "c": "x"}\n{}\n'


@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize(("table_format", "content"), [("csv", ROWS), ("tsv", ROWS), ("jsonl", OBJECTS)])
@pytest.mark.parametrize("header", [True, False])
def test_blocks_do_not_show_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, table_format: TableFormat, content: bytes, header: bool
) -> None:
    whole = read(tmp_path, content, table_format, header, quote='"')
    monkeypatch.setattr(table_files, "BLOCK_RECORDS", block)
    again = read(tmp_path, content, table_format, header, quote='"')
    for one in ("cells", "lines", "unreadable"):
        assert getattr(again, one).equals(getattr(whole, one)), one
    assert (again.ragged_rows, again.nested) == (whole.ragged_rows, whole.nested)


@pytest.mark.parametrize("packed", ["csv", "parquet", "xlsx"])
def test_what_unpacks_to_very_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: str) -> None:
    path, text = tmp_path / f"table.{packed}", "x" * 1000
    if packed == "parquet":
        pl.DataFrame({"text": [text] * 5000}).write_parquet(path)
    elif packed == "xlsx":
        book = openpyxl.Workbook()
        for row in range(600):
            book.worksheets[0].append([text] * 50 + [row])
        book.save(path)
    else:
        path.write_bytes(gzip.compress((text + "\n").encode() * 5000))
    assert path.stat().st_size < 300_000
    read_table(path, packed, header=False)  # type: ignore[arg-type]
    monkeypatch.setattr(table_files, "MAX_UNPACKED_BYTES", 1 << 20)
    monkeypatch.setattr(spreadsheets, "MAX_SHEET_BYTES", 1 << 20)
    with pytest.raises(InputError, match=r"unpacks to more than 1 MiB; .*split it into several files"):
        read_table(path, packed, header=False)  # type: ignore[arg-type]


PEAK = """
import sys
from pathlib import Path
from assay.sources.table_files import read_table
def peak(): return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
path, before = Path(sys.argv[1]), peak()
read_table(path, path.suffix[1:], header=True)
print((peak() - before) / path.stat().st_size)
"""


@pytest.mark.slow
@pytest.mark.parametrize("table_format", ["csv", "jsonl"])
def test_a_file_is_read_in_few_times_its_size(tmp_path: Path, table_format: str) -> None:
    """Texts of 600 characters; Polars alone brings some 16 MiB, which 40 MB of text hide."""
    path = tmp_path / f"big.{table_format}"
    texts = pl.DataFrame({"id": range(60_000), "text": [f"{row} " + "some words, " * 50 for row in range(60_000)]})
    texts.write_csv(path) if table_format == "csv" else texts.write_ndjson(path)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) < 3.0
