"""A table in a format that `ingest` reads, a window of rows at a time, in memory that does not grow with the file."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import polars as pl

from assay.core.errors import InputError
from assay.core.row_batches import slices
from assay.sources.table_files import GZIP_MARK, Table, TableFormat, as_utf8, parse_table, read_table

WINDOW_ROWS = 4_096
"""So many that batches of similar length have little padding, so few that progress is seen on a slow machine."""
IN_LINES = ("csv", "tsv", "jsonl")

Window = tuple[pl.DataFrame, pl.Series]
"""Rows in the order of the file, and of each why it cannot be read (`too_few_cells: line 7`, its cells are null then)
or null."""


def format_of(path: Path) -> TableFormat:
    """The format that the suffix names, before `.gz` if there is one. Raises `InputError`: it names none."""
    name = path.name.removesuffix(".gz")
    kind = name.rpartition(".")[2].lower()
    if kind not in (IN_LINES if name != path.name else (*IN_LINES, "parquet", "xlsx")):
        raise InputError(f"{path}: no such format; write .csv, .tsv, .jsonl (all also .gz), .parquet or .xlsx")
    return cast(TableFormat, kind)


def read_windows(path: Path, separator: str | None = None) -> Iterator[Window]:
    """The windows of a file; an Excel sheet is one. Raises `InputError`: as `read_table`."""
    kind = format_of(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if kind == "xlsx":
        yield _in_order(read_table(path, kind, header=True), 0)
    elif kind == "parquet":
        try:
            parts = slices(pl.scan_parquet(path), WINDOW_ROWS)
        except pl.exceptions.ComputeError as error:
            raise InputError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})") from None
        for part in parts:
            yield (rows := part.collect()), pl.repeat(None, rows.height, dtype=pl.String, eager=True)
    else:
        # Each block is read as a file of its own, behind the header of the first.
        header, before = b"", 0
        for block in _blocks(path, kind):
            content = header + block if before else as_utf8(path, block, None)
            table = parse_table(path, content, kind, header=True, separator=separator, quote=None)
            yield _in_order(table, before - header.count(b"\n"))
            if not before and kind != "jsonl":
                first = min([*table.lines.head(1), *table.unreadable["line"].head(1)], default=None)
                header = b"".join(content.splitlines(keepends=True)[: first and first - 1])
            before += block.count(b"\n")


def _in_order(table: Table, lines_before: int) -> Window:
    """The records of a table, those that cannot be read in their places."""
    bad = table.unreadable
    order = pl.concat([table.lines, bad["line"]]).arg_sort()
    reasons = bad.select(pl.format("{}: line {}", "rule", pl.col("line") + lines_before)).to_series()
    rows = pl.concat([table.cells, table.cells.clear(bad.height)])
    return rows[order], reasons.clear(table.cells.height).append(reasons).gather(order)


def _blocks(path: Path, kind: TableFormat) -> Iterator[bytes]:
    """Some `WINDOW_ROWS` lines at a time, cut where no quoted cell is open, unless one never closes."""
    block: list[bytes] = []
    is_open = False
    with path.open("rb") as file:
        is_packed = file.read(len(GZIP_MARK)) == GZIP_MARK
    with gzip.open(path) if is_packed else path.open("rb") as lines:
        try:
            for line in lines:
                block.append(line)
                is_open ^= kind == "csv" and line.count(b'"') % 2 == 1
                if len(block) >= WINDOW_ROWS and (not is_open or len(block) >= 2 * WINDOW_ROWS):
                    yield b"".join(block)
                    block, is_open = [], False
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path}: cannot be unpacked by gzip ({error}); fetch or pack it again") from None
    if block:
        yield b"".join(block)
