"""Reading tables in other people's files: TSV, CSV, JSON, JSON lines and Parquet.

Every cell is read as text, every record with its line, and bad records are rejected. The readers are Python's, not
those of Polars, because a person who has to mend a file needs the line number, and because one bad record must not
take the others with it.
"""

import csv
import json
import math
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import polars as pl
import polars.selectors as cs

from assay.core.errors import InputError

TableFormat = Literal["tsv", "csv", "jsonl", "json", "parquet"]
UNREADABLE_SCHEMA = pl.Schema({"line": pl.Int64, "rule": pl.String, "before": pl.String})
UTF8_MARK = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
SHOWN_CHARACTERS = 80
MAX_COLUMNS = 10_000
"""A record with more cells is rejected: one of a million tabs would make a million columns of all the others."""


@dataclass(frozen=True)
class Table:
    """What a file holds, `n` records that can be read.

    Attributes:
        cells: one String column for each column of the file, `n` rows. Numbers and truth values are their JSON text,
            lists and objects are JSON; a cell that is not there is null. Without a header the columns are `1`, `2`, ….
        lines: line of the file on which each record starts, from 1 (in JSON: the element; in Parquet: the row), Int64,
            `n`.
        unreadable: records that cannot be read, with `line`, `rule` (why not) and `before` (what is there).
        ragged_rows: records that have another number of cells than most.
    """

    cells: pl.DataFrame
    lines: pl.Series
    unreadable: pl.DataFrame
    ragged_rows: int


def read_table(path: Path, table_format: TableFormat, header: bool) -> Table:
    """Read a whole file.

    Tab-separated files are taken as they are: a line is a record, a tab ends a cell, a quote is a character. CSV is
    that of RFC 4180: quoted cells may hold commas, line ends and doubled quotes. A byte-order mark, CRLF line ends and
    blank lines are passed over. JSON is one list of objects, JSONL an object a line.

    With `header`, the first record of a tsv or csv names the columns; the other formats carry names anyway.

    Raises `InputError`: no such file, two columns of one name, more than `MAX_COLUMNS` of them, UTF-16, a quote that is
    never closed, no JSON list, not Parquet, or Parquet with text that is not UTF-8.
    """
    if not path.is_file():
        there = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
        raise InputError(f"{path}: no such file; {path.parent} holds {there or 'nothing'}")
    if table_format == "parquet":
        return _read_parquet(path)
    content = path.read_bytes()
    if content.startswith(UTF16_MARKS):
        raise InputError(f"{path}: is UTF-16; convert it, such as by `iconv -f UTF-16 -t UTF-8`")
    content = content.removeprefix(UTF8_MARK)
    if table_format == "jsonl":
        return _read_jsonl(path, content)
    if table_format == "json":
        return _read_jsonl(path, _json_lines(path, content))
    records = _tsv_records(content) if table_format == "tsv" else _csv_records(path, content)
    return _from_records(path, records, header)


def column(table: Table, name: int | str, path: Path, key: str) -> pl.Series:
    """One column, by its name, or its number from 1. Raises `InputError`: `key` names one that is not there."""
    if str(name) not in table.cells.columns:
        raise InputError(f"{path}: no column {name!r}; it has {table.cells.columns}: correct `{key}`")
    return table.cells[str(name)]


def check_readable(table: Table, path: Path, max_reject_fraction: float) -> None:
    """Raise `InputError` where a file has no record, or too many that cannot be read; names the first bad line."""
    rows = table.cells.height + table.unreadable.height
    if rows == 0:
        raise InputError(f"{path}: has no row; is it the right file, and is its `header` set rightly?")
    if table.unreadable.height > max_reject_fraction * rows:
        line, rule, before = table.unreadable.row(0)
        fix = "convert it to UTF-8, such as by `iconv -f LATIN1 -t UTF-8`" if rule == "not_utf8" else "mend the file"
        raise InputError(
            f"{path}:{line}: {rule}: {before[:SHOWN_CHARACTERS]!r}; {table.unreadable.height} of {rows} records cannot "
            f"be read, more than `ingest.max_reject_fraction` = {max_reject_fraction}: {fix}, or raise that number"
        )


@dataclass(frozen=True)
class _Record:
    """One record: its first line, and its cells, or why it cannot be read and what is there."""

    line: int
    cells: list[str]
    rule: str | None = None
    before: str = ""


def _lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of every line that is not blank, without its line end."""
    for number, line in enumerate(content.split(b"\n"), start=1):
        line = line.removesuffix(b"\r")
        if line:
            yield number, line


def _tsv_records(content: bytes) -> Iterator[_Record]:
    for number, line in _lines(content):
        try:
            yield _Record(number, line.decode().split("\t"))
        except UnicodeDecodeError:
            yield _not_utf8(number, line)


def _csv_records(path: Path, content: bytes) -> Iterator[_Record]:
    # Bytes that are not UTF-8 become lone surrogates, which no decoded text can hold, so the record shows them.
    text_lines = list(StringIO(content.decode(errors="surrogateescape"), newline=""))
    reader = csv.reader(text_lines, strict=True)
    csv.field_size_limit(sys.maxsize)
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise InputError(f"{path}:{number}: a quote in this record is never closed; close it") from None
            yield _Record(number, [], "bad_quotes", text_lines[number - 1].rstrip("\r\n"))
            continue
        joined = ",".join(cells)
        if joined.isascii() or _is_utf8(joined):
            if cells:
                yield _Record(number, cells)
        else:
            yield _not_utf8(number, joined.encode(errors="surrogateescape"))


def _is_utf8(text: str) -> bool:
    return text == text.encode(errors="ignore").decode()


def _not_utf8(line: int, content: bytes) -> _Record:
    return _Record(line, [], "not_utf8", content.decode(errors="backslashreplace"))


def _from_records(path: Path, records: Iterator[_Record], header: bool) -> Table:
    good: list[_Record] = []
    bad: list[_Record] = []
    for record in records:
        if len(record.cells) > MAX_COLUMNS:
            record = _Record(record.line, [], "too_many_cells", "\t".join(record.cells))
        (bad if record.rule else good).append(record)
    names: list[str] = []
    if header and bad and bad[0].line < min((record.line for record in good), default=bad[0].line + 1):
        shown = bad[0].before[:SHOWN_CHARACTERS]
        raise InputError(f"{path}:{bad[0].line}: the header cannot be read ({bad[0].rule}: {shown!r}); mend it")
    if header and good:
        names = good.pop(0).cells
        if twice := sorted(name for name, count in Counter(names).items() if count > 1):
            raise InputError(f"{path}: the header has {twice[0]!r} more than once; rename one of the columns")
    counts = Counter(len(record.cells) for record in good)
    usual = len(names) or (counts.most_common(1)[0][0] if counts else 0)
    # Cells beyond the header keep their number as a name.
    names += [str(number) for number in range(len(names) + 1, max(counts, default=0) + 1)]
    cells = pl.Series("cells", [record.cells for record in good], dtype=pl.List(pl.String))
    frame = pl.DataFrame({"cells": cells}).select(
        pl.col("cells").list.get(index, null_on_oob=True).alias(name) for index, name in enumerate(names)
    )
    lines = pl.Series("line", [record.line for record in good], dtype=pl.Int64)
    return Table(frame, lines, _unreadable(bad), len(good) - counts.get(usual, 0))


def _unreadable(records: list[_Record]) -> pl.DataFrame:
    rows = [(record.line, record.rule, record.before) for record in records]
    return pl.DataFrame(rows, schema=UNREADABLE_SCHEMA, orient="row")


def _read_jsonl(path: Path, content: bytes) -> Table:
    lines: list[int] = []
    rows: list[dict[str, str | None]] = []
    bad: list[_Record] = []
    for number, line in _lines(content):
        try:
            value = json.loads(line.decode())
            row = {key: _as_text(cell) for key, cell in value.items()} if isinstance(value, dict) else None
        except UnicodeDecodeError:
            bad.append(_not_utf8(number, line))
            continue
        except (ValueError, RecursionError):
            # Also for whole numbers of more digits than Python reads, and for brackets thousands deep.
            bad.append(_Record(number, [], "not_json", line.decode()))
            continue
        if row is None:
            bad.append(_Record(number, [], "not_an_object", line.decode()))
            continue
        # JSON can spell half of a surrogate pair, which is no character.
        if not all(_is_utf8(cell) for cell in [*row, *row.values()] if cell is not None):
            bad.append(_Record(number, [], "not_utf8", line.decode()))
            continue
        lines.append(number)
        rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    if len(names) > MAX_COLUMNS:
        raise InputError(f"{path}: has {len(names)} different keys, more than {MAX_COLUMNS} columns; leave some out")
    frame = pl.DataFrame([pl.Series(name, [row.get(name) for row in rows], dtype=pl.String) for name in names])
    usual = max(Counter(map(len, rows)).values(), default=0)
    return Table(frame, pl.Series("line", lines, dtype=pl.Int64), _unreadable(bad), len(rows) - usual)


def _json_lines(path: Path, content: bytes) -> bytes:
    """The elements of a JSON list, one a line."""
    try:
        values = json.loads(content.decode())
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8; convert it, such as by `iconv -f LATIN1 -t UTF-8`") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); mend it, or set its `format` to jsonl") from None
    if not isinstance(values, list):
        raise InputError(f"{path}: holds no JSON list, but {str(values)[:SHOWN_CHARACTERS]!r}; write a list of objects")
    return "\n".join(json.dumps(value) for value in values).encode()


def _as_text(value: Any) -> str | None:
    """The text of a cell: a string is itself, null and not-a-number are nothing, all else is JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and math.isnan(value):
        return None
    return json.dumps(value, ensure_ascii=False, default=str)


def _read_parquet(path: Path) -> Table:
    try:
        frame = pl.read_parquet(path)
    except pl.exceptions.ComputeError as error:
        reason = str(error).splitlines()[0]
        if "invalid utf-8" in reason.lower():
            raise InputError(f"{path}: holds text that is not UTF-8 ({reason}); write it again as UTF-8") from None
        raise InputError(f"{path}: not a Parquet file ({reason}); correct its `format`") from None
    unreadable = _rows_of_bytes_that_are_no_text(frame)
    lines = pl.Series("line", range(1, frame.height + 1), dtype=pl.Int64)
    readable = ~lines.is_in(unreadable["line"].implode())
    frame, lines = frame.filter(readable), lines.filter(readable)
    texts = [
        # Through Python, so that a number reads here as it does in JSON: 3, 3.5, true.
        pl.Series(cells.name, [_as_text(value) for value in cells.to_list()], dtype=pl.String)
        if cells.dtype.is_numeric() or cells.dtype == pl.Boolean or cells.dtype.is_nested()
        else cells.cast(pl.String, strict=False)
        for cells in frame
    ]
    return Table(pl.DataFrame(texts), lines, unreadable, ragged_rows=0)


def _rows_of_bytes_that_are_no_text(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows with a cell of bytes that are not UTF-8, as unreadable ones."""
    bad: dict[int, _Record] = {}
    for name in frame.select(cs.binary()).columns:
        for line, value in enumerate(frame[name], start=1):
            try:
                (value or b"").decode()
            except UnicodeDecodeError:
                bad.setdefault(line, _not_utf8(line, value))
    return _unreadable([bad[line] for line in sorted(bad)])
