"""A classifier over HTTP: `make serve MODEL=full`. docs/serving.md shows the requests, openapi.json describes them.

What clients may take of the server is bounded by the section `serve` of `params.yaml`. Texts of several requests go
through the model together, in one thread; each answer goes back to the request that asked. No text is in a log.

Other pages in a browser can send requests to 127.0.0.1, also under a name that was made to lead here: so it answers to
its own host name alone, and not to other origins. On any other address it wants a token.
"""

import asyncio
import hmac
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, cast

import polars as pl
import uvicorn
from pydantic import BaseModel, BeforeValidator, Field, StringConstraints, ValidationError, model_validator
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from assay.core.errors import InputError
from assay.inference.serve_params import LOCAL, ServeParams

OPENAPI = Path(__file__).with_name("openapi.json")
COLUMNS = ("label", "probability", "is_sure", "reason")
KEEP_ALIVE_SECONDS = 5
WINDOWS = 10
"""So many at most, while texts of other requests come in each: 64 clients with a text each are then one batch."""
DISCARDED_BODIES = 4
"""So many times the largest body is read and thrown away before 413: who still sends may never see an answer."""
CLIENT_LEFT = 499
"""In the log, as nginx has it."""
Rows = list[dict[str, Any]]

Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")
]
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]


class Question(BaseModel, extra="forbid", strict=True):
    """What `/predict` is asked: one text or a list."""

    texts: Annotated[
        list[str], Field(min_length=1), BeforeValidator(lambda given: [given] if isinstance(given, str) else given)
    ]


class Correction(BaseModel, extra="forbid", strict=True):
    """The label that a person gives to a row of the data, by its id, or to another text."""

    id: Name | None = None
    text: Text | None = None
    label: Name
    reviewer: Name
    reason: Text = Field("", max_length=2000)

    @model_validator(mode="after")
    def _is_of_one(self) -> "Correction":
        if (self.id is None) == (self.text is None):
            raise ValueError("give the id of a row, or a text")
        return self


@dataclass
class Batches:
    """Texts that wait for the model, by the answer that will be theirs, first come, first served."""

    predict: Callable[[list[str], int], pl.DataFrame]
    params: ServeParams
    waiting: dict[asyncio.Future[Rows], list[str]] = field(default_factory=dict)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, texts: list[str]) -> Rows:
        """A row for each text, with `COLUMNS`. Raises `HTTPException`: too many wait."""
        count = sum(map(len, self.waiting.values()))
        if count and count + len(texts) > self.params.max_waiting_texts:
            raise HTTPException(429, f"{count} texts wait for the model already; come again", {"Retry-After": "1"})
        answer: asyncio.Future[Rows] = asyncio.get_running_loop().create_future()
        self.waiting[answer] = texts
        self.arrived.set()
        try:
            return await answer
        finally:
            # A client that leaves frees its place.
            self.waiting.pop(answer, None)

    async def run(self) -> None:
        """Answer for ever, the texts of several requests at a time."""
        with ThreadPoolExecutor(1) as worker:
            while await self.arrived.wait():
                await self._gather()
                batch = dict[asyncio.Future[Rows], list[str]]()
                while self.waiting and sum(map(len, batch.values())) < self.params.batch_texts:
                    first = next(iter(self.waiting))
                    batch[first] = self.waiting.pop(first)
                if not self.waiting:
                    self.arrived.clear()
                texts = list(batch.values())
                answers = await asyncio.get_running_loop().run_in_executor(worker, self._answers, texts)
                for answer, rows in zip(batch, answers, strict=True):
                    if answer.done():
                        continue
                    if isinstance(rows, Exception):
                        answer.set_exception(rows)
                    else:
                        answer.set_result(rows)

    async def _gather(self) -> None:
        """Wait until the texts are a batch, or none came within the window, `WINDOWS` of them at most."""
        for _ in range(WINDOWS):
            before = len(self.waiting)
            await asyncio.sleep(self.params.window_milliseconds / 1000)
            if len(self.waiting) <= before or sum(map(len, self.waiting.values())) >= self.params.batch_texts:
                break

    def _answers(self, requests: list[list[str]]) -> list[Rows | Exception]:
        """The rows of each request; one that fails takes no other with it."""
        if not requests:
            return []
        try:
            texts = [text for one in requests for text in one]
            # Few texts, sorted by length, have less padding in smaller batches.
            found = self.predict(texts, max(8, min(32, len(texts) // 8))).select(COLUMNS).to_dicts()
            rows = iter(found)
            if len(found) != len(texts):
                raise RuntimeError(f"{len(found)} predictions of {len(texts)} texts")
            return [[next(rows) for _ in one] for one in requests]
        except Exception as problem:
            half = len(requests) // 2
            return [*self._answers(requests[:half]), *self._answers(requests[half:])] if half else [problem]


async def read_body(request: Request, params: ServeParams) -> bytes:
    """The body of a request. Raises `HTTPException` and `TimeoutError`: no JSON, too large, or too slow."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "send JSON, with Content-Type: application/json")
    limit, size, body = params.max_body_kib * 1024, 0, bytearray()
    async with asyncio.timeout(params.read_seconds):
        async for part in request.stream():
            size += len(part)
            body += part if size <= limit else b""
            if size > DISCARDED_BODIES * limit:
                break
    if size > limit:
        sentence = f"the body has more than {params.max_body_kib} KiB; send fewer texts at a time"
        raise HTTPException(413, sentence, {"Connection": "close"})
    return bytes(body)


async def cancel_when_gone(request: Request, task: asyncio.Task[Any]) -> None:
    """Cancel what is done for a client once it leaves."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    task.cancel()


def check_texts(texts: list[str], params: ServeParams) -> None:
    """Raise `HTTPException` where there are too many texts, or one is too long."""
    if len(texts) > params.max_texts:
        raise HTTPException(413, f"{len(texts)} texts, and at most {params.max_texts} may come at a time")
    longest = max(map(len, texts), default=0)
    if longest > params.max_characters:
        raise HTTPException(413, f"a text of {longest} characters, and it may have {params.max_characters} at most")


async def in_words(_: Request | None, problem: Exception) -> Response:
    """What went wrong, in one sentence without what was sent, which may be personal."""
    if isinstance(problem, HTTPException):
        return JSONResponse({"error": problem.detail}, problem.status_code, problem.headers)
    if isinstance(problem, ValidationError):
        first = problem.errors(include_url=False, include_input=False, include_context=False)[0]
        said = first["msg"].removeprefix("Value error, ")
        return JSONResponse({"error": ": ".join([*map(str, first["loc"]), said])}, 422)
    if isinstance(problem, TimeoutError):
        return JSONResponse({"error": "the body came too slowly"}, 408, {"Connection": "close"})
    if isinstance(problem, ClientDisconnect):
        return Response(status_code=CLIENT_LEFT)
    return JSONResponse({"error": "the server failed; its log names the kind of error"}, 500)


def make_app(
    predict: Callable[[list[str], int], pl.DataFrame],
    labels: list[str],
    model: dict[str, str],
    params: ServeParams,
    note: Callable[[Correction], str],
) -> Starlette:
    """The application, without its guard.

    `predict` takes texts and how many to run at a time; `model` says which it is (`/health`). `note` writes a
    correction down, and returns the id by which it waits for a person; it may raise `InputError` and `OSError`.
    """
    batches = Batches(predict, params)
    running: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        running.append(asyncio.create_task(batches.run()))
        yield
        running[0].cancel()

    async def answer_question(request: Request) -> Response:
        texts = Question.model_validate_json(await read_body(request, params)).texts
        request.scope["texts"] = len(texts)
        check_texts(texts, params)
        leaving = asyncio.create_task(cancel_when_gone(request, cast(asyncio.Task[Any], asyncio.current_task())))
        try:
            async with asyncio.timeout(params.answer_seconds):
                rows = await batches.ask(texts)
        except TimeoutError:
            raise HTTPException(503, "the model took too long; send fewer texts", {"Retry-After": "1"}) from None
        finally:
            leaving.cancel()
        return JSONResponse({"predictions": rows} | model)

    async def note_correction(request: Request) -> Response:
        posted = Correction.model_validate_json(await read_body(request, params))
        check_texts([posted.text or ""], params)
        if posted.label not in labels:
            raise HTTPException(422, f"label: it is none of {', '.join(labels)}")
        try:
            row_id = await asyncio.to_thread(note, posted)
        except (InputError, OSError) as problem:
            raise HTTPException(507, f"nothing was written: {getattr(problem, 'strerror', problem)}") from None
        return JSONResponse({"id": row_id, "status": "to confirm"}, 202)

    async def show_health(_: Request) -> Response:
        is_ready = not running[0].done()
        state = {"is_ready": is_ready, "labels": labels, "waiting_texts": sum(map(len, batches.waiting.values()))}
        return JSONResponse(state | model, 200 if is_ready else 503)

    async def describe(_: Request) -> Response:
        return Response(OPENAPI.read_bytes(), media_type="application/json")

    routes = [
        Route("/predict", answer_question, methods=["POST"]),
        Route("/corrections", note_correction, methods=["POST"]),
        Route("/health", show_health),
        Route("/openapi.json", describe),
    ]
    handlers = dict.fromkeys((HTTPException, ValidationError, TimeoutError, ClientDisconnect, Exception), in_words)
    return Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)


def find_refusal(headers: Headers, host: str, token: str | None) -> HTTPException | None:
    """Why a request is not served, whatever it asks; None: it is."""
    named = headers.get("host", "")
    if host in LOCAL and not re.fullmatch(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", named):
        return HTTPException(421, "this server answers to its own host name alone")
    is_own = headers.get("origin", f"http://{named}") in (f"http://{named}", f"https://{named}")
    if not is_own or headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return HTTPException(403, "a request of another origin is refused")
    given = headers.get("authorization", "").encode()
    if token is not None and not hmac.compare_digest(given, f"Bearer {token}".encode()):
        return HTTPException(401, "send the token: Authorization: Bearer …", {"WWW-Authenticate": "Bearer"})
    return None


def guard(app: Starlette, params: ServeParams, host: str, token: str | None) -> ASGIApp:
    """The application behind the checks of who asks and how many do; logs a line for each request on standard error."""
    paths = [route.path for route in app.routes if isinstance(route, Route)]
    serving = 0

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal serving
        if scope["type"] != "http":
            return await app(scope, receive, send)
        started, status, kind = time.perf_counter(), CLIENT_LEFT, ""

        async def watched(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        refused = find_refusal(Headers(scope=scope), host, token)
        if refused is None and serving >= params.max_requests:
            refused = HTTPException(503, f"{serving} requests are served already; come again", {"Retry-After": "1"})
        serving += 1
        try:
            await (app if refused is None else await in_words(None, refused))(scope, receive, watched)
        except asyncio.CancelledError:
            status = CLIENT_LEFT
        except Exception as problem:
            # Answered before it came here. Its message may hold a text, so the log has none.
            kind = f" {type(problem).__name__}"
        finally:
            serving -= 1
            path = scope["path"] if scope["path"] in paths else "elsewhere"
            milliseconds = (time.perf_counter() - started) * 1000
            said = f"{status} {path} {scope.get('texts', 0)} rows {milliseconds:.0f} ms{kind}"
            print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {said}", file=sys.stderr)
        return None

    return answer


def limited_protocol(params: ServeParams) -> type[H11Protocol]:
    """uvicorn's HTTP/1.1, with an end for every request: it has none for headers that come slowly, nor for a client
    that does not read its answer."""
    seconds = 2 * (params.read_seconds + KEEP_ALIVE_SECONDS) + params.answer_seconds

    class LimitedProtocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.end = self.loop.call_later(seconds, transport.abort)

        def on_response_complete(self) -> None:
            self.end.cancel()
            self.end = self.loop.call_later(seconds, self.transport.abort)
            super().on_response_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self.end.cancel()
            super().connection_lost(exc)

    return LimitedProtocol


def serve(app: ASGIApp, listening: socket.socket, params: ServeParams) -> None:
    """Serve until SIGTERM or Ctrl-C, and finish then what is running."""
    config = uvicorn.Config(
        app,
        http=limited_protocol(params),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=params.max_connections,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(params.read_seconds + params.answer_seconds) + 1,
    )
    # uvicorn raises the signal again once it is done, which would end this as if it had failed.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listening])
