"""CSV files in git that people only ever add lines to, one decision a line.

A decision is a line of the file, so that git can keep the lines of two branches (`merge=union`); so no value has a line
break.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import TypeVar

from assay.core.errors import InputError

MERGE_MARKER = re.compile(r"(<{7}|>{7}|\|{7})( .*)?|={7}")
DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
ERRORS_SHOWN = 10

Line = TypeVar("Line")


def read_lines(path: Path, columns: Sequence[str], parsed: Callable[[int, list[str]], Line]) -> list[Line]:
    """The lines of a file; as `parse_lines`.

    Raises:
        InputError: no such file; or as `parse_lines`.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; make it with this line alone: {','.join(columns)}") from None
    return parse_lines(content, path, columns, parsed)


def parse_lines(
    content: bytes, path: Path, columns: Sequence[str], parsed: Callable[[int, list[str]], Line]
) -> list[Line]:
    """The lines of what is in a file; a byte-order mark, CRLF line ends and empty lines are tolerated.

    Args:
        content: of the file.
        path: for the errors.
        columns: what the header must be.
        parsed: makes something of a line's number and values; raises a `ValueError` with a sentence for the user.

    Raises:
        InputError: not UTF-8, merge markers, another header, or lines that cannot be read: up to `ERRORS_SHOWN` of
            them, each with its line number.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}: line {number}: not UTF-8 (byte 0x{content[error.start]:02x}); save it as UTF-8"
        ) from None
    # Not splitlines(), which also splits at characters that may be in a value.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    _refuse_merge_markers(lines, path)
    header = next(csv.reader([lines[0]]), [])
    if header != list(columns):
        missing = [name for name in columns if name not in header]
        raise InputError(
            f"{path}: line 1: the header is {lines[0]!r}"
            + (f", without {', '.join(missing)}" if missing else "")
            + f"; it must be {','.join(columns)}, with commas"
        )
    found, errors = [], []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        try:
            found.append(parsed(number, _values(line, columns)))
        except ValueError as error:
            errors.append((number, str(error)))
    refuse(errors, path)
    return found


def _values(line: str, columns: Sequence[str]) -> list[str]:
    header = ",".join(columns)
    if line == header:
        raise ValueError("the header again; delete this line")
    try:
        (values,) = csv.reader([line], strict=True)
    except (csv.Error, ValueError) as error:
        raise ValueError(f"not CSV ({error}); a decision is one line, with quotes closed and doubled inside") from None
    if len(values) != len(columns):
        raise ValueError(
            f"{len(values)} fields instead of {len(columns)} ({header}); put a field that has a comma in double quotes"
        )
    return values


def _refuse_merge_markers(lines: list[str], path: Path) -> None:
    marked = [(number, line) for number, line in enumerate(lines, start=1) if MERGE_MARKER.fullmatch(line)]
    if marked:
        number, line = marked[0]
        others = f" (and lines {', '.join(str(other) for other, _ in marked[1:])})" if len(marked) > 1 else ""
        raise InputError(
            f"{path}: line {number}{others}: a merge marker, {line!r}: git could not merge the file. The lines of both"
            " sides are decisions: delete the marker lines alone, and keep all others. Does .gitattributes still say"
            f" `{path.as_posix()} merge=union`? Then git does so by itself"
        )


def refuse(errors: Iterable[tuple[int, str]], path: Path) -> None:
    """Refuse a file with errors.

    Args:
        errors: line number and sentence of each.
        path: of the file.

    Raises:
        InputError: there are some; shows the first `ERRORS_SHOWN` in the order of the lines.
    """
    ordered = sorted(errors)
    if not ordered:
        return
    shown = [f"{path}: line {number}: {sentence}" for number, sentence in ordered[:ERRORS_SHOWN]]
    if len(ordered) > ERRORS_SHOWN:
        shown.append(f"and {len(ordered) - ERRORS_SHOWN} more")
    raise InputError("\n  ".join(shown))


def is_day(text: str) -> bool:
    """Whether the text is a day as ISO 8601 writes it."""
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return DAY.fullmatch(text) is not None


def csv_line(values: Sequence[str]) -> str:
    """Values as a line of a file, with its line end."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue()
