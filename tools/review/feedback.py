"""Corrections from where a model is used: `make serve` adds them to `data/feedback.csv`, one a line, and never more.

They decide nothing. `make review` shows them first, and what a person confirms there is what trains: of a row of the
data, named by its id, in `data/corrections.csv`; of another text in `data/own/feedback.csv`, which an entry of
`ingest.sources` may read. Both files have the `COLUMNS`; `text` is empty for a row of the data, and a confirmed `label`
where the text is not to be used.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from assay.core.errors import InputError
from assay.human_review.append_only_csv import AlreadyDecidedError, append_line, csv_line, parse_lines

POSTED = Path("data/feedback.csv")
CONFIRMED = Path("data/own/feedback.csv")
COLUMNS = ("id", "text", "label", "reason", "reviewer", "date")
HEADER = ",".join(COLUMNS)
MAX_MIB = 64
SPLITS = ("train", "validation")
NEW = "new text"
"""In place of a split."""
Feedback = dict[str, str]
"""A line of either file, by column."""


def read_feedback(path: Path) -> list[Feedback]:
    """The lines of a file, none where there is no file; raises as `parse_lines`."""
    return _parsed(path.read_bytes(), path) if path.is_file() else []


def _parsed(content: bytes, path: Path) -> list[Feedback]:
    return parse_lines(content, path, COLUMNS, lambda _, values: dict(zip(COLUMNS, values, strict=True)))


def feedback_line(row_id: str, text: str, label: str, reason: str, reviewer: str) -> str:
    """A line of either file, of today; runs of white space become a space, since a line holds no line break."""
    return csv_line([row_id, text, label, " ".join(reason.split()), reviewer, date.today().isoformat()])


def add_posted(sent: Mapping[str, Any]) -> str:
    """Add what `make serve` was sent, and return the id under which it waits. Raises `InputError`: the file is full."""

    def refuse(content: bytes) -> None:
        if len(content) > MAX_MIB * 2**20:
            raise InputError(f"{POSTED} has {MAX_MIB} MiB; review it, and take away what is decided")

    text = " ".join((sent["text"] or "").split())
    row_id = sent["id"] or hashlib.sha256(text.encode()).hexdigest()[:16]
    line = feedback_line(row_id, text, sent["label"], sent["reason"], sent["reviewer"])
    append_line(POSTED, HEADER, row_id, line, refuse)
    return row_id


def add_first(queue: list[dict[str, Any]], posted: Sequence[Feedback]) -> tuple[list[dict[str, Any]], int]:
    """The rows of the queue, before them what was posted, and how many posted ids are of no row to be reviewed.

    Those are of test rows, which a model must not lead people to, or of no row at all.
    """
    by_id: dict[str, list[Feedback]] = {}
    for one in posted:
        by_id.setdefault(one["id"], []).append(one)
    texts = {one["id"]: one["text"] for one in posted if one["text"]}
    new: dict[str, Any] = {"split": NEW, "source": "feedback", "label": None, "neighbours": []}
    rows = {row_id: new | {"id": row_id, "text": text} for row_id, text in texts.items()}
    rows |= {row["id"]: row for row in [*_rows_of(list(by_id)), *queue]}
    shown = {}
    for row_id, lines in by_id.items():
        labels = {one["label"] for one in lines}
        said = [
            f'{one["reviewer"]} says "{one["label"]}"' + f" ({one['reason']})" * bool(one["reason"]) for one in lines
        ]
        if row := rows.get(row_id):
            # The page has a line for what stands between semicolons.
            said = [one.replace(";", ",") for one in said]
            reasons = "; ".join(said + ([more] if (more := row.get("reasons")) else []))
            suggested = labels.pop() if len(labels) == 1 else None
            shown[row_id] = row | {"rank": "feedback", "suggested_label": suggested, "reasons": reasons}
    return [*shown.values(), *(row for row in queue if row["id"] not in shown)], len(by_id) - len(shown)


def _rows_of(ids: list[str]) -> list[dict[str, Any]]:
    """The train and validation rows with these ids, as the queue has them."""
    found = list[dict[str, Any]]()
    for split in SPLITS:
        if (path := Path(f"data/split/{split}.parquet")).is_file():
            rows = pl.scan_parquet(path).filter(pl.col("id").is_in(ids)).select("id", "source", "text", "label")
            found += [row | {"split": split, "neighbours": []} for row in rows.collect().to_dicts()]
    return found


def refuse_twice(row_id: str, content: bytes) -> None:
    """Raise `AlreadyDecidedError` where somebody decided on a text before."""
    for one in _parsed(content, CONFIRMED):
        if one["id"] == row_id:
            raise AlreadyDecidedError(f"{CONFIRMED}: {one['reviewer']} decided {row_id} meanwhile")
