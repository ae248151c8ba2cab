"""Reading tables in other people's files: TSV, CSV, JSON, JSON lines, Parquet and Excel, the text ones also gzipped.

Every cell is read as text, every record with its line, and bad records are rejected. The readers are Python's, not
those of Polars, because a person who has to mend a file needs the line number, and because one bad record must not
take the others with it.
"""

import gzip
import json
import math
import re
import zlib
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
import polars.selectors as cs
import yaml
from pydantic import AfterValidator, Field

from assay.core.errors import InputError
from assay.core.params import Params
from assay.sources.delimited import Record, is_utf8, not_utf8, quoted_records, split_lines, unquoted_records

TableFormat = Literal["tsv", "csv", "jsonl", "json", "parquet", "xlsx"]
UNREADABLE_SCHEMA = pl.Schema({"line": pl.Int64, "rule": pl.String, "before": pl.String})
GZIP_MARK = b"\x1f\x8b"
CELL_BYTES = 16
"""Of each cell in memory, beside its text."""
UTF8_MARK = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
NO_TEXT = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"PAR1", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd", GZIP_MARK)
"""First bytes of zip (xlsx, too), old Excel, Parquet, bzip2, xz, zstd, and of what gzip packed twice."""
SEPARATOR_LINE = re.compile(rb'"?sep=(.)"?(?=\r|\n)')
"""The first line by which Excel is told the separator."""
QUOTED_CELL = re.compile(rb'(?:^|\t)"[^"\t\n]*(?:""[^"\t\n]*)+"(?=[\t\r\n]|\Z)', re.MULTILINE)
SEPARATORS = {"tsv": "\t", "csv": ","}
COMMON_SEPARATORS = ",;\t|"
SHOWN_CHARACTERS = 80
BLOCK_RECORDS = 5_000
MAX_UNPACKED_BYTES = 4 << 30
"""Of what gzip, Parquet and Excel pack, which may be a thousand times the file: more would fill the memory."""
MAX_COLUMNS = 10_000
"""A header with more cells is an error; so are more different keys in a JSON file."""
FIXES: dict[str, str] = yaml.safe_load(Path(__file__).with_name("fixes.yaml").read_text(encoding="utf-8"))
"""What the owner of a file can do about records that cannot be read."""


def _known_encoding(name: str) -> str:
    try:
        "a".encode(name)
    except LookupError:
        raise ValueError("no encoding of texts that Python knows; such as utf-16, cp1252, gb18030, shift_jis") from None
    return name


Character = Annotated[str, Field(min_length=1, max_length=1)]


class Reading(Params):
    """How a file is read; what is null is as its format has it.

    Attributes:
        header: whether the first record of a tsv, csv or xlsx names the columns; the other formats carry names anyway.
        separator: of cells in tsv (null: a tab) and csv (null: a comma, or that of a first line such as `sep=;`).
        quote: around cells; `none`: a quote is a character. null: `"` in csv; none in tsv, and an error where cells of
            a tsv look quoted.
        encoding: of all text formats; null: UTF-8.
        sheet: of an xlsx; null: its only one.
    """

    format: TableFormat
    header: bool
    separator: Character | None
    quote: Character | Literal["none"] | None
    encoding: Annotated[str, AfterValidator(_known_encoding)] | None
    sheet: str | None

    def read(self, path: Path) -> "Table":
        """The file as `read_table` reads it."""
        return read_table(
            path, self.format, self.header, self.separator, self.quote, encoding=self.encoding, sheet=self.sheet
        )


@dataclass(frozen=True)
class Table:
    """What a file holds, `n` records that can be read.

    Attributes:
        cells: one String column for each column of the file, `n` rows. Numbers and truth values are their JSON text,
            lists and objects are JSON; a cell that is not there is null. A column without a name has its number.
        lines: line of the file on which each record starts, from 1 (in JSON: the element; in Parquet and Excel: the
            row), Int64, `n`.
        unreadable: records that cannot be read, with `line`, `rule` (why not) and `before` (what is there).
        ragged_rows: records that have another number of cells than the header, or than most.
        nested: lists and objects in the cells of each column that has any.
        separated_by: the separator that the file seems to have, if it is not the one that it was read with.
        usual_cells: how many cells nearly all records have, if they do.
    """

    cells: pl.DataFrame
    lines: pl.Series
    unreadable: pl.DataFrame
    ragged_rows: int
    nested: dict[str, int]
    separated_by: str | None = None
    usual_cells: int | None = None


def read_table(
    path: Path,
    table_format: TableFormat,
    header: bool,
    separator: str | None = None,
    quote: str | None = None,
    *,
    encoding: str | None = None,
    sheet: str | None = None,
) -> Table:
    """Read a whole file; the arguments are those of `Reading`.

    In tsv and csv a byte-order mark and records of blank cells are passed over, lines end with LF, CRLF or CR, and a
    record with another number of cells than its header, or without a header than most records, cannot be read; further
    cells that are blank are no cells. JSON is one list of objects, JSONL an object a line. Text may be packed by gzip.

    Raises `InputError`: no such file, two columns of one name, more than `MAX_COLUMNS` of them, another encoding, no
    text, no JSON list, not Parquet or Excel, several sheets, merged cells, or Parquet with text that is not UTF-8.
    """
    if not path.is_file():
        there = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
        raise InputError(f"{path}: no such file; {path.parent} holds {there or 'nothing'}")
    if table_format == "parquet":
        return _read_parquet(path)
    if table_format == "xlsx":
        from assay.sources.spreadsheets import read_sheet

        return _from_records(path, read_sheet(path, sheet), header, "\t")
    content = path.read_bytes()
    if content.startswith(GZIP_MARK):
        try:
            with gzip.open(path) as packed:
                content = packed.read(MAX_UNPACKED_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path}: cannot be unpacked by gzip ({error}); fetch or pack it again") from None
        check_unpacked(path, len(content), MAX_UNPACKED_BYTES)
    return parse_table(path, as_utf8(path, content, encoding), table_format, header, separator, quote)


def check_unpacked(path: Path, size: int, limit: int) -> None:
    """Raise `InputError` where a file unpacks to more bytes than may be."""
    if size > limit:
        raise InputError(
            f"{path}: unpacks to more than {limit >> 20} MiB; if that is what it should hold, split it "
            "into several files, each a source"
        )


def parse_table(
    path: Path, content: bytes, table_format: TableFormat, header: bool, separator: str | None, quote: str | None
) -> Table:
    """`read_table` of the content of a text format in UTF-8, which is all of the file at the path or a part of it."""
    if table_format == "jsonl":
        return _read_jsonl(path, content)
    if table_format == "json":
        return _read_jsonl(path, _json_lines(path, content))
    if named := SEPARATOR_LINE.match(content):
        told = named[1].decode(errors="replace")
        if separator not in (None, told):
            raise InputError(f"{path}:1: says sep={told}, and its `separator` is {separator!r}; set that to null")
        separator, content = told, content[named.end() :]
    used = separator or SEPARATORS[table_format]
    mark = '"' if quote is None and table_format == "csv" else quote
    if mark not in (None, "none"):
        return _from_records(path, quoted_records(path, content, used, str(mark)), header, used)
    table = _from_records(path, unquoted_records(content, used), header, used)
    if quote is None:
        halves = table.unreadable.filter(pl.col("before").str.count_matches('"') % 2 == 1)
        found = QUOTED_CELL.search(content) if b'""' in content else None
        if halves.height or found:
            line = content.count(b"\n", 0, found.start() + 1) + 1 if found else halves["line"][0]
            raise InputError(
                f"{path}:{line}: cells look quoted, as pandas and Excel write those with line breaks or quotes: set "
                "`quote` to '\"', or to none where a quote is a character"
            )
    return table


def as_utf8(path: Path, content: bytes, encoding: str | None) -> bytes:
    """The text of a file in UTF-8, without byte-order mark; bytes that are no text of its encoding stay."""
    if content.startswith(NO_TEXT) and not content.isascii():
        raise InputError(f"{path}: is packed, or Excel or Parquet, and no text; unpack it, or correct its `format`")
    if encoding is None:
        if content.startswith(UTF16_MARKS) or content[:400].count(0) > len(content[:400]) // 3:
            raise InputError(
                f"{path}: is UTF-16; set its `encoding` to utf-16 (utf-16-le if no byte-order mark is there)"
            )
        return content.removeprefix(UTF8_MARK)
    try:
        text = content.decode(encoding, "surrogateescape")
        # An encoding of one byte a character reads UTF-8, too, as other characters.
        if len(text) == len(content) and not content.isascii() and is_utf8(content.decode(errors="surrogateescape")):
            raise InputError(f"{path}: is UTF-8 throughout, and its `encoding` is {encoding}; set that to null")
        return text.removeprefix("\ufeff").encode(errors="surrogateescape")
    except UnicodeError as error:
        raise InputError(f"{path}: is not {encoding} ({error}); correct its `encoding`") from None


def column(table: Table, name: int | str, path: Path, key: str) -> pl.Series:
    """One column, by its name, or its number from 1. Raises `InputError`: `key` names one that is not there."""
    columns = table.cells.columns
    if isinstance(name, int) and name <= len(columns):
        if str(name) in columns and columns[name - 1] != str(name):
            raise InputError(
                f"{path}: `{key}`: {name} is the number of {columns[name - 1]!r} and a name: put it in quotes"
            )
        return table.cells.to_series(name - 1)
    if str(name) in columns:
        return table.cells[str(name)]
    hint = f", or its `separator`: is it {table.separated_by!r}?" if table.separated_by else ""
    raise InputError(f"{path}: no column {name!r}; it has {columns}: correct `{key}`{hint}")


def fix_of(table: Table, rule: str) -> str:
    """What the owner of a file can do about records that cannot be read for this reason."""
    texts = pl.concat(table.cells.get_columns() or [pl.Series(dtype=pl.String)])
    if rule == "not_utf8" and texts.str.contains(r"[^\x00-\x7F]").any():
        return "other records are UTF-8, so convert those that are not"
    if rule in ("too_few_cells", "too_many_cells"):
        wanted = f"is the `separator` {table.separated_by!r}?" if table.separated_by else "quote cells that hold one"
        if not table.separated_by and table.usual_cells != (width := table.cells.width):
            wanted += f", or begin with a header that names all (it has {width}, most records have {table.usual_cells})"
        return f"separators and cells do not match: {wanted}"
    return FIXES.get(rule, "mend the file")


def check_readable(table: Table, path: Path, max_reject_fraction: float, section: str = "ingest") -> None:
    """Raise `InputError` where a file has no record, or too many that cannot be read; names the first bad line."""
    rows = table.cells.height + table.unreadable.height
    if rows == 0:
        raise InputError(f"{path}: has no row; is it the right file, and is its `header` set rightly?")
    if table.unreadable.height:
        places = table.unreadable.select(pl.format("{}:{}", pl.lit(str(path)), "line"), "rule", "before")
        advice = f"records cannot be read: {fix_of(table, places['rule'][0])}"
        check_limit(places, rows, max_reject_fraction, advice, section)


def check_limit(
    removed: pl.DataFrame, rows: int, max_reject_fraction: float, advice: str, section: str = "ingest"
) -> None:
    """Raise `InputError` where too many of `rows` are removed; names the first, and gives the advice.

    The first columns of `removed` are place, rule and what was there. The limit is of a section of the params.
    """
    if removed.height > max_reject_fraction * rows:
        place, rule, before = removed.row(0)[:3]
        raise InputError(
            f"{place}: {rule}: {str(before)[:SHOWN_CHARACTERS]!r}; {removed.height} of {rows} {advice}, or raise "
            f"`{section}.max_reject_fraction` = {max_reject_fraction}"
        )


def _from_records(path: Path, records: Iterable[Record], header: bool, separator: str) -> Table:
    kept = (one for one in records if one.rule or any(cell and not cell.isspace() for cell in one.cells))
    bad: list[Record] = []
    odd: list[Record] = []
    frames: list[pl.DataFrame] = []
    sample: list[str] = []
    first: list[str | None] = []
    counts = Counter[int]()
    expected = 0
    # A block at a time: records take several times the memory of a frame.
    while block := list(islice(kept, BLOCK_RECORDS)):
        good = [one for one in block if not one.rule]
        bad += [one for one in block if one.rule]
        if good and not expected:
            if header and bad and bad[0].line < good[0].line:
                break
            sample = [separator.join(cell or "" for cell in one.cells) for one in good[:100]]
            first = good.pop(0).cells if header else []
            expected = len(first) or Counter(len(one.cells) for one in good).most_common(1)[0][0]
        again = [one for one in good if one.cells == first]
        bad += [one._replace(rule="header_again", before=separator.join(map(str, first))) for one in again]
        good = [one for one in good if one.cells != first] if again else good
        counts.update(len(one.cells) for one in good)
        odd += [one for one in good if len(one.cells) != expected]
        if expected:
            frames.append(_frame([one for one in good if len(one.cells) == expected], expected))
    if header and bad and not sample:
        shown = bad[0].before[:SHOWN_CHARACTERS]
        raise InputError(f"{path}:{bad[0].line}: the header cannot be read ({bad[0].rule}: {shown!r}); mend it")
    names = _names(path, first)
    usual = counts.most_common(1)[0][0] if counts else 0
    width = len(names) or usual
    if width > MAX_COLUMNS:
        raise InputError(f"{path}: has {width} columns, more than {MAX_COLUMNS}; is its `separator` set rightly?")
    if width != expected:
        odd += [Record(line, list(cells)) for frame in frames for line, *cells in frame.iter_rows()]
        frames = []
    shaped = [_shaped(record, width, separator) for record in odd]
    bad += [record for record in shaped if record.rule]
    frames.append(_frame([record for record in shaped if not record.rule], width))
    frame = pl.concat(frames)
    frame = frame.sort("line") if shaped else frame
    lines = frame.drop_in_place("line")
    frame.columns = names or frame.columns
    ragged = sum(counts.values()) - counts[width]
    hint = _likely_separator(sample, separator) if ragged or width == 1 else None
    bad.sort(key=lambda record: record.line)
    all_have = usual if counts[usual] >= 0.9 * counts.total() else width
    return Table(frame, lines, _unreadable(bad), ragged, {}, hint, all_have)


def _frame(records: list[Record], width: int) -> pl.DataFrame:
    """The lines of records of so many cells, as the column `line`, and the cells, by their number."""
    cells = {str(at + 1): pl.Series([one.cells[at] for one in records], dtype=pl.String) for at in range(width)}
    return pl.DataFrame({"line": pl.Series([one.line for one in records], dtype=pl.Int64), **cells})


def _names(path: Path, header: list[str | None]) -> list[str]:
    """The names of columns; one without a name has its number."""
    given = [(name or "").strip() for name in header]
    names = [name or str(number) for number, name in enumerate(given, start=1)]
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise InputError(f"{path}: the header has {twice[0]!r} more than once; rename one of the columns")
    return names


def _shaped(record: Record, width: int, separator: str) -> Record:
    """A record without blank cells beyond the width, or as one that cannot be read."""
    seen = len(record.cells)
    if seen == width:
        return record
    if seen > width and not any(cell and cell.strip() for cell in record.cells[width:]):
        return record._replace(cells=record.cells[:width])
    rule = "too_many_cells" if seen > width else "too_few_cells"
    return Record(record.line, [], rule, f"{seen} cells, {width} wanted: {separator.join(map(str, record.cells))}")


def _likely_separator(lines: list[str], used: str) -> str | None:
    """Another separator that nearly all lines have equally often."""
    for separator in COMMON_SEPARATORS.replace(used, ""):
        ((often, count),) = Counter(line.count(separator) for line in lines).most_common(1) or [(0, 0)]
        if often and count >= 0.9 * len(lines):
            return separator
    return None


def _unreadable(records: list[Record]) -> pl.DataFrame:
    rows = [(record.line, record.rule, record.before) for record in records]
    return pl.DataFrame(rows, schema=UNREADABLE_SCHEMA, orient="row")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. Raises `KeyError`: a key twice, of which a reader would keep the last."""
    if len(found := dict(pairs)) < len(pairs):
        raise KeyError("a key is there twice in an object")
    return found


def _read_jsonl(path: Path, content: bytes) -> Table:
    lines = array("q")
    rows: list[dict[str, str | None]] = []
    bad: list[Record] = []
    frames: list[pl.DataFrame] = []
    nested, keys, names = Counter[str](), Counter[int](), dict[str, None]()
    for number, line in split_lines(content):
        rule = None
        try:
            value = json.loads(line.decode(), object_pairs_hook=_object)
            row = {key: as_text(cell) for key, cell in value.items()} if isinstance(value, dict) else {}
            if not isinstance(value, dict):
                rule = "not_an_object"
            # JSON can spell half of a surrogate pair, which is no character.
            elif not all(is_utf8(cell) for cell in [*row, *row.values()] if cell is not None):
                rule = "not_utf8"
        except UnicodeDecodeError:
            rule = "not_utf8"
        except KeyError:
            rule = "key_twice"
        except (ValueError, RecursionError):
            # Also for whole numbers of more digits than Python reads, and for brackets thousands deep.
            rule = "not_json"
        if rule:
            bad.append(Record(number, [], rule, line.decode(errors="backslashreplace")))
            continue
        lines.append(number)
        rows.append(row)
        keys[len(row)] += 1
        names.update(dict.fromkeys(row))
        if len(names) > MAX_COLUMNS:
            raise InputError(f"{path}:{number}: has more than {MAX_COLUMNS} different keys by here; leave some out")
        nested.update(key for key, cell in value.items() if isinstance(cell, list | dict))
        if len(rows) >= BLOCK_RECORDS and names:
            frames.append(frame_of(rows, names))
            rows = []
    frames.append(frame_of(rows, names))
    ragged = keys.total() - max(keys.values(), default=0)
    found = pl.Series("line", lines, dtype=pl.Int64)
    return Table(pl.concat(frames, how="diagonal"), found, _unreadable(bad), ragged, dict(nested))


def frame_of(rows: list[dict[str, str | None]], names: Iterable[str]) -> pl.DataFrame:
    """A String column for every key of these; null where a row has it not."""
    return pl.DataFrame([pl.Series(name, [row.get(name) for row in rows], dtype=pl.String) for name in names])


def _json_lines(path: Path, content: bytes) -> bytes:
    """The elements of a JSON list, one a line."""
    try:
        values = json.loads(content.strip().decode() or "[]", object_pairs_hook=_object)
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8; {FIXES['not_utf8']}") from None
    except (ValueError, KeyError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); mend it, or set its `format` to jsonl") from None
    if not isinstance(values, list):
        raise InputError(f"{path}: holds no JSON list, but {str(values)[:SHOWN_CHARACTERS]!r}; write a list of objects")
    return "\n".join(json.dumps(value) for value in values).encode()


def as_text(value: Any) -> str | None:
    """The text of a cell: a string is itself, null and not-a-number are nothing, all else is JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, int | float | list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _read_parquet(path: Path) -> Table:
    try:
        table = pl.scan_parquet(path)
        # What is really there, not what the file says of itself.
        cells = pl.len().cast(pl.Int64) * len(table.collect_schema()), cs.list().list.len().cast(pl.Int64).sum()
        contents = cs.string().str.len_bytes(), cs.binary().bin.size()
        sizes = [one.cast(pl.Int64) * CELL_BYTES for one in cells] + [one.cast(pl.Int64).sum() for one in contents]
        unpacked = table.select(pl.sum_horizontal(sizes)).collect(engine="streaming").item()
        check_unpacked(path, unpacked, MAX_UNPACKED_BYTES)
        frame = table.collect()
    except pl.exceptions.ComputeError as error:
        reason = str(error).splitlines()[0]
        if "invalid utf-8" in reason.lower():
            raise InputError(f"{path}: holds text that is not UTF-8 ({reason}); write it again as UTF-8") from None
        raise InputError(f"{path}: not a Parquet file ({reason}); correct its `format`") from None
    unreadable = _rows_of_bytes_that_are_no_text(frame)
    lines = pl.Series("line", range(1, frame.height + 1), dtype=pl.Int64)
    if unreadable.height:
        readable = ~lines.is_in(unreadable["line"].implode())
        frame, lines = frame.filter(readable), lines.filter(readable)
    frame = frame.with_columns(cs.by_dtype(pl.Float16, pl.Float32).cast(pl.String).cast(pl.Float64))
    texts = [
        # Through Python, so that a number reads here as it does in JSON: 3, 3.5 (of four bytes, too), true.
        pl.Series(cells.name, [as_text(value) for value in cells.to_list()], dtype=pl.String)
        if cells.dtype.is_numeric() or cells.dtype in (pl.Boolean, pl.Duration) or cells.dtype.is_nested()
        else cells.cast(pl.String, strict=False)
        for cells in frame
    ]
    nested = {one.name: one.len() - one.null_count() for one in frame if one.dtype.is_nested()}
    return Table(pl.DataFrame(texts), lines, unreadable, ragged_rows=0, nested=nested)


def _rows_of_bytes_that_are_no_text(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows with a cell of bytes that are not UTF-8, as unreadable ones."""
    rows = enumerate(frame.select(cs.binary()).iter_rows(), start=1)
    bad = (
        (line, [cell for cell in cells if not is_utf8((cell or b"").decode(errors="surrogateescape"))])
        for line, cells in rows
    )
    return _unreadable([not_utf8(line, cells[0]) for line, cells in bad if cells])
