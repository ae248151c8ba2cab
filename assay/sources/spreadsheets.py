"""The rows of an Excel sheet."""

import warnings
from collections.abc import Iterator
from datetime import datetime, time
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import openpyxl
from openpyxl.utils.escape import unescape

from assay.core.errors import InputError
from assay.sources.delimited import Record
from assay.sources.table_files import MAX_UNPACKED_BYTES, check_unpacked

MAX_SHEET_BYTES = MAX_UNPACKED_BYTES // 8


def read_sheet(path: Path, sheet: str | None) -> Iterator[Record]:
    """Every row that is not empty, by its number, all of one length; an empty cell is None.

    Numbers and truth values are as in JSON, numbers with zeros in front as they are shown, dates in ISO 8601.
    A row with the error of a formula (`#N/A`) cannot be read. Raises `InputError`: not Excel, no such sheet, several of
    them and none named, merged cells, or a formula without its value.
    """
    # One after the other: openpyxl takes ten times the size of the unpacked file.
    formulas = {cell.coordinate for row in _rows(path, sheet, values=False) for cell in row if cell.data_type == "f"}
    for number, row in enumerate(_rows(path, sheet, values=True), start=1):
        if formulas and (empty := [c.coordinate for c in row if c.value is None and c.coordinate in formulas]):
            raise InputError(
                f"{path}: the formula in {empty[0]} has no value: open the file in Excel or LibreOffice and save it"
            )
        if errors := [f"{cell.coordinate}: {cell.value}" for cell in row if cell.data_type == "e"]:
            yield Record(number, [], "formula_error", ", ".join(errors))
            continue
        cells = [_text(cell) for cell in row]
        if any(cell is not None for cell in cells):
            yield Record(number, cells)


def _rows(path: Path, sheet: str | None, values: bool) -> list[Any]:
    """The rows of a sheet, with the values of its formulas or with the formulas."""
    try:
        # Not `read_only`, which believes what a file says of its size, and sees no merged cells.
        with ZipFile(path) as packed:
            check_unpacked(path, sum(one.file_size for one in packed.infolist()), MAX_SHEET_BYTES)
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"):
            book = openpyxl.load_workbook(file, data_only=values)
    except InputError:
        raise
    except (BadZipFile, KeyError, ValueError, OSError, TypeError, AttributeError, SyntaxError) as error:
        fix = "correct its `format`, or save it as .xlsx without a password"
        raise InputError(f"{path}: not an Excel file of the kind .xlsx ({error}); {fix}") from None
    sheets = [one for one in book.worksheets if sheet in (None, one.title)]
    if len(sheets) != 1:
        raise InputError(f"{path}: has the sheets {book.sheetnames}; set its `sheet` to one of them")
    if merged := sheets[0].merged_cells.ranges:
        raise InputError(
            f"{path}: cells {min(map(str, merged))} are merged and have one value: unmerge, and fill in each"
        )
    return list(sheets[0].iter_rows())


def _text(cell: Any) -> str | None:
    value = cell.value
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(sep=" ")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and set(cell.number_format) == {"0"}:
        return str(value).zfill(len(cell.number_format))
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    # Excel writes a carriage return as `_x000D_`.
    return None if value is None else unescape(str(value))
