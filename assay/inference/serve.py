"""A classifier over HTTP: `make serve MODEL=full`. docs/serving.md shows the requests, openapi.json describes them.

What clients may take of the server is bounded by the section `serve` of `params.yaml`. Texts of several requests go
through the model together, in one thread; each answer goes back to the request that asked. No text is in a log.
On 127.0.0.1 it answers to its own host name alone, since other pages in a browser can send requests there; on any other
address it wants a token.
"""

import asyncio
import hmac
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import polars as pl
import uvicorn
from pydantic import BaseModel, BeforeValidator, Field, StringConstraints, ValidationError, model_validator
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assay.core.errors import InputError
from assay.inference.serve_params import LOCAL, ServeParams

OPENAPI = Path(__file__).with_name("openapi.json")
COLUMNS = ("label", "probability", "is_sure", "reason")
WINDOWS = 10
"""So many at most, while texts of other requests come in each, and they are fewer than `LEAST_TEXTS`."""
LEAST_TEXTS = 32
"""From so many waiting texts on, a batch is run without waiting for more."""
DISCARDED_BODIES = 4
"""So many times the largest body is read and thrown away before 413: who still sends may never see an answer."""
Rows = list[dict[str, Any]]
T = TypeVar("T", bound=BaseModel)

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
    """Requests that wait for the model, each with its texts and the answer to come; first come, first served."""

    predict: Callable[[list[str], int], pl.DataFrame]
    params: ServeParams
    waiting: deque[tuple[list[str], asyncio.Future[Rows]]] = field(default_factory=deque)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def count_texts(self) -> int:
        """How many texts wait; those of requests that took too long do not."""
        return sum(len(texts) for texts, answer in self.waiting if not answer.done())

    async def ask(self, texts: list[str]) -> Rows:
        """A row for each text, with `COLUMNS`. Raises `HTTPException`: too many wait."""
        if (count := self.count_texts()) and count + len(texts) > self.params.max_waiting_texts:
            raise HTTPException(429, f"{count} texts wait for the model already; come again", {"Retry-After": "1"})
        answer: asyncio.Future[Rows] = asyncio.get_running_loop().create_future()
        self.waiting.append((texts, answer))
        self.arrived.set()
        return await answer

    async def run(self) -> None:
        """Answer for ever, the texts of several requests at a time."""
        with ThreadPoolExecutor(1) as worker:
            while await self.arrived.wait():
                for _ in range(WINDOWS):
                    if (before := self.count_texts()) >= LEAST_TEXTS:
                        break
                    await asyncio.sleep(self.params.window_milliseconds / 1000)
                    if self.count_texts() == before:
                        break
                # Half of them: while these run, those of clients that got an answer come again.
                most = min(self.params.batch_texts, max(LEAST_TEXTS, self.count_texts() // 2))
                batch = list[tuple[list[str], asyncio.Future[Rows]]]()
                while self.waiting and sum(len(texts) for texts, _ in batch) < most:
                    batch.append(self.waiting.popleft())
                if not self.waiting:
                    self.arrived.clear()
                requests = [texts for texts, _ in batch]
                found = await asyncio.get_running_loop().run_in_executor(worker, self.answer, requests)
                for (_, answer), rows in zip(batch, found, strict=True):
                    if answer.done():
                        continue
                    if isinstance(rows, Exception):
                        answer.set_exception(rows)
                    else:
                        answer.set_result(rows)

    def answer(self, requests: list[list[str]]) -> list[Rows | Exception]:
        """The rows of each request; one that fails takes no other with it."""
        texts = [text for one in requests for text in one]
        try:
            # Few texts, sorted by length, have less padding in smaller batches.
            rows = iter(self.predict(texts, max(4, len(texts) // 32)).select(COLUMNS).to_dicts())
            return [[next(rows) for _ in one] for one in requests]
        except Exception as problem:
            return [problem] if len(requests) == 1 else [one for texts in requests for one in self.answer([texts])]


async def read_json(request: Request, wanted: type[T], params: ServeParams) -> T:
    """What a request holds. Raises `HTTPException` and `ValidationError`: no JSON, too large, or not what is wanted."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "send JSON, with Content-Type: application/json")
    limit, size, body = params.max_body_kib * 1024, 0, bytearray()
    async for part in request.stream():
        size += len(part)
        body += part if size <= limit else b""
        if size > DISCARDED_BODIES * limit:
            break
    if size > limit:
        sentence = f"the body has more than {params.max_body_kib} KiB; send fewer texts at a time"
        raise HTTPException(413, sentence, {"Connection": "close"})
    return wanted.model_validate_json(bytes(body))


def check_texts(texts: list[str], params: ServeParams) -> None:
    """Raise `HTTPException` where there are too many texts, or one is too long."""
    if len(texts) > params.max_texts:
        raise HTTPException(413, f"{len(texts)} texts, and at most {params.max_texts} may come at a time")
    if (longest := max(map(len, texts), default=0)) > params.max_characters:
        raise HTTPException(413, f"a text of {longest} characters, and it may have {params.max_characters} at most")


async def in_words(_: Request | None, problem: Exception) -> Response:
    """What went wrong, in one sentence without what was sent, which may be personal."""
    if isinstance(problem, ValidationError):
        first = problem.errors(include_url=False, include_input=False, include_context=False)[0]
        said = first["msg"].removeprefix("Value error, ")
        return JSONResponse({"error": ": ".join([*map(str, first["loc"]), said])}, 422)
    if isinstance(problem, HTTPException):
        return JSONResponse({"error": problem.detail}, problem.status_code, problem.headers)
    if isinstance(problem, TimeoutError | ClientDisconnect):
        sentence = "the request took too long: send it faster, or fewer texts"
        return JSONResponse({"error": sentence}, 503, {"Retry-After": "1", "Connection": "close"})
    return JSONResponse({"error": "the server failed; its log names the kind of error"}, 500)


def make_app(
    predict: Callable[[list[str], int], pl.DataFrame],
    labels: list[str],
    model: dict[str, str],
    params: ServeParams,
    note: Callable[[dict[str, Any]], str],
    host: str,
    token: str | None,
) -> ASGIApp:
    """The application; it logs a line for each request on standard error.

    `predict` takes texts and how many to run at a time; `model` says which it is (`/health`). `note` writes a
    correction down, and returns the id by which it waits for a person; it may raise `InputError` and `OSError`.
    """
    batches = Batches(predict, params)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        running = asyncio.create_task(batches.run())
        yield
        running.cancel()

    async def answer_question(request: Request) -> Response:
        async with asyncio.timeout(params.request_seconds):
            texts = (await read_json(request, Question, params)).texts
            request.scope["texts"] = len(texts)
            check_texts(texts, params)
            return JSONResponse({"predictions": await batches.ask(texts)} | model)

    async def note_correction(request: Request) -> Response:
        async with asyncio.timeout(params.request_seconds):
            posted = await read_json(request, Correction, params)
        check_texts([posted.text or ""], params)
        if posted.label not in labels:
            raise HTTPException(422, f"label: it is none of {', '.join(labels)}")
        try:
            row_id = await asyncio.to_thread(note, posted.model_dump())
        except (InputError, OSError) as problem:
            raise HTTPException(507, f"nothing was written: {getattr(problem, 'strerror', problem)}") from None
        return JSONResponse({"id": row_id, "status": "to confirm"}, 202)

    async def show_health(_: Request) -> Response:
        return JSONResponse({"is_ready": True, "labels": labels, "waiting_texts": batches.count_texts()} | model)

    routes = [
        Route("/predict", answer_question, methods=["POST"]),
        Route("/corrections", note_correction, methods=["POST"]),
        Route("/health", show_health),
        Route("/openapi.json", lambda _: FileResponse(OPENAPI)),
    ]
    hosts = Middleware(TrustedHostMiddleware, LOCAL if host in LOCAL else ["*"], www_redirect=False)
    handlers = dict.fromkeys((HTTPException, ValidationError, TimeoutError, ClientDisconnect, Exception), in_words)
    app = Starlette(routes=routes, middleware=[hosts], exception_handlers=handlers, lifespan=lifespan)

    # No BaseHTTPMiddleware, which takes longer than all else that is done for a request.
    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        started, status, kind = time.perf_counter(), 0, ""

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        given = Headers(scope=scope).get("authorization", "")
        try:
            if token is None or hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
                await app(scope, receive, noted)
            else:
                refused = HTTPException(401, "send the token: Authorization: Bearer …", {"WWW-Authenticate": "Bearer"})
                await (await in_words(None, refused))(scope, receive, noted)
        except Exception as problem:
            # Answered before it came here. Its message may hold a text.
            kind = f" {type(problem).__name__}"
        path = scope["path"] if scope["path"] in [route.path for route in routes] else "elsewhere"
        milliseconds = (time.perf_counter() - started) * 1000
        said = f"{status} {path} {scope.get('texts', 0)} rows {milliseconds:.0f} ms{kind}"
        print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {said}", file=sys.stderr)

    return watched


def serve(app: ASGIApp, listening: socket.socket, params: ServeParams) -> None:
    """Serve until SIGTERM or Ctrl-C, and finish then what is running."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=params.max_connections,
        timeout_graceful_shutdown=int(params.request_seconds) + 1,
    )
    # uvicorn raises the signal again once it is done, which would end this as if it had failed.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listening])
