"""The page on which a person goes through the review queue: `make review`.

Shows `data/review/queue.csv` at 127.0.0.1, and adds what is decided to `data/corrections.csv`, one line a decision. It
never rewrites a line: only this session's own last one can be taken back, while it is the last of the file. With
`--pairs` it is the page of `tools/review/pairs_page.py` in its place.
"""

import argparse
import csv
import io
import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue

from assay.core.errors import InputError, run_stage
from assay.core.params import load_params
from assay.human_review.append_only_csv import AlreadyDecidedError, Written, append_line
from assay.human_review.apply_corrections import CorrectParams
from assay.human_review.corrections import HEADER, Correction, correction_line, parse_corrections, read_corrections
from tools.review.pairs_page import review_pairs
from tools.review.server import PORT, Added, Page, add_undo, error, git_user, guarded_app, serve

QUEUE = Path("data/review/queue.csv")
RECORDS = Path("data/corrected/records.parquet")
PAGE: Page = {
    "/": ("queue_page.html", "text/html"),
    "/review_page.css": ("page.css", "text/css"),
    "/review_common.js": ("common.js", "text/javascript"),
    "/review_page.js": ("queue_page.js", "text/javascript"),
}
COLUMNS = ("rank", "id", "split", "source", "text", "label", "suggested_label", "reasons", "neighbours")
"""Those of the queue that the page shows."""
DECIDING_FIELDS = ("label", "row")
"""A row with a line of one of these fields is decided."""


@dataclass(frozen=True)
class Session:
    """What the page works on."""

    queue: list[dict[str, Any]]
    labels: list[str]
    reviewer: str
    added: Added


def read_queue(path: Path) -> list[dict[str, Any]]:
    """The rows of the queue, best first, with `COLUMNS`; an empty cell is None, and `neighbours` a list.

    Raises `InputError`: there is no queue, or it is none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; make the queue with `dvc repro review_queue`") from None
    # The longest text that `clean` lets through, and its neighbours, in one cell.
    csv.field_size_limit(2**30)
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
    if missing:
        raise InputError(f"{path}: no column {', '.join(missing)}; make it anew with `dvc repro review_queue`")
    rows = []
    for row in reader:
        shown: dict[str, Any] = {name: row[name] or None for name in COLUMNS}
        shown["text"] = row["text"]
        shown["neighbours"] = json.loads(row["neighbours"] or "[]")
        rows.append(shown)
    return rows


def known_labels(records: Path, new_labels: list[str]) -> list[str]:
    """The labels that a row may be given, in alphabetical order. Raises `InputError`: there are no records."""
    try:
        found = pl.scan_parquet(records).select(pl.col("label").drop_nulls().unique()).collect()["label"].to_list()
    except FileNotFoundError:
        raise InputError(f"{records}: no such file; make it with `dvc repro correct`") from None
    return sorted({*found, *new_labels})


def decided_by(corrections: list[Correction]) -> dict[str, Correction]:
    """The line that decided each row; the last where there are several."""
    return {one.id: one for one in corrections if one.field in DECIDING_FIELDS}


def append(path: Path, row_id: str, line: str) -> Written:
    """Add one line. Raises `AlreadyDecidedError`: there is a decision on the row; `InputError`: as `append_line`."""

    def refuse(content: bytes) -> None:
        there = decided_by(parse_corrections(content, path)).get(row_id)
        if there is not None:
            raise AlreadyDecidedError(f"{path}: line {there.line}: {there.reviewer} decided {row_id} meanwhile")

    return append_line(path, HEADER, row_id, line, refuse)


def decision(row: dict[str, Any], action: str, label: str | None) -> tuple[str, str, str]:
    """Field, old and new value of a decision about a row of the queue. Raises `ValueError`: a sentence for the user."""
    given = row["label"] or ""
    if action == "remove":
        return "row", "keep", "remove"
    if action == "accept" and not given:
        raise ValueError("the row has no label to accept; choose one, or remove the row")
    if action == "relabel" and not label:
        raise ValueError("no label was chosen")
    if action == "accept":
        return "label", given, given
    if action == "relabel":
        return "label", given, label or ""
    raise ValueError(f"unknown action {action!r}")


def make_app(session: Session) -> Flask:
    """The page and the three addresses that it asks."""
    app = guarded_app(PAGE, session.added.file)
    by_id = {row["id"]: row for row in session.queue}

    @app.get("/api/queue")
    def queue() -> ResponseReturnValue:
        decided = decided_by(read_corrections(session.added.file)) if session.added.file.is_file() else {}
        return jsonify(
            reviewer=session.reviewer,
            labels=session.labels,
            corrections=str(session.added.file),
            rows=[row | {"decided": row["id"] in decided} for row in session.queue],
        )

    @app.post("/api/decide")
    def decide() -> ResponseReturnValue:
        body = request.get_json()
        if not isinstance(body, dict) or not all(isinstance(value, str | None) for value in body.values()):
            return error("an object of texts is wanted", 400)
        row = by_id.get(body.get("id"))
        if row is None:
            return error(f"the queue has no row {body.get('id')!r}", 400)
        label = body.get("label")
        if label and label not in session.labels and label != row["label"]:
            return error(
                f"there is no label {label!r}; add it to `correct.new_labels` of params.yaml, and start anew", 400
            )
        try:
            name, old, new = decision(row, body.get("action") or "", label)
        except ValueError as problem:
            return error(str(problem), 400)
        what = {"id": row["id"], "field": name, "old": old, "new": new, "reason": body.get("reason") or ""}
        line = correction_line(what | {"reviewer": session.reviewer, "date": date.today().isoformat()})
        written = session.added.add(lambda: append(session.added.file, row["id"], line))
        return jsonify(id=row["id"], line=written.line, field=name, old=old, new=new)

    add_undo(app, session.added, "id", "decided")
    return app


def main() -> None:
    """Serve the page until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="make review", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=PORT, help=f"default {PORT}; 0 takes a free one")
    parser.add_argument("--reviewer", help="who decides; default: git config user.name")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument("--pairs", nargs="+", metavar="MODEL", help="judge the answers of these models, not the queue")
    arguments = parser.parse_args()
    reviewer = arguments.reviewer.strip() if arguments.reviewer else git_user()
    if not reviewer:
        raise InputError('who reviews? make review ARGS="--reviewer NAME", or `git config user.name NAME`')
    if arguments.pairs is None:
        review_queue(reviewer, arguments.port, is_opened=arguments.open)
    else:
        review_pairs(arguments.pairs, reviewer, arguments.port, is_opened=arguments.open)


def review_queue(reviewer: str, port: int, *, is_opened: bool) -> None:
    """Serve the page of the queue."""
    params = load_params("correct", CorrectParams)
    queue = read_queue(QUEUE)
    path = Path(params.path)
    decided = decided_by(read_corrections(path)) if path.is_file() else {}
    session = Session(queue, known_labels(RECORDS, params.new_labels), reviewer, Added(path))
    done = sum(row["id"] in decided for row in queue)
    summary = f"{len(queue)} rows, {done} decided; you are {reviewer}"
    serve(make_app(session), port, summary, session.added, "decision", is_opened=is_opened)


if __name__ == "__main__":
    run_stage(main)
