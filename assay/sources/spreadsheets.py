"""The rows of an Excel sheet."""

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, time
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import openpyxl
from openpyxl.utils.escape import unescape

from assay.core.errors import InputError
from assay.sources.delimited import Record


def read_sheet(path: Path, sheet: str | None) -> Iterator[Record]:
    """Every row that is not empty, by its number, all of one length; an empty cell is None.

    Numbers and truth values are as in JSON, numbers with zeros in front as they are shown, dates in ISO 8601.
    Raises `InputError`: not Excel, no such sheet, several of them and none named, or a formula without its value.
    """

    def load(values: bool) -> Any:
        try:
            return openpyxl.load_workbook(path, read_only=True, data_only=values)
        except (BadZipFile, KeyError, ValueError, OSError) as error:
            raise InputError(f"{path}: not an Excel file of the kind .xlsx ({error}); correct its `format`") from None

    def rows_of(book: Any, name: str) -> list[Any]:
        # What a file says of its size is wrong in those of some programs, and then rows would be cut off.
        book[name].reset_dimensions()
        with closing(book):
            return list(book[name].iter_rows())

    book = load(values=False)
    names = [one.title for one in book.worksheets]
    if (sheet or names[0]) not in names or (sheet is None and len(names) > 1):
        raise InputError(f"{path}: has the sheets {names}; set its `sheet` to one of them")
    name = sheet or names[0]
    rows = rows_of(book, name)
    formulas = [(at, index) for at, row in enumerate(rows) for index, cell in enumerate(row) if cell.data_type == "f"]
    if formulas:
        rows = rows_of(load(values=True), name)
        if empty := [(at, index) for at, index in formulas if rows[at][index].value is None]:
            raise InputError(
                f"{path}: {len(empty)} formulas have no value, the first in row {empty[0][0] + 1}, column "
                f"{empty[0][1] + 1}: open the file in Excel or LibreOffice and save it"
            )
    width = max((len(row) for row in rows), default=0)
    for number, row in enumerate(rows, start=1):
        cells = [_text(cell) for cell in row]
        if any(cell is not None for cell in cells):
            yield Record(number, cells + [None] * (width - len(cells)))


def _text(cell: Any) -> str | None:
    value = cell.value
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(sep=" ")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and set(cell.number_format) == {"0"}:
        return str(value).zfill(len(cell.number_format))
    # Excel writes a carriage return as `_x000D_`.
    return None if value is None else unescape(str(value))
