"""Records of CSV and TSV files: their cells, the line on which each starts, and of bad ones the reason."""

import csv
import re
import sys
from array import array
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from assay.core.errors import InputError

LINE_END = re.compile(rb"\r\n?|\n")
MAX_REREADS = 20
"""How often a line is read again on average, since quotes open above it that do not close."""
MANY_LINES = 5
"""So many lines in one cell that each have as many separators as the header are no text by chance."""


class Record(NamedTuple):
    """One record: its first line, and its cells, or why it cannot be read and what is there."""

    line: int
    cells: list[Any]
    rule: str | None = None
    before: str = ""


def split_lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of every line that is not blank, without its end: LF, CRLF, or CR in a file without LF."""
    content = content.replace(b"\r", b"\n") if b"\r" in content and b"\n" not in content else content
    # As a file, which shares the bytes: the lines of a list would take them twice.
    for number, line in enumerate(BytesIO(content), start=1):
        if line := line.removesuffix(b"\n").removesuffix(b"\r"):
            yield number, line


def is_utf8(text: str) -> bool:
    """Whether a text has no half of a surrogate pair, which stands for a byte that is no UTF-8."""
    return text.isascii() or text == text.encode(errors="ignore").decode()


def not_utf8(line: int, content: bytes) -> Record:
    """A record of bytes that are no text."""
    return Record(line, [], "not_utf8", content.decode(errors="backslashreplace"))


def unquoted_records(content: bytes, separator: str) -> Iterator[Record]:
    """A line is a record, a separator ends a cell, a quote is a character."""
    for number, line in split_lines(content):
        try:
            yield Record(number, line.decode().split(separator))
        except UnicodeDecodeError:
            yield not_utf8(number, line)


def quoted_records(path: Path, content: bytes, separator: str, quote: str) -> Iterator[Record]:
    """Records of RFC 4180: a quoted cell may hold separators, line ends and doubled quotes.

    A quote may come after a space (`a, "b, c"`). A quote that opens and does not close, or that closes only after lines
    which look like records, takes its own line with it and no other. Raises `InputError`: very many of them.

    The content is read twice, so that memory need not hold all records at once.
    """
    bounds = array("q", [0])
    bounds.extend(found.end() for found in LINE_END.finditer(content))
    bounds.append(len(content))

    def line_at(index: int) -> str:
        return content[bounds[index] : bounds[index + 1]].decode(errors="surrogateescape")

    lines = len(bounds) - 1
    csv.field_size_limit(sys.maxsize)
    width, rows, values = 0, 0, dict[int, set[str]]()
    for number, (record, end) in enumerate(_readings(path, line_at, lines, separator, quote)):
        if number == 0:
            width = len(record.cells)
            values = {at: set() for at in range(width)}
        if end is None and len(record.cells) == width:
            rows += 1
            for at in list(values):
                values[at].add(record.cells[at])
                # Of no use below, whatever follows.
                if 2 * len(values[at]) > lines:
                    del values[at]
    known = [(at, found) for at, found in values.items() if 2 * len(found) <= rows]
    values.clear()
    for record, end in _readings(path, line_at, lines, separator, quote):
        # The first line counts, too: of a text in the first column, the last line is as that of a record.
        block = [line_at(index) for index in range(record.line - 1, end)] if end and width > 1 else []
        yield from _without_swallowed(record, block, width, known, separator, quote)


def _readings(
    path: Path, line_at: Callable[[int], str], lines: int, separator: str, quote: str
) -> Iterator[tuple[Record, int | None]]:
    """Records, and of those of several lines the line after the last."""

    def read_from(index: int, skip_spaces: bool = False) -> Any:
        rest = map(line_at, range(index, lines))
        return csv.reader(rest, delimiter=separator, quotechar=quote, strict=True, skipinitialspace=skip_spaces)

    start, reader, reread, spaced = 0, read_from(0), 0, f" {quote}"
    limit = MAX_REREADS * lines
    while reread <= limit:
        first = start + reader.line_num
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield _bad_quotes(first, line_at(first)), None
            if (swallowed := start + reader.line_num - first - 1) > 0:
                reread += swallowed
                start, reader = first + 1, read_from(first + 1)
            continue
        joined = separator.join(cells)
        if spaced in joined and any(cell.startswith(" ") and cell.lstrip(" ").startswith(quote) for cell in cells):
            again = read_from(first, skip_spaces=True)
            other = next(_readable(again), cells)
            reread += again.line_num
            if [cell.lstrip(" ") for cell in other] != [cell.lstrip(" ") for cell in cells]:
                cells, joined, start = other, separator.join(other), first + again.line_num
                reader = read_from(start)
        end = start + reader.line_num
        if cells:
            yield _checked(first + 1, cells, joined), end if end > first + 1 else None
    raise InputError(f"{path}: quotes open in very many records and do not close: set its `quote` to none")


def _without_swallowed(
    record: Record, block: list[str], width: int, known: list[tuple[int, set[str]]], separator: str, quote: str
) -> Iterator[Record]:
    """The record; or, if the lines of its block are records of their own as these, they, behind a bad one.

    They are if all have the header's shape, and are too many for a text or have a column with values of other records
    (of a column whose values repeat, as those of labels do); of a record with too few or too many cells, half of them.
    """
    shaped = [cells for line in block if len(cells := line.rstrip("\r\n").split(separator)) == width]
    wanted = len(block) if len(record.cells) == width else (len(block) + 1) // 2
    of_column = any(values.issuperset(cells[at] for cells in shaped) for at, values in known)
    if not block or len(shaped) < wanted or not (of_column or len(shaped) >= MANY_LINES):
        yield record
        return
    yield _bad_quotes(record.line - 1, block[0])
    for index, line in enumerate(block[1:], start=record.line):
        alone = _readable(csv.reader([line], delimiter=separator, quotechar=quote, strict=True))
        found = next((_checked(index + 1, cells, separator.join(cells)) for cells in alone), None)
        yield found or _bad_quotes(index, line)


def _readable(reader: Any) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error:
        return


def _bad_quotes(index: int, line: str) -> Record:
    return Record(index + 1, [], "bad_quotes", line.rstrip("\r\n").encode(errors="backslashreplace").decode())


def _checked(line: int, cells: list[str], joined: str) -> Record:
    # Bytes that are not UTF-8 have become lone surrogates, which no decoded text can hold, so the record shows them.
    return Record(line, cells) if is_utf8(joined) else not_utf8(line, joined.encode(errors="surrogateescape"))
