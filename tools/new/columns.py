"""Which column of a table is what: text, label, id, raters, group and split, or the parts of chats."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from assay.core.errors import InputError
from assay.core.forms import fold_forms
from assay.core.removed_rows import is_missing
from assay.sources.annotation_tools import NESTED, parse_list

WORDS: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("words.yaml").read_text(encoding="utf-8"))
NO_NAME = 9
"""The rank of a name that does not say what its column is."""
YES_NO = {"yes", "no", "true", "false", "0", "1", "y", "n", "x"}
"""Values that columns share which are no raters' labels, but properties of a text."""
MAX_PARTS = 20
"""Different values of a column that may name splits."""
SAMPLE = 50
"""Cells of a column that are looked at for lists."""


@dataclass(frozen=True)
class Column:
    """A column: its cells that are not empty, out of `rows`; how many values and, on average, words they have.

    `is_unique`: each row has another value; `repeats`: several values come again, as labels do; `parts`: the
    splits that values name, if they are few; `lists` are those of the first cells, where these are lists.
    """

    name: str
    cells: pl.Series
    rows: int
    distinct: int
    words: float
    is_unique: bool
    repeats: bool
    parts: set[str | None]
    lists: list[Any]


def rank(name: str, use: str) -> int:
    """How surely a name has a use, 0 first."""
    folded = re.sub(r"[\W_]+", "_", name.casefold()).strip("_")
    return next((at for at, form in enumerate(WORDS["names"][use]) if re.fullmatch(form, folded)), NO_NAME)


def is_named(name: str, *uses: str) -> bool:
    """Whether a text is what people call a column of one of these uses, or of any."""
    return any(rank(name, use) < NO_NAME for use in uses or WORDS["names"])


def part_of(text: str) -> str | None:
    """The split that the name of a file or a value says: train, validation or test."""
    words = re.split(r"[\W_\d]+", text.casefold())
    return next((part for part, form in WORDS["splits"].items() if any(re.fullmatch(form, one) for one in words)), None)


def describe(table: pl.DataFrame) -> dict[str, Column]:
    """The columns of a table."""
    found = {}
    for name in table.columns:
        cells = table.filter(~is_missing(name))[name]
        words, distinct = float(cells.str.count_matches(r"\S+").mean() or 0), cells.n_unique()  # type: ignore[arg-type]
        lists = [parse_list(cell) for cell in cells.head(SAMPLE) if cell[:1] in "[({"]
        found[name] = Column(
            *(name, cells, table.height, distinct, words),
            is_unique=fold_forms(table[name]).n_unique() == table.height,
            repeats=1 < distinct <= len(cells) / 2 and words <= 6,
            parts={part_of(value) for value in cells.unique()} if distinct <= MAX_PARTS else {None},
            lists=[one for one in lists if one] if 2 * len(lists) > min(SAMPLE, len(cells)) else [],
        )
    return found


FITS: dict[str, Callable[[Column], bool]] = {
    "split": lambda one: len(one.cells) == one.rows and one.parts & {"train", None} == {"train"},
    "raters": lambda one: one.repeats and not is_named(one.name, "reference_label"),
    "id": lambda one: is_named(one.name, "id") and one.is_unique,
    "text": lambda one: True,
    "rater": lambda one: is_named(one.name, "rater") and one.repeats,
    "ratings": lambda one: bool(one.lists) and all(len(x) > 1 and not isinstance(x[0], NESTED) for x in one.lists),
    "reference_label": lambda one: is_named(one.name, "reference_label") and one.repeats,
    "label": lambda one: is_named(one.name, "label") or one.repeats,
    "group": lambda one: is_named(one.name, "group") and 10 <= one.distinct < 0.95 * len(one.cells) and one.words < 4,
}
"""What a column has to be like for a role; in the order in which roles are given."""


def find_roles(table: pl.DataFrame, given: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The columns of each of `FITS`, those that there are, and what is not sure of them, a sentence each.

    `given` holds whatever the columns look like; None: there is none. Raises `InputError`: no text or no label.
    """
    columns, found, unsure = describe(table), dict(given), list[str]()
    for role in (one for one in FITS if one not in given):
        fits = [one for one in columns.values() if one.name not in names_in(found.values()) and FITS[role](one)]
        is_judged = found.get("raters") or found.get("ratings")
        if role == "raters":
            found[role] = find_raters(fits, columns)
        elif role == "rater" and (text := columns.get(found.get("text", ""))):
            fits = fits if text.distinct < 0.8 * len(text.cells) else []
        elif role == "label" and is_judged:
            fits = [one for one in fits if is_named(one.name, role)]
        elif role == "reference_label" and not is_judged and not found.get("rater"):
            fits = []
        order = {one.name: -one.words if role == "text" else one.distinct * (role == "label") for one in fits}
        names = sorted(order, key=lambda name: (rank(name, role) if role != "raters" else 0, order[name]))
        if not names or found.get(role) == []:
            continue
        best, is_sure = found.setdefault(role, names[0]), is_named(names[0], role)
        others = [name for name in names[1:] if is_named(name, role) or not is_sure] * (role in ("text", "label"))
        doubt = WORDS["doubts"].get(role) or (f"or {', '.join(others)}?" if others else "")
        if doubt or not is_sure:
            unsure.append(f"{role}: {best!r} ({doubt or 'by what it holds, not by its name'}); --{role}")
    if not found.get("text") or not (found.get("label") or found.get("raters") or found.get("ratings")):
        missing = "label" if found.get("text") else "text"
        shown = ", ".join(f"{one.name} ({one.distinct} values in {len(one.cells)} rows)" for one in columns.values())
        raise InputError(f"no column holds {missing}s: {shown}; name one by --{missing}, or the task by --task chats")
    return {role: name for role, name in found.items() if name and role in FITS}, unsure


def names_in(values: Any) -> list[Any]:
    """The names of columns in values that are names or lists of them."""
    return [name for value in values for name in (value if isinstance(value, list) else [value])]


def find_raters(votes: Sequence[Column], columns: dict[str, Column]) -> list[str]:
    """Columns of one rater's judgements each: of such names, or three and more with the same few values."""
    values, groups = {one.name: set(one.cells.str.to_lowercase()) for one in votes}, []
    for own in values.values():
        group = [name for name, of in values.items() if 2 * len(own & of) >= len(own | of)]
        has_label = any(is_named(name, "label") and one.repeats for name, one in columns.items() if name not in group)
        named = [name for name in group if is_named(name, "raters")]
        others = [name for name in group if not is_named(name, "label")]
        alike = len(others) > 2 and not has_label and not own <= YES_NO
        groups.append(named if len(named) > 1 else others if alike else [])
    return max(groups, key=len, default=[])


def find_chats(table: pl.DataFrame, given: dict[str, Any]) -> dict[str, Any] | None:
    """The `layout` of chats in a table, as `instruct_data.sources` has it; None: it holds none."""
    columns, beside = describe(table), {"id": given.get("id"), "category": given.get("category")}
    for one in columns.values():
        keys = set(one.lists[0][0]) if one.lists and isinstance(one.lists[0][0], dict) else set()
        for kind, wanted in (("messages", {"role", "content"}), ("sharegpt", {"from", "value"})):
            if wanted <= keys and given.get("chat", one.name) == one.name:
                return {"kind": kind, **beside, "chat": one.name}
    for kind, wanted in (("squad", {"question", "context", "answers"}), ("alpaca", {"instruction", "output"})):
        if wanted <= columns.keys() and "question" not in given:
            return {"kind": kind, **beside}
    found, roles = dict(given), ("question", "answer", "context")
    for role in (role for role in roles if role not in found):
        free = [one for one in columns if one not in found.values() and is_named(one, role)]
        found |= {role: min(free, key=lambda one: rank(one, role))} if free else {}
    prose = [one.name for one in columns.values() if one.words > 2 and not one.repeats]
    if not found.keys() >= {"question", "answer"} and len(columns) == len(prose) == 2:
        found |= dict(zip(roles, prose, strict=False))
    question, answer = found.get("question"), found.get("answer")
    if not question or not answer or ("answer" not in given and columns[answer].repeats):
        return None
    labels = [name for name, one in columns.items() if is_named(name, "label") and one.repeats and name != question]
    beside["category"] = beside["category"] or next(iter(labels), None)
    return {"kind": "columns", **beside, **{role: found.get(role) for role in roles}, "system": None}
