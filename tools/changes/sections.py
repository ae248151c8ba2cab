"""What folds away in the pull-request report: a table each of what differs, and nothing where nothing does."""

import html
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from assay.report.numbers import number
from assay.report.wording import SHOWN_REMOVALS
from assay.statistics.predictions import hash_name
from tools.changes.paired import Paired, SharedRows
from tools.changes.sides import MISSING, Flat, Key, Side, flatten

MAX_CHARACTERS = 200
"""Of a text that is shown."""
ABSENT = "–"
MODELS = ("evaluate_generation/", "optional/generation_summary")
"""Have a part `label`, whose questions are test rows."""
SCORED = ("evaluate/", "robustness/")
"""Metrics of test rows."""
WALL_CLOCK = re.compile(r"(seconds|per_second|_ms|_ms_per_row|memory_mib)$")
"""Last part of the key of a measurement that differs from run to run on one and the same input."""

Texts = dict[str, tuple[str, str]]
"""Hash of a row → its split and its text."""


def is_number(value: Any) -> bool:
    """True for a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def changes(old: Flat, new: Flat) -> list[tuple[Key, Any, Any]]:
    """Leaves that differ, MISSING where a side has none, in the order of the new side; NaN is the same as NaN."""
    sides = [(key, old.get(key, MISSING), new.get(key, MISSING)) for key in dict.fromkeys([*new, *old])]
    return [one for one in sides if one[1] != one[2] and repr(one[1]) != repr(one[2])]


def code(text: str) -> str:
    """The beginning of a text from params or data as a code span that neither breaks a table nor becomes markup."""
    flat = " ".join(text.split())
    flat = flat if len(flat) <= MAX_CHARACTERS else f"{flat[:MAX_CHARACTERS]} …"
    if flat and not re.search(r"[`|\\]", flat):
        return f"`{flat}`"
    return f"<code>{html.escape(flat).replace('|', '&#124;').replace('`', '&#96;')}</code>" if flat else ""


def listed(names: list[str], most: int = 4) -> str:
    """The first names as code, and how many more there are."""
    return ", ".join(map(code, names[:most])) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def shown(value: Any) -> str:
    """A value of one side: a number, or any other value as JSON."""
    if value is MISSING:
        return ABSENT
    if is_number(value):
        return number(value, 4)
    return code(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def arrow(old: Any, new: Any) -> str:
    """A value of both sides in one cell."""
    return shown(new) if repr(old) == repr(new) else f"{shown(old)} → {shown(new)}"


def read_texts() -> Texts:
    """The rows of the working tree's splits; none of those that do not lie there, as on a build machine."""
    files = {name: Path(f"data/split/{name}.parquet") for name in ("train", "validation", "test")}
    tables = {name: pl.read_parquet(file, columns=["id", "text"]) for name, file in files.items() if file.is_file()}
    return {hash_name(row_id): (name, text) for name, table in tables.items() for row_id, text in table.iter_rows()}


def flips(paired: list[Paired]) -> list[tuple[str, str, list[str]]]:
    """Test rows that one side alone predicts rightly: row, label, predictions; those of the most approaches first."""
    labels = {row: label for one in paired for row, label, *_ in one.flips}
    found: dict[str, list[str]] = {row: [] for row in labels}
    for one in paired:
        for row, _, old, new in one.flips:
            found[row].append(f"{code(one.name)}: {code(old)} → {code(new)}")
    return [(row, labels[row], found[row]) for row in sorted(found, key=lambda row: -len(found[row]))]


def rows_by_rule(old: Flat, new: Flat) -> tuple[list[tuple[str, str, str, list[str]]], list[str]]:
    """Of each stage rows in and out, and removed by rule; and an example of the rules whose count is another."""
    folders = {"ingest": "ingested", "correct": "corrected", "augment": "augmented"}
    rows, examples = [], list[str]()
    for file in sorted({key[0] for key in [*old, *new] if key[1:] == ("rows_in",)}):
        counts = {key: [side.get(key, MISSING) for side in (old, new)] for key in {**new, **old} if key[0] == file}
        by_rule = {key[2]: both for key, both in counts.items() if key[1] == "removed" and len(key) == 3}
        removed = [f"{code(rule)} {arrow(*both)}" for rule, both in by_rule.items() if {*both} - {0, MISSING}]
        rows_in, rows_out = (arrow(*counts.get((file, end), (MISSING, MISSING))) for end in ("rows_in", "rows_out"))
        rows.append((file, rows_in, rows_out, removed))
        table = Path("data", folders.get(file, file), "removed.parquet")
        if table.is_file():
            others = [rule for rule, both in by_rule.items() if both[0] != both[1]]
            found = pl.scan_parquet(table).filter(pl.col("rule").is_in(others))
            found = found.select("rule", "id", pl.when(pl.col("rule").is_in(SHOWN_REMOVALS)).then("before"))
            firsts = found.fill_null("").unique("rule", keep="first", maintain_order=True).collect().rows()
            examples += [f"- {' '.join(map(code, row))}" for row in firsts]
    return rows, examples


def metrics(old: Flat, new: Flat, is_comparable: bool) -> dict[str, list[tuple[Key, Any, Any, str]]]:
    """All metrics that differ, by title; scores of test sets that are not the same (`is_comparable`) lack the step."""
    # A long table is cut at its end: so, models first, and what is by label or source last.
    titles = ("Scores of models", "Other metrics", "By label or source", "Time and memory")
    rows: dict[str, list[tuple[Key, Any, Any, str]]] = {title: [] for title in titles}
    for key, before, after in changes(old, new):
        file, *path = key
        is_clock = file.startswith("cost/") or WALL_CLOCK.search(path[-1])
        is_part = any(name.startswith("per_") for name in path)
        kind = 3 if is_clock else 2 if is_part else 0 if "/" in file else 1
        step = ""
        if MISSING in (before, after):
            step = "new" if before is MISSING else "gone"
        elif not is_comparable and (file.startswith(SCORED) or (file.startswith(MODELS) and "label" in path)):
            step = "not comparable"
        elif is_number(before) and is_number(after):
            step = ("+" if after > before else "−") + number(abs(after - before))
        rows[titles[kind]].append((key, before, after, step))
    return rows


def values_of_tables(old: Side, new: Side, rows: SharedRows | None, paired: list[Paired]) -> dict[str, Any]:
    """What `sections.jinja` shows of two sides."""
    by_stage, examples = rows_by_rule(old.metrics, new.metrics)
    all_flips = [flip for one in paired for flip in one.flips]
    broken = sum(label == before for _, label, before, _ in all_flips)
    named: dict[str, Iterable[str]] = {}
    if rows is not None:
        named = {"relabelled": rows.relabelled, "removed": rows.removed, "added": rows.added}
    return {
        "texts": read_texts(),
        "flips": flips(paired),
        "broken": broken,
        "mended": len(all_flips) - broken,
        "differing": [(kind, row) for kind, of_kind in named.items() for row in of_kind],
        "params": changes(flatten(old.params), flatten(new.params)),
        "by_stage": by_stage,
        "examples": examples,
        "metrics": metrics(old.metrics, new.metrics, is_comparable=rows is not None and not rows.differ),
    }
