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
    """A column: its cells that are not empty, out of `rows`, and how many values, words and characters they have.

    `is_unique`: called an id, and each row of a file has another value; `repeats`: values come again as labels do;
    `lists` are those of the first cells, where these are lists.
    """

    name: str
    cells: pl.Series
    rows: int
    distinct: int
    words: float
    characters: float
    is_unique: bool
    repeats: bool
    lists: list[Any]


def rank(name: str, use: str) -> int:
    """How surely a name has a use, 0 first."""
    folded = re.sub(r"[\W_]+", "_", name.casefold()).strip("_")
    return next((at for at, form in enumerate(WORDS["names"][use]) if re.fullmatch(form, folded)), NO_NAME)


def is_known_name(name: str) -> bool:
    """Whether a text is what people call a column."""
    return any(rank(name, use) < NO_NAME for use in WORDS["names"])


def part_of(text: str) -> str | None:
    """The split that the name of a file, a sheet or a value says: train, validation or test."""
    words = re.split(r"[\W_\d]+", text.casefold())
    return next((part for part, form in WORDS["splits"].items() if any(re.fullmatch(form, one) for one in words)), None)


def parts_in(values: pl.Series) -> set[str | None]:
    """The splits that a few different values say; None: one says none, or they are many."""
    unique = values.unique()
    return {part_of(value) for value in unique} if len(unique) <= MAX_PARTS else {None}


def describe(tables: Sequence[pl.DataFrame]) -> dict[str, Column]:
    """The columns of tables that have the same ones."""
    found, whole = {}, pl.concat(tables, how="diagonal")
    for name in whole.columns:
        cells = whole.filter(~is_missing(name))[name]
        words, characters = cells.str.count_matches(r"\S+").mean() or 0, cells.str.len_chars().mean() or 0
        distinct, lists = cells.n_unique(), [parse_list(cell) for cell in cells.head(SAMPLE) if cell[:1] in "[({"]
        found[name] = Column(
            *(name, cells, whole.height, distinct, float(words), float(characters)),  # type: ignore[arg-type]
            is_unique=rank(name, "id") < NO_NAME
            and all(fold_forms(table[name]).n_unique() == table.height for table in tables),
            repeats=2 * distinct <= len(cells) and float(words) <= 6,  # type: ignore[arg-type]
            lists=[one for one in lists if one] if 2 * len(lists) > min(SAMPLE, len(cells)) else [],
        )
    return found


FITS: dict[str, Callable[[Column], bool]] = {
    "split": lambda one: len(one.cells) == one.rows and parts_in(one.cells) & {"train", None} == {"train"},
    "id": lambda one: one.is_unique,
    "text": lambda one: True,
    "rater": lambda one: rank(one.name, "rater") < NO_NAME and 1 < one.distinct <= one.rows / 2,
    "ratings": lambda one: bool(one.lists) and all(len(x) > 1 and not isinstance(x[0], NESTED) for x in one.lists),
    "reference_label": lambda one: rank(one.name, "reference_label") < NO_NAME and one.repeats,
    "label": lambda one: rank(one.name, "label") < NO_NAME or (one.repeats and one.distinct > 1),
    "group": lambda one: (
        rank(one.name, "group") < NO_NAME and 10 <= one.distinct < 0.95 * len(one.cells) and one.words < 4
    ),
}
"""What a column has to be like for a role."""
ROLES = ("split", "raters", "id", "text", "rater", "ratings", "reference_label", "label", "group")
"""In the order in which they are given."""


def find_roles(tables: Sequence[pl.DataFrame], given: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The columns of each of `ROLES`, those that there are, and what is not sure of them, a sentence each.

    `given` holds whatever the columns look like; None: there is none. Raises `InputError`: no text or no label.
    """
    columns, found, doubts = describe(tables), dict(given), dict[str, str]()
    for role in (one for one in ROLES if one not in given):
        free = [one for one in columns.values() if one.name not in names_in(found.values())]
        judged = {one for one in ("raters", "rater", "ratings") if found.get(one)}
        if role == "raters":
            found |= {role: raters} if (raters := find_raters(free)) else {}
            continue
        fits = [one for one in free if FITS[role](one)]
        if role == "label" and judged - {"rater"}:
            fits = [one for one in fits if rank(one.name, role) < NO_NAME]
        if role == "rater" and found.get("text"):
            text = columns[names_in([found["text"]])[-1]]
            fits = fits if text.distinct < 0.8 * len(text.cells) else []
        if not fits or (role == "reference_label" and not judged):
            continue
        order = {one.name: -one.characters if role == "text" else one.distinct * (role == "label") for one in fits}
        best, *others = sorted(fits, key=lambda one: (rank(one.name, role), order[one.name]))
        if role == "rater" and "id" not in found:
            ids = [one.name for one in free if rank(one.name, "id") < NO_NAME and len(one.cells) == one.rows]
            found |= {"id": ids[0]} if ids else {}
        titles = [one.name for one in others if role == "text" and rank(one.name, "title") < NO_NAME and one.words > 1]
        found[role] = [*titles, best.name] if titles else best.name
        if role in ("text", "label"):
            named = [one.name for one in others if rank(one.name, role) < NO_NAME or rank(best.name, role) == NO_NAME]
            doubt = "by what it holds, not by its name" * (rank(best.name, role) == NO_NAME)
            doubts |= {role: doubt or f"or {', '.join(named)}?"} if named or doubt else {}
    if not found.get("text") or not (found.get("label") or found.get("raters") or found.get("ratings")):
        missing = "label" if found.get("text") else "text"
        shown = ", ".join(f"{one.name} ({one.distinct} values in {len(one.cells)} rows)" for one in columns.values())
        raise InputError(f"no column holds {missing}s: {shown}; name one by --{missing}, or the task by --task chats")
    doubts |= {role: doubt for role, doubt in WORDS["doubts"].items() if found.get(role) and role not in given}
    unsure = [f"{role}: {found[role]!r} ({doubt}); --{role}" for role, doubt in doubts.items()]
    return {role: name for role, name in found.items() if name and role in ROLES}, unsure


def names_in(values: Any) -> list[Any]:
    """The names of columns in values that are names or lists of them."""
    return [name for value in values for name in (value if isinstance(value, list) else [value])]


def find_raters(free: Sequence[Column]) -> list[str]:
    """Columns of one rater's judgements each: of such names, or three and more with the same few values."""
    votes = [one for one in free if one.repeats and one.distinct > 1 and rank(one.name, "reference_label") == NO_NAME]
    values, groups = {one.name: set(one.cells.str.to_lowercase()) for one in votes}, []
    for own in values.values():
        group = [one for one in votes if 2 * len(own & values[one.name]) >= len(own | values[one.name])]
        has_label = any(rank(one.name, "label") < NO_NAME and one not in group for one in votes)
        named = [one.name for one in group if rank(one.name, "raters") < NO_NAME]
        others = [one.name for one in group if rank(one.name, "label") == NO_NAME]
        alike = len(others) > 2 and not has_label and not own <= YES_NO
        groups.append(named if len(named) > 1 else others if alike else [])
    return max(groups, key=len, default=[])


def find_chats(table: pl.DataFrame, given: dict[str, Any]) -> dict[str, Any] | None:
    """The `layout` of chats in a table, as `instruct_data.sources` has it; None: it holds none."""
    columns, beside = describe([table]), {"id": given.get("id"), "category": given.get("category")}
    for one in columns.values():
        keys = set(one.lists[0][0]) if one.lists and isinstance(one.lists[0][0], dict) else set()
        for kind, wanted in (("messages", {"role", "content"}), ("sharegpt", {"from", "value"})):
            if wanted <= keys and given.get("chat", one.name) == one.name:
                return {"kind": kind, **beside, "chat": one.name}
    for kind, wanted in (("squad", {"question", "context", "answers"}), ("alpaca", {"instruction", "output"})):
        if wanted <= columns.keys() and "question" not in given:
            return {"kind": kind, **beside}
    found, roles = dict(given), ("question", "answer", "context")
    for role in roles:
        free = [one for one in columns.values() if one.name not in found.values() and rank(one.name, role) < NO_NAME]
        found |= {role: min(free, key=lambda one: rank(one.name, role)).name} if free and role not in found else {}
    prose = [one.name for one in columns.values() if one.words > 2 and not one.repeats]
    if not found.keys() >= {"question", "answer"} and len(columns) == len(prose) == 2:
        found |= dict(zip(roles, prose, strict=False))
    if not (asked := found.get("question")) or not (told := found.get("answer")):
        return None
    labels = [one.name for one in columns.values() if rank(one.name, "label") < NO_NAME and one.repeats]
    beside["category"] = beside["category"] or next((name for name in labels if name not in (asked, told)), None)
    if "answer" not in given and columns[told].repeats:
        return None
    return {"kind": "columns", **beside, **{role: found.get(role) for role in roles}, "system": None}
