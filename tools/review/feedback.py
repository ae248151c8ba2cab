"""Corrections from where a model is used: `make serve` adds them to `data/feedback.csv`, one a line, and never more.

They decide nothing. `make review` shows them first: what a person decides of a row of the data, named by its id, goes
to `data/corrections.csv`, as ever; a text that is in no data is shown alone (docs/serving.md says how it comes in).
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from assay.core.errors import InputError
from assay.human_review.append_only_csv import append_line, csv_line, parse_lines

POSTED = Path("data/feedback.csv")
COLUMNS = ("id", "text", "label", "reason", "reviewer", "date")
MAX_MIB = 64
SPLITS = ("train", "validation")
NEW = "new text"
"""In place of a split."""


def read_posted() -> list[dict[str, str]]:
    """The lines by column, none where there is no file; raises as `parse_lines`."""
    content = POSTED.read_bytes() if POSTED.is_file() else b",".join(map(str.encode, COLUMNS))
    return parse_lines(content, POSTED, COLUMNS, lambda _, values: dict(zip(COLUMNS, values, strict=True)))


def add_posted(sent: Mapping[str, Any]) -> str:
    """Add what `make serve` was sent, and return the id under which it waits. Raises `InputError`: the file is full."""

    def refuse(content: bytes) -> None:
        if len(content) > MAX_MIB * 2**20:
            raise InputError(f"{POSTED} has {MAX_MIB} MiB; review it, and take away what is decided")

    # A line holds no line break.
    text, reason = (" ".join((sent[name] or "").split()) for name in ("text", "reason"))
    row_id: str = sent["id"] or hashlib.sha256(text.encode()).hexdigest()[:16]
    values = (row_id, text, sent["label"], reason, sent["reviewer"], date.today().isoformat())
    line = csv_line(dict(zip(COLUMNS, values, strict=True)), "feedback")
    append_line(POSTED, ",".join(COLUMNS), row_id, line, refuse)
    return row_id


def add_first(queue: list[dict[str, Any]], posted: Sequence[Mapping[str, str]]) -> tuple[list[dict[str, Any]], int]:
    """The rows of the queue, before them what was posted, and how many posted ids are of no row to be reviewed.

    Those are of test rows, which a model must not lead people to, or of no row at all.
    """
    said: dict[str, list[Mapping[str, str]]] = {}
    for one in posted:
        said.setdefault(one["id"], []).append(one)
    new: dict[str, Any] = {"split": NEW, "source": "feedback", "label": None}
    rows = {one["id"]: new | {"id": one["id"], "text": one["text"]} for one in posted if one["text"]}
    for split in SPLITS:
        if (path := Path(f"data/split/{split}.parquet")).is_file():
            found = pl.scan_parquet(path).filter(pl.col("id").is_in(list(said))).select("id", "source", "text", "label")
            rows |= {row["id"]: row | {"split": split} for row in found.collect().to_dicts()}
    rows |= {row["id"]: row for row in queue if row["split"] != "test"}
    first = []
    for row_id, lines in said.items():
        if row_id in rows:
            labels = {one["label"] for one in lines}
            # The page has a line for what stands between semicolons.
            told = [
                f'{one["reviewer"]} says "{one["label"]}" {one["reason"]}'.strip().replace(";", ",") for one in lines
            ]
            reasons = "; ".join([*told, *filter(None, [rows[row_id].get("reasons")])])
            suggested = labels.pop() if len(labels) == 1 else None
            shown = {"rank": "feedback", "suggested_label": suggested, "reasons": reasons}
            first.append({"neighbours": [], "field": "label"} | rows[row_id] | shown)
    shown_first = {row["id"] for row in first}
    return [*first, *(row for row in queue if row["id"] not in shown_first)], len(said) - len(first)
