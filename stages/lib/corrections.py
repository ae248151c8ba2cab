"""`data/corrections.csv`: what people decided about rows, one decision a line, only ever added to.

Two people may decide at once, each on a branch, and git keeps the lines of both: so that the order of their lines does
not matter, two different decisions that start from the same value are an error, whichever line comes first.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from stages.lib.errors import InputError

COLUMNS = ("id", "field", "old", "new", "reason", "reviewer", "date")
HEADER = ",".join(COLUMNS)
LABEL_FIELDS = ("label", "reference_label")
ROW_VALUES = ("keep", "remove")
FIELDS = (*LABEL_FIELDS, "row")
MERGE_MARKER = re.compile(r"(<{7}|>{7}|\|{7})( .*)?|={7}")
DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
ERRORS_SHOWN = 10

Decisions = dict[tuple[str, str], list["Correction"]]
"""The lines of each id and field, in the order of the file."""


@dataclass(frozen=True)
class Correction:
    """One line of the file.

    `field` is one of `FIELDS`. `old` and `new` are labels, empty for none, and the same where a person confirmed the
    label; of the field `row` they are `keep` and `remove`.
    """

    line: int
    id: str
    field: str
    old: str
    new: str
    reason: str
    reviewer: str
    date: str

    @property
    def is_confirmation(self) -> bool:
        """True where a person looked, and left it as it was."""
        return self.old == self.new


class LineError(ValueError):
    """What is wrong with one line, as a sentence with the fix."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line = line


@dataclass(frozen=True)
class Outcome:
    """What the lines of one id and field come to.

    `deciding` is the line whose decision stands; `agreements` are lines that say what another reviewer's line says.
    """

    value: str
    deciding: Correction
    agreements: int


def read_corrections(path: Path) -> list[Correction]:
    """The lines of the file.

    A byte-order mark, CRLF line ends and empty lines are tolerated.

    Raises:
        InputError: no such file, not UTF-8, merge markers, another header, or lines that cannot be read: up to
            `ERRORS_SHOWN` of them, each with its line number.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; make it with this line alone: {HEADER}") from None
    return parse_corrections(content, path)


def parse_corrections(content: bytes, path: Path) -> list[Correction]:
    """`read_corrections` of what is in the file; `path` is for the errors."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}: line {line}: not UTF-8 (byte 0x{content[error.start]:02x}); save it as UTF-8"
        ) from None
    # Not splitlines(), which also splits at characters that may be in a label.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    refuse_merge_markers(lines, path)
    header = next(csv.reader([lines[0]]), [])
    if tuple(header) != COLUMNS:
        missing = [name for name in COLUMNS if name not in header]
        raise InputError(
            f"{path}: line 1: the header is {lines[0]!r}"
            + (f", without {', '.join(missing)}" if missing else "")
            + f"; it must be {HEADER}, with commas"
        )
    corrections = []
    errors = []
    for place, one in enumerate(lines[1:], start=2):
        if not one.strip():
            continue
        try:
            corrections.append(_parsed(place, one))
        except ValueError as error:
            errors.append((place, str(error)))
    refuse(errors, path)
    return corrections


def refuse_merge_markers(lines: list[str], path: Path) -> None:
    """Refuse a file in which git left a conflict.

    Raises:
        InputError: a line is a merge marker.
    """
    marked = [(number, line) for number, line in enumerate(lines, start=1) if MERGE_MARKER.fullmatch(line)]
    if marked:
        number, line = marked[0]
        others = f" (and lines {', '.join(str(other) for other, _ in marked[1:])})" if len(marked) > 1 else ""
        raise InputError(
            f"{path}: line {number}{others}: a merge marker, {line!r}: git could not merge the file. The lines of both"
            " sides are decisions: delete the marker lines alone, and keep all others. Does .gitattributes still say"
            f" `{path.as_posix()} merge=union`? Then git does so by itself"
        )


def _parsed(number: int, line: str) -> Correction:
    """One line as a correction.

    Raises:
        ValueError: it is none; the sentence for the user.
    """
    if line == HEADER:
        raise ValueError("the header again; delete this line")
    try:
        (values,) = csv.reader([line], strict=True)
    except (csv.Error, ValueError) as error:
        raise ValueError(f"not CSV ({error}); a decision is one line, with quotes closed and doubled inside") from None
    if len(values) != len(COLUMNS):
        raise ValueError(
            f"{len(values)} fields instead of {len(COLUMNS)} ({HEADER}); put a field that has a comma in double quotes"
        )
    found = Correction(number, *values)
    if not found.id:
        raise ValueError("no id; write the id of the row")
    if found.field not in FIELDS:
        raise ValueError(f"{found.id}: unknown field {found.field!r}; it is one of {', '.join(FIELDS)}")
    if found.field == "row" and (found.old not in ROW_VALUES or found.new not in ROW_VALUES or found.old == found.new):
        raise ValueError(
            f"{found.id}: field `row` goes from {found.old!r} to {found.new!r}; to take the row out, write old keep and"
            " new remove"
        )
    if not found.reviewer.strip():
        raise ValueError(f"{found.id}: no reviewer; write who decided")
    if not _is_day(found.date):
        raise ValueError(f"{found.id}: date {found.date!r} is no day; write it as 2026-11-23 (ISO 8601)")
    return found


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return DAY.fullmatch(text) is not None


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


def by_id_and_field(corrections: Iterable[Correction]) -> Decisions:
    """The lines of each id and field."""
    decisions: Decisions = {}
    for one in corrections:
        decisions.setdefault((one.id, one.field), []).append(one)
    return decisions


def settle(lines: list[Correction], given: str) -> Outcome:
    """What the lines of one id and field come to.

    A line may go on from the value that an earlier line gave. Two lines that start from the same value are one decision
    where two reviewers say the same, and a conflict where they differ, also where one of them confirms the value; but a
    reviewer may change a value that they had confirmed.

    Args:
        lines: in the order of the file, at least one.
        given: the value that the row has in the data; empty for none.

    Raises:
        LineError: the first line that does not fit.
    """
    value, deciding, agreements = given, lines[0], 0
    taken: list[Correction] = []
    for one in lines:
        for other in taken:
            if astuple(other)[1:] == astuple(one)[1:]:
                raise LineError(one.line, f"{one.id}: repeats line {other.line}; delete one of the two")
        beside = _starting_beside(one, taken)
        withdrawn = [other for other in beside if other.is_confirmation and other.reviewer == one.reviewer]
        if one.is_confirmation or one.old != value:
            withdrawn = []
        for other in beside:
            if other.new != one.new and other not in withdrawn:
                raise LineError(
                    one.line,
                    f"{one.id}: two decisions start from {one.field} {one.old!r}: {_said(other)} (line {other.line}),"
                    f" and {_said(one)} (line {one.line}); agree on one, and delete the line of the other",
                )
            if other.new == one.new and other.reviewer == one.reviewer:
                raise LineError(
                    one.line, f"{one.id}: {one.reviewer} decided the same in line {other.line}; delete one of the two"
                )
        taken = [other for other in taken if other not in withdrawn]
        if len(beside) > len(withdrawn):
            agreements += 1
        elif one.old != value:
            since = f" since line {deciding.line}" if taken else ""
            raise LineError(
                one.line,
                f"{one.id}: old {one.field} is {one.old!r} here, and the row has {value!r}{since}; look at the row"
                f" again (`make why ID={one.id}`), then write {value!r} as old, or delete the line",
            )
        else:
            value, deciding = one.new, one
        taken.append(one)
    return Outcome(value, deciding, agreements)


def _starting_beside(one: Correction, taken: list[Correction]) -> list[Correction]:
    """The earlier lines that start from the value this one starts from, up to a line that went back to it."""
    found = []
    for other in reversed(taken):
        if other.new == one.old and not other.is_confirmation:
            break
        if other.old == one.old:
            found.append(other)
    return found


def _said(one: Correction) -> str:
    """Who decided what, in words."""
    if one.is_confirmation:
        return f"{one.reviewer} confirms it"
    return f"{one.reviewer} says {one.new!r}"


def check_labels(corrections: Iterable[Correction], labels: set[str]) -> list[tuple[int, str]]:
    """Number and sentence of each line whose new label no row has.

    Args:
        corrections: of any field.
        labels: that there are.
    """
    return [
        (
            one.line,
            f"{one.id}: no row has the label {one.new!r}; there are {', '.join(sorted(labels))}. A new one must be in"
            " `correct.new_labels` of params.yaml",
        )
        for one in corrections
        if one.field in LABEL_FIELDS and one.new and not one.is_confirmation and one.new not in labels
    ]


def csv_line(values: Mapping[str, Any]) -> str:
    """One decision as a line of the file, with its line end.

    Args:
        values: by column; line breaks and runs of white space in the reason become a space.

    Raises:
        InputError: another value has a line break, which the file cannot hold.
    """
    row = [str(values[name]) for name in COLUMNS]
    row[COLUMNS.index("reason")] = " ".join(row[COLUMNS.index("reason")].split())
    for name, value in zip(COLUMNS, row, strict=True):
        if "\n" in value or "\r" in value:
            raise InputError(f"{name} {value!r} has a line break, and a line of the corrections cannot hold it")
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(row)
    return buffer.getvalue()
