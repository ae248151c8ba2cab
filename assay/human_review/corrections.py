"""`data/corrections.csv`: what people decided about rows, one decision a line, only ever added to.

Two people may decide at once, each on a branch, and git keeps the lines of both: so that the order of their lines does
not matter, two different decisions that start from the same value are an error, whichever line comes first.
"""

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from assay.core.forms import find_other_forms, show_form
from assay.human_review.append_only_csv import csv_line, read_lines, require_decider

COLUMNS = ("id", "field", "old", "new", "reason", "reviewer", "date")
HEADER = ",".join(COLUMNS)
LABEL_FIELDS = ("label", "reference_label")
ROW_VALUES = ("keep", "remove")
FIELDS = (*LABEL_FIELDS, "row")


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


def read_corrections(path: Path, content: bytes | None = None) -> list[Correction]:
    """The lines of the file, or of its `content` if given; raises as `read_lines`."""
    return read_lines(path, COLUMNS, _parsed, content=content)


def _parsed(number: int, values: list[str]) -> Correction:
    """One line as a correction. Raises `ValueError`: it is none; the sentence for the user."""
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
    require_decider(found.id, found.reviewer, found.date, "decided")
    return found


def settle(lines: list[Correction], given: str) -> Outcome:
    """What the lines of one id and field, in the order of the file, come to, from the value `given` in the data.

    A line may go on from the value that an earlier line gave. Two lines that start from the same value are one decision
    where two reviewers say the same, and a conflict where they differ, also where one of them confirms the value; but a
    reviewer may change a value that they had confirmed.

    Raises `LineError`: the first line that does not fit.
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
                f"{one.id}: old {one.field} is {show_form(one.old)} here, and the row has {show_form(value)}{since}; "
                f"look at the row again (`make why ID={one.id}`), then write {value!r} as old, or delete the line",
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
    return f"{one.reviewer} confirms it" if one.is_confirmation else f"{one.reviewer} says {one.new!r}"


def check_labels(corrections: Iterable[Correction], labels: set[str]) -> list[tuple[int, str]]:
    """Number and sentence of each line whose new label no row has."""
    others = find_other_forms({one.new for one in corrections if one.field in LABEL_FIELDS}, labels)
    return [
        (
            one.line,
            f"{one.id}: no row has the label {one.new!r}; there are {', '.join(sorted(labels))}. A new one must be in"
            " `correct.new_labels` of params.yaml" + (f": {others[one.new]}" if one.new in others else ""),
        )
        for one in corrections
        if one.field in LABEL_FIELDS and one.new and not one.is_confirmation and one.new not in labels
    ]


def correction_line(values: Mapping[str, Any]) -> str:
    """One decision, by column, as a line of the file; runs of white space in the reason become a space.

    Raises `InputError`: another value has a line break, which the file cannot hold.
    """
    row = {name: str(values[name]) for name in COLUMNS}
    return csv_line(row | {"reason": " ".join(row["reason"].split())}, "the corrections")
