"""A page on this machine, for the person at it alone: what all pages of `make review` have in common.

The page shows texts from anywhere, and other pages in the same browser can send requests to it. So it answers to no
other host name than its own (also not to a name that was made to lead here), refuses what another origin sends, takes
nothing but JSON, runs no script but its own files, and puts texts on the page as text.
"""

import logging
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from flask import Flask, Response, abort, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException
from werkzeug.serving import make_server

from assay.core.errors import InputError
from assay.human_review.append_only_csv import AlreadyDecidedError, Written, append_line, take_back_line

HOST = "127.0.0.1"
PORT = 8765
HEADERS: dict[str, str] = yaml.safe_load(Path(__file__).with_name("headers.yaml").read_text(encoding="utf-8"))
MAX_REQUEST_BYTES = 64 * 1024
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
Content = dict[str, Any]
"""A JSON object, as the page gets or sends it."""


@dataclass
class Added:
    """The lines that this session added to a file, which `undo` takes back from the last on.

    `noun` is what a line is, such as `decision`.
    """

    file: Path
    noun: str
    written: list[Written] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, header: str, row_id: str, line: str, check: Callable[[bytes], None]) -> int:
        """Add one line, and return its number; arguments as of `append_line`."""
        with self.lock:
            self.written.append(append_line(self.file, header, row_id, line, check))
            return self.written[-1].line


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


def review_app(page: str, added: Added, show: Callable[[], Content], decide: Callable[[Content], Content]) -> Flask:
    """An application that serves a page, `<page>.html`, refuses what it must, and answers what the page asks.

    `show` gives what `/api/rows` says, `decide` adds a line for what is sent to `/api/decide`, and says which.
    """
    app = Flask(__name__, static_folder=None)
    app.config["TRUSTED_HOSTS"] = [HOST, "localhost"]
    app.config["MAX_CONTENT_LENGTH"] = MAX_REQUEST_BYTES
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
        return error(f"{added.file}: nothing was written: {problem.strerror or problem}", 500)

    @app.get("/api/rows")
    def rows() -> ResponseReturnValue:
        return jsonify(show())

    @app.post("/api/decide")
    def decided() -> ResponseReturnValue:
        body = request.get_json()
        if not isinstance(body, dict) or not all(isinstance(value, str | None) for value in body.values()):
            abort(400, "an object of texts is wanted")
        return jsonify(decide(body))

    @app.post("/api/undo")
    def undo() -> ResponseReturnValue:
        with added.lock:
            if not added.written:
                abort(409, f"this session added no {added.noun} that could be undone")
            take_back_line(added.file, added.written[-1])
            return jsonify(id=added.written.pop().id)

    for name in (f"{page}.html", f"{page}.js", "common.js", "page.css"):
        file = Path(__file__).with_name(name)
        show_file = partial(Response, file.read_text(encoding="utf-8"), mimetype=TYPES[file.suffix])
        app.add_url_rule("/" if file.suffix == ".html" else f"/{name}", name, show_file)
    return app


def listening(port: int, host: str = HOST, command: str = "make review") -> socket.socket:
    """A socket that listens at an address; port 0 takes a free one. Raises `InputError`: it cannot be had."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as problem:
        raise InputError(
            f"{host}:{port}: {getattr(problem, 'strerror', problem)}; is it open already? Else take another: "
            f'{command} ARGS="--port {port + 1}"'
        ) from None


def serve(app: Flask, port: int, summary: str, added: Added, *, is_opened: bool) -> None:
    """Serve a page until Ctrl-C, and say what to do with the lines that were added.

    Port 0 takes a free one. Raises `InputError`: the port is taken.
    """
    # A line for each request would hide the address.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with listening(port) as taken:
        port = taken.getsockname()[1]
        server = make_server(HOST, port, app, threaded=True, fd=taken.fileno())
        address = f"http://{HOST}:{port}/"
        print(f"review: {summary}\nreview: {address}  (Ctrl-C ends)", flush=True)
        if is_opened:
            webbrowser.open(address)
        # Ends on Ctrl-C by itself.
        server.serve_forever()
    count = len(added.written)
    following = f"; next: `dvc repro`, then commit {added.file} with dvc.lock and metrics/" if count else ""
    print(f"\nreview: {count} {added.noun}(s) added to {added.file}{following}", file=sys.stderr)
