"""Exports of annotation tools as tables: Label Studio (JSON, JSON_MIN, CSV) and doccano (JSONL).

All of Label Studio's become a row an annotation: `id` is the number of the task, `annotator` who made it, and each
control of the labelling interface (`from_name`) a column. JSON_MIN and CSV are so already; there the task's number has
replaced an `id` of the data, which is in the JSON export alone, and is called `data.id` here.
"""

import ast
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import polars as pl

from assay.core.errors import InputError
from assay.core.removed_rows import none_removed, removed_rows
from assay.sources.table_files import SHOWN_CHARACTERS, Table, as_text, frame_of

SourceLayout = Literal["table", "label_studio", "doccano"]
ANNOTATOR = "annotator"
NESTED = (list, tuple, set, dict)
BESIDE = re.compile(r"""['"]\s+['"]""")
DOCCANO_NAMES = {"labels": "label", "data": "text"}
"""Names in the exports of some versions, and what they are in the others."""


def lay_out(table: Table, layout: SourceLayout, path: Path, file: str) -> tuple[Table, pl.DataFrame]:
    """The table of an export, and annotations that it has not (`REMOVED_SCHEMA`; `id` is `file` and their line).

    Raises `InputError`: no export of that tool.
    """
    columns = table.cells.columns
    if layout == "doccano":
        names = {old: new for old, new in DOCCANO_NAMES.items() if old in columns and new not in columns}
        return replace(table, cells=table.cells.rename(names)), none_removed()
    if layout == "table" or {"id", ANNOTATOR} <= set(columns):
        return table, none_removed()
    if not {"id", "data", "annotations"} <= set(columns):
        raise InputError(
            f"{path}: no export of Label Studio's: JSON has `id`, `data` and `annotations`, JSON_MIN and CSV have `id` "
            f"and `{ANNOTATOR}`, and here are {columns}; export again, or set its `layout` to table"
        )
    rows: list[dict[str, str | None]] = []
    lines: list[int] = []
    removed: list[tuple[str, str, str]] = []
    for line, task in zip(table.lines, table.cells.iter_rows(named=True), strict=True):
        given = []
        try:
            data = {key: as_text(cell) for key, cell in json.loads(task["data"] or "null").items()}
            for one in json.loads(task["annotations"] or "[]"):
                if one.get("was_cancelled") or not (results := _results(one)):
                    rule = "annotation_skipped" if one.get("was_cancelled") else "annotation_empty"
                    removed.append((f"{file}:{line}", rule, json.dumps(one, ensure_ascii=False)))
                else:
                    given.append(results | {ANNOTATOR: _name(one.get("completed_by"))})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}:{line}: no task of Label Studio's ({error}); export again, as JSON") from None
        for results in given or [{ANNOTATOR: None}]:
            own = {"id": task["id"], **results}
            own |= {f"task.{key}": cell for key, cell in task.items() if key not in ("id", "data", "annotations")}
            rows.append(own | {f"data.{key}" if key in own else key: cell for key, cell in data.items()})
            lines.append(line)
    gone = pl.DataFrame(removed, dict.fromkeys(("id", "rule", "text"), pl.String), orient="row")
    laid = replace(
        table,
        cells=frame_of(rows, dict.fromkeys(key for row in rows for key in row)),
        lines=pl.Series("line", lines, dtype=pl.Int64),
        nested={},
    )
    return laid, removed_rows(gone, pl.col("rule"))


def _results(annotation: dict[str, Any]) -> dict[str, str | None]:
    """What an annotation says, by control; of several values a list."""
    found: dict[str, list[Any]] = {}
    for result in annotation.get("result") or []:
        value = (result.get("value") or {}).get(result.get("type"))
        if value is not None:
            found.setdefault(result.get("from_name", result["type"]), []).extend(
                value if isinstance(value, list) else [value]
            )
    return {name: as_text(values) for name, values in found.items() if values}


def _name(person: Any) -> str | None:
    """A person's number, or where the export has the person, the address."""
    return as_text(person.get("email") or person.get("id") if isinstance(person, dict) else person)


def single_labels(cells: pl.Series, places: pl.Series) -> pl.Series:
    """Labels as text: a list (see `parse_list`) of one is that one, an empty list is none.

    Raises `InputError`: a list of several, or an object; names the first, and how many there are.
    """
    listed = cells.str.contains(r"(?s)^\s*[\[({].*[\])}]\s*$").fill_null(False).arg_true()
    if not len(listed):
        return cells
    pairs = [(row, parse_list(cells[row])) for row in listed]
    if several := [row for row, labels in pairs if labels and (labels[1:] or isinstance(labels[0], NESTED))]:
        raise InputError(
            f"{places[several[0]]}: {cells.name}: {cells[several[0]][:SHOWN_CHARACTERS]!r}; {len(several)} rows "
            "have several labels or an object there, and a text has one label here: leave one of them, take these rows "
            "out, or give combinations a label of their own (bug+feature)"
        )
    single = [cells[row] if labels is None else as_text(*labels or [None]) for row, labels in pairs]
    return cells.scatter(listed, pl.Series(single, dtype=pl.String))


def parse_list(text: str) -> list[Any] | None:
    """What a list, tuple or set of JSON's or Python's holds, or Label Studio's `{"choices": […]}`; None: it is none.

    One thing in a list is an object, a set of several, and strings without commas between, as NumPy prints them.
    """
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text)
        # No such list, a whole number of more digits than Python reads, or brackets thousands deep.
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, dict):
            value = value["choices"] if set(value) == {"choices"} else [value]
            value = value if isinstance(value, list) else [value]
        if isinstance(value, list | tuple | set):
            unclear = len(value) > 1 if isinstance(value, set) else parse is ast.literal_eval and BESIDE.search(text)
            return [value] if unclear else list(value)
    return None
