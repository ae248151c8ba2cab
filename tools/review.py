"""The page on which a person goes through the review queue: `make review`.

Shows `data/review/queue.csv` at 127.0.0.1, and adds what is decided to `data/corrections.csv`, one line a decision. It
never rewrites a line: only this session's own last one can be taken back, while it is the last of the file.

The page shows texts from anywhere, and other pages in the same browser can send requests to it. So it answers to no
other host name than its own (also not to a name that was made to lead here), refuses what another origin sends, takes
nothing but JSON, runs no script but its own file, and puts texts on the page as text.
"""

import argparse
import csv
import fcntl
import io
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
from flask import Flask, Response, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException
from werkzeug.serving import make_server

from stages.correct import CorrectParams
from stages.lib.corrections import HEADER, Correction, csv_line, parse_corrections, read_corrections
from stages.lib.errors import InputError, run_stage
from stages.lib.params import load_params

QUEUE = Path("data/review/queue.csv")
RECORDS = Path("data/corrected/records.parquet")
HOST = "127.0.0.1"
PORT = 8765
PAGE = {
    "/": ("review_page.html", "text/html"),
    "/review_page.css": ("review_page.css", "text/css"),
    "/review_page.js": ("review_page.js", "text/javascript"),
}
"""Address → file beside this one, and its type."""
COLUMNS = ("rank", "id", "split", "source", "text", "label", "suggested_label", "reasons", "neighbours")
"""Those of the queue that the page shows."""
DECIDING_FIELDS = ("label", "row")
"""A row with a line of one of these fields is decided."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
MAX_REQUEST_BYTES = 64 * 1024


class AlreadyDecidedError(InputError):
    """Somebody else decided the row meanwhile."""


@dataclass(frozen=True)
class Written:
    """A line that this session added: its row, its number in the file and its bytes."""

    id: str
    line: int
    content: bytes


@dataclass
class Session:
    """What the page works on, and the lines that it added, which `undo` takes back from the last on."""

    queue: list[dict[str, Any]]
    labels: list[str]
    reviewer: str
    corrections: Path
    written: list[Written] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def read_queue(path: Path) -> list[dict[str, Any]]:
    """The rows of the queue, best first, with `COLUMNS`; an empty cell is None, and `neighbours` a list.

    Raises:
        InputError: there is no queue, or it is none.
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
    """The labels that a row may be given, in alphabetical order.

    Raises:
        InputError: there are no records.
    """
    try:
        found = pl.scan_parquet(records).select(pl.col("label").drop_nulls().unique()).collect()["label"].to_list()
    except FileNotFoundError:
        raise InputError(f"{records}: no such file; make it with `dvc repro correct`") from None
    return sorted({*found, *new_labels})


def decided_by(corrections: list[Correction]) -> dict[str, Correction]:
    """The line that decided each row; the last where there are several."""
    return {one.id: one for one in corrections if one.field in DECIDING_FIELDS}


@contextmanager
def locked(path: Path) -> Iterator[io.FileIO]:
    """The file of corrections, made where there is none, for this process alone; writes go to its end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with io.FileIO(path, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        yield file


def append(path: Path, row_id: str, line: str) -> Written:
    """Add one line at the end of the file, or nothing where that fails.

    Raises:
        AlreadyDecidedError: the file has a decision on the row.
        InputError: the file cannot be read, so that it is not the time to add to it.
    """
    with locked(path) as file:
        before = file.readall()
        head = b"" if before.endswith(b"\n") else b"\n"
        if not before:
            head = f"{HEADER}\n".encode()
        there = decided_by(parse_corrections(before or head, path)).get(row_id)
        if there is not None:
            raise AlreadyDecidedError(f"{path}: line {there.line}: {there.reviewer} decided {row_id} meanwhile")
        content = line.encode()
        try:
            rest = head + content
            while rest:
                rest = rest[file.write(rest) or 0 :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(len(before))
            raise
        return Written(row_id, (before + head).count(b"\n") + 1, content)


def take_back(path: Path, written: Written) -> None:
    """Take the line off the end of the file.

    Raises:
        InputError: it is no longer the last.
    """
    with locked(path) as file:
        content = file.readall()
        if not content.endswith(b"\n" + written.content):
            raise InputError(
                f"{path}: the line on {written.id} is no longer the last, so it stays; change it with an editor"
            )
        file.truncate(len(content) - len(written.content))
        os.fsync(file.fileno())


def decision(row: dict[str, Any], action: str, label: str | None) -> tuple[str, str, str]:
    """Field, old and new value of a decision about a row of the queue.

    Raises:
        ValueError: it is none; the sentence for the user.
    """
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


def error(message: str, status: int, **more: Any) -> ResponseReturnValue:
    """An answer that says what went wrong."""
    return jsonify(error=message, **more), status


def refusal() -> ResponseReturnValue | None:
    """The answer to a request of another origin, None where it is our own."""
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site")
    is_write = request.method not in ("GET", "HEAD")
    if origin not in (None, f"http://{request.host}") or site not in (None, "same-origin", "none"):
        return error("request of another origin refused; open the address itself", 403)
    if is_write and origin is None and site is None:
        return error("a write without Origin refused", 403)
    if is_write and request.mimetype != "application/json":
        return error("writes must be application/json", 415)
    return None


def make_app(session: Session) -> Flask:
    """The page and the three addresses that it asks."""
    app = Flask(__name__, static_folder=None)
    app.config["TRUSTED_HOSTS"] = [HOST, "localhost"]
    app.config["MAX_CONTENT_LENGTH"] = MAX_REQUEST_BYTES
    by_id = {row["id"]: row for row in session.queue}
    app.before_request(refusal)

    @app.after_request
    def with_headers(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response

    @app.errorhandler(HTTPException)
    def in_words(problem: HTTPException) -> ResponseReturnValue:
        return error(problem.description or problem.name, problem.code or 500)

    @app.errorhandler(InputError)
    def not_now(problem: InputError) -> ResponseReturnValue:
        return error(str(problem), 409, decided=isinstance(problem, AlreadyDecidedError))

    @app.errorhandler(OSError)
    def not_written(problem: OSError) -> ResponseReturnValue:
        return error(f"{session.corrections}: nothing was written: {problem.strerror or problem}", 500)

    for address, (name, kind) in PAGE.items():
        content = Path(__file__).with_name(name).read_text(encoding="utf-8")
        app.add_url_rule(address, name, lambda content=content, kind=kind: Response(content, mimetype=kind))

    @app.get("/api/queue")
    def queue() -> ResponseReturnValue:
        decided = decided_by(read_corrections(session.corrections)) if session.corrections.is_file() else {}
        return jsonify(
            reviewer=session.reviewer,
            labels=session.labels,
            corrections=str(session.corrections),
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
        values = {
            "id": row["id"],
            "field": name,
            "old": old,
            "new": new,
            "reason": body.get("reason") or "",
            "reviewer": session.reviewer,
            "date": date.today().isoformat(),
        }
        with session.lock:
            written = append(session.corrections, row["id"], csv_line(values))
            session.written.append(written)
        return jsonify(id=row["id"], line=written.line, field=name, old=old, new=new)

    @app.post("/api/undo")
    def undo() -> ResponseReturnValue:
        with session.lock:
            if not session.written:
                return error("this session has decided nothing that could be undone", 409)
            take_back(session.corrections, session.written[-1])
            return jsonify(id=session.written.pop().id)

    return app


def git_user() -> str:
    """The name of the user, as git has it; empty where it has none."""
    done = subprocess.run(["git", "config", "user.name"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def listening(port: int) -> socket.socket:
    """A socket that listens on this machine alone.

    Raises:
        InputError: the port is taken.
    """
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((HOST, port))
    except OSError as problem:
        server.close()
        raise InputError(
            f"{HOST}:{port}: {problem.strerror}; is the page open already? Else take another: "
            f'make review ARGS="--port {port + 1}"'
        ) from None
    server.listen()
    return server


def main() -> None:
    """Serve the page until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="make review", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=PORT, help=f"default {PORT}; 0 takes a free one")
    parser.add_argument("--reviewer", help="who decides; default: git config user.name")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    arguments = parser.parse_args()
    reviewer = arguments.reviewer.strip() if arguments.reviewer else git_user()
    if not reviewer:
        raise InputError('who reviews? make review ARGS="--reviewer NAME", or `git config user.name NAME`')

    params = load_params("correct", CorrectParams)
    queue = read_queue(QUEUE)
    path = Path(params.path)
    decided = decided_by(read_corrections(path)) if path.is_file() else {}
    session = Session(queue, known_labels(RECORDS, params.new_labels), reviewer, path)
    app = make_app(session)

    # A line for each request would hide the address.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with listening(arguments.port) as taken:
        port = taken.getsockname()[1]
        server = make_server(HOST, port, app, threaded=True, fd=taken.fileno())
        address = f"http://{HOST}:{port}/"
        done = sum(row["id"] in decided for row in queue)
        print(
            f"review: {len(queue)} rows, {done} decided; you are {reviewer}\nreview: {address}  (Ctrl-C ends)",
            flush=True,
        )
        if arguments.open:
            webbrowser.open(address)
        # Ends on Ctrl-C by itself.
        server.serve_forever()
    count = len(session.written)
    print(
        f"\nreview: {count} decision(s) added to {path}"
        + (f"; next: `dvc repro`, then commit {path} with dvc.lock and metrics/" if count else ""),
        file=sys.stderr,
    )


if __name__ == "__main__":
    run_stage(main)
