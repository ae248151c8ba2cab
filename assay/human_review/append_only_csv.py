"""CSV files in git that people only ever add lines to, one decision a line; several processes may write at once.

A decision is a line of the file, so that git can keep the lines of two branches (`merge=union`); so no value has a line
break.
"""

import csv
import fcntl
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TypeVar

from assay.core.errors import InputError

MERGE_MARKER = re.compile(r"(<{7}|>{7}|\|{7})( .*)?|={7}")
DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
ERRORS_SHOWN = 10
Line = TypeVar("Line")


class AlreadyDecidedError(InputError):
    """Somebody else decided the row meanwhile."""


@dataclass(frozen=True)
class Written:
    """A line that this session added: its row, its number in the file and its bytes."""

    id: str
    line: int
    content: bytes


def read_lines(
    path: Path,
    columns: Sequence[str],
    parsed: Callable[[int, list[str]], Line],
    since: int = 0,
    content: bytes | None = None,
) -> list[Line]:
    """The lines of a file, or of its `content` if given; a byte-order mark, CRLF and empty lines are tolerated.

    The last columns, as many as `since` says, are not in files of earlier versions; there they are empty.
    `parsed` makes something of a line's number and values; it raises a `ValueError` with a sentence for the user.

    Raises `InputError`: no such file, not UTF-8, merge markers, another header, or lines that cannot be read: up to
    `ERRORS_SHOWN` of them, each with its line number.
    """
    if content is None:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; make it with this line alone: {','.join(columns)}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        shown = f"byte 0x{content[error.start]:02x}"
        raise InputError(f"{path}: line {number}: not UTF-8 ({shown}); save it as UTF-8") from None
    # Not splitlines(), which also splits at characters that may be in a value.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    _refuse_merge_markers(lines, path)
    header = next(csv.reader([lines[0]]), [])
    if header not in (list(columns), list(columns[: len(columns) - since])):
        missing = ", ".join(name for name in columns if name not in header)
        without = f", without {missing}" if missing else ""
        wanted = ",".join(columns)
        raise InputError(f"{path}: line 1: the header is {lines[0]!r}{without}; it must be {wanted}, with commas")
    found, errors = [], []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        try:
            found.append(parsed(number, _values(line, columns, since)))
        except ValueError as error:
            errors.append((number, str(error)))
    refuse(errors, path)
    return found


def _values(line: str, columns: Sequence[str], since: int) -> list[str]:
    header = ",".join(columns)
    if line == header:
        raise ValueError("the header again; delete this line")
    try:
        (values,) = csv.reader([line], strict=True)
    except (csv.Error, ValueError) as error:
        raise ValueError(f"not CSV ({error}); a decision is one line, with quotes closed and doubled inside") from None
    if not len(columns) - since <= len(values) <= len(columns):
        raise ValueError(
            f"{len(values)} fields instead of {len(columns)} ({header}); put a field that has a comma in double quotes"
        )
    return values + [""] * (len(columns) - len(values))


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
    """Raise `InputError` where there are errors `(line number, sentence)`; shows the first `ERRORS_SHOWN` lines."""
    ordered = sorted(errors)
    if not ordered:
        return
    shown = [f"{path}: line {number}: {sentence}" for number, sentence in ordered[:ERRORS_SHOWN]]
    if len(ordered) > ERRORS_SHOWN:
        shown.append(f"and {len(ordered) - ERRORS_SHOWN} more")
    raise InputError("\n  ".join(shown))


def require_decider(row_id: str, reviewer: str, day: str, did: str) -> None:
    """Raise `ValueError` where a line does not say who decided, or no day as ISO 8601 writes it."""
    if not reviewer.strip():
        raise ValueError(f"{row_id}: no reviewer; write who {did}")
    try:
        date.fromisoformat(day if DAY.fullmatch(day) else "")
    except ValueError:
        raise ValueError(f"{row_id}: date {day!r} is no day; write it as 2026-11-23 (ISO 8601)") from None


def csv_line(row: Mapping[str, str], file: str) -> str:
    """Values by column as a line of a file, with its line end. Raises `InputError`: one has a line break."""
    for name, value in row.items():
        if "\n" in value or "\r" in value:
            raise InputError(f"{name} {value!r} has a line break, and a line of {file} cannot hold it")
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(row.values())
    return buffer.getvalue()


@contextmanager
def locked(path: Path) -> Iterator[io.FileIO]:
    """The file, made where there is none, for this process alone; writes go to its end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with io.FileIO(path, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        yield file


def append_line(path: Path, header: str, row_id: str, line: str, check: Callable[[bytes], None]) -> Written:
    """Add one line at the end of the file, or nothing where that fails.

    The `header` is written where there is no file; `check` raises an `InputError` where one must not add to the file.
    """
    with locked(path) as file:
        before = file.readall()
        head = b"" if before.endswith(b"\n") else b"\n"
        if not before:
            head = f"{header}\n".encode()
        check(before or head)
        content = line.encode()
        try:
            rest = head + content
            while rest:
                rest = rest[file.write(rest) or 0 :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(len(before))
            raise
        return Written(row_id, (before + head).count(b"\n") + 1, content)


def take_back_line(path: Path, written: Written) -> None:
    """Take the line off the end of the file. Raises `InputError`: it is no longer the last."""
    with locked(path) as file:
        content = file.readall()
        if not content.endswith(b"\n" + written.content):
            raise InputError(
                f"{path}: the line on {written.id} is no longer the last, so it stays; change it with an editor"
            )
        file.truncate(len(content) - len(written.content))
        os.fsync(file.fileno())
