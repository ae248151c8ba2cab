"""The page on which a person goes through the review queue: `make review`.

Shows `data/review/queue.csv` at 127.0.0.1, and before it what came in by `make serve` (`tools/review/feedback.py`), and
adds what is decided to `data/corrections.csv`, one line a decision. It never rewrites a line: only this session's own
last one can be taken back, while it is the last of the file. With `--pairs` it is the page of
`tools/review/pairs_page.py` in its place.
"""

import json
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
from flask import Flask, abort

from assay.core.errors import InputError, run_stage
from assay.core.params import load_params
from assay.human_review.append_only_csv import AlreadyDecidedError
from assay.human_review.apply_corrections import CorrectParams
from assay.human_review.corrections import HEADER, Correction, correction_line, read_corrections
from tools.changes.revisions import git
from tools.command_line import command_line
from tools.review import feedback
from tools.review.pairs_page import review_pairs
from tools.review.server import PORT, Added, Content, review_app, serve

QUEUE = Path("data/review/queue.csv")
RECORDS = Path("data/corrected/records.parquet")
COLUMNS = ("rank", "id", "split", "source", "text", "label", "suggested_label", "reasons", "neighbours", "field")
"""Those of the queue that the page shows."""


def read_queue(path: Path) -> list[dict[str, Any]]:
    """The rows of the queue, best first, with `COLUMNS`; an empty cell is None, and `neighbours` a list.

    Raises `InputError`: there is no queue, or it is none.
    """
    try:
        table = pl.read_csv(path, infer_schema=False, raise_if_empty=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; make the queue with `dvc repro review_queue`") from None
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise InputError(f"{path}: no column {', '.join(missing)}; make it anew with `dvc repro review_queue`")
    table = table.select(pl.col(COLUMNS).replace("", None)).with_columns(pl.col("text").fill_null(""))
    return [row | {"neighbours": json.loads(row["neighbours"] or "[]")} for row in table.to_dicts()]


def known_labels(records: Path, new_labels: list[str]) -> list[str]:
    """The labels that a row may be given, in alphabetical order. Raises `InputError`: there are no records."""
    try:
        found = pl.scan_parquet(records).select(pl.col("label").drop_nulls().unique()).collect()["label"].to_list()
    except FileNotFoundError:
        raise InputError(f"{records}: no such file; make it with `dvc repro correct`") from None
    return sorted({*found, *new_labels})


def decided_by(corrections: list[Correction], queue: list[dict[str, Any]]) -> dict[str, Correction]:
    """The line that decided each row of the queue, about its label or all of it; the last where there are several.

    The label of a row is that of its `field`: of a test row, the one that scores it.
    """
    fields = {row["id"]: (row["field"], "row") for row in queue}
    return {one.id: one for one in corrections if one.field in fields.get(one.id, ())}


def decision(row: dict[str, Any], action: str, label: str | None) -> tuple[str, str, str]:
    """Field, old and new value of a decision about a row of the queue; what is none is refused."""
    given = row["label"] or ""
    if action == "remove":
        return "row", "keep", "remove"
    if action not in ("accept", "relabel"):
        abort(400, f"unknown action {action!r}")
    new = given if action == "accept" else label
    if not new:
        is_none = "the row has no label to accept; choose one, or remove the row"
        abort(400, is_none if action == "accept" else "no label was chosen")
    return row["field"], given, new


def make_app(queue: list[dict[str, Any]], labels: list[str], reviewer: str, added: Added) -> Flask:
    """The page of a queue and the labels that its rows may be given, and what it asks."""
    file, by_id = added.file, {row["id"]: row for row in queue}

    def show() -> Content:
        decided = decided_by(read_corrections(file), queue) if file.is_file() else {}
        rows = [row | {"decided": row["id"] in decided} for row in queue]
        return {"reviewer": reviewer, "labels": labels, "file": str(file), "rows": rows}

    def decide(body: Content) -> Content:
        row_id, label = body.get("id", ""), body.get("label")
        if row_id not in by_id:
            abort(400, f"the queue has no row {row_id!r}")
        row = by_id[row_id]
        if row["split"] == feedback.NEW:
            abort(400, "this text is in no data: docs/serving.md says how it comes in")
        if label and label not in labels and label != row["label"]:
            abort(400, f"there is no label {label!r}; add it to `correct.new_labels` of params.yaml, and start anew")
        name, old, new = decision(row, body.get("action") or "", label)
        what = {"id": row_id, "field": name, "old": old, "new": new}
        who = {"reason": body.get("reason") or "", "reviewer": reviewer, "date": date.today().isoformat()}

        def refuse(content: bytes) -> None:
            there = decided_by(read_corrections(file, content), [row]).get(row_id)
            if there is not None:
                raise AlreadyDecidedError(f"{file}: line {there.line}: {there.reviewer} decided {row_id} meanwhile")

        return what | {"line": added.add(HEADER, row_id, correction_line(what | who), refuse)}

    return review_app("queue_page", added, show, decide)


def main() -> None:
    """Serve the page until Ctrl-C."""
    parser = command_line("make review", __doc__)
    parser.add_argument("--port", type=int, default=PORT, help=f"default {PORT}; 0 takes a free one")
    parser.add_argument("--reviewer", help="who decides; default: git config user.name")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument("--pairs", nargs="+", metavar="MODEL", help="judge the answers of these models, not the queue")
    arguments = parser.parse_args()
    reviewer = (arguments.reviewer or git("config", "user.name") or "").strip()
    if not reviewer:
        raise InputError('who reviews? make review ARGS="--reviewer NAME", or `git config user.name NAME`')
    app, added, summary = review_pairs(arguments.pairs, reviewer) if arguments.pairs else review_queue(reviewer)
    serve(app, arguments.port, f"{summary}; you are {reviewer}", added, is_opened=arguments.open)


def review_queue(reviewer: str) -> tuple[Flask, Added, str]:
    """The page of the queue, what it adds to, and how far the queue is."""
    params = load_params("correct", CorrectParams)
    posted = feedback.read_posted()
    # Without the stage `review_queue`, what was posted is all there is.
    queue, others = feedback.add_first([] if posted and not QUEUE.is_file() else read_queue(QUEUE), posted)
    added = Added(Path(params.path), "decision")
    decided = decided_by(read_corrections(added.file), queue) if added.file.is_file() else {}
    app = make_app(queue, known_labels(RECORDS, params.new_labels), reviewer, added)
    summary = f"{len(queue)} rows, {sum(row['id'] in decided for row in queue)} decided"
    if others:
        summary += f"; {others} ids of {feedback.POSTED} are of test rows, or of none, and not shown"
    return app, added, summary


if __name__ == "__main__":
    run_stage(main)
