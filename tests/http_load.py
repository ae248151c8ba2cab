"""A server whose model is a function of the text, so that an answer shows its question, and clients that load it.

`python -m tests.http_load PORT LIMITS [TOKEN]` serves; `LIMITS` is JSON, over `serve` of tests/template_params.yaml.
With a token it answers as on another address.
"""

import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from assay.inference import serve
from assay.inference.serve_params import ServeParams
from tests.template_params import read_template_params
from tools.review.feedback import add_posted
from tools.review.server import HOST, listening

REPOSITORY = Path(__file__).resolve().parents[1]
MODEL, TOKEN = {"model": "fake", "model_md5": "0"}, "0123456789abcdef"
Answer = tuple[int, dict[str, Any]]
"""Status and JSON."""
Served = tuple[int, "subprocess.Popen[str]"]
JSON = "Content-Type: application/json\r\n"


def label(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:8]


def predict(texts: Sequence[str], _: int) -> pl.DataFrame:
    """A fifth of a millisecond a text, a second for `slow`, three for `never`, an error for `broken`."""
    time.sleep(0.0002 * len(texts) + ("slow" in texts) + 3 * ("never" in texts))
    if "broken" in texts:
        raise ValueError("broken")
    rows = {"label": list(map(label, texts)), "probability": 0.5, "is_sure": True, "reason": None}
    return pl.DataFrame(rows, schema_overrides={"reason": pl.String})


@contextmanager
def serving(command: list[str], folder: Path, cwd: Path | None = None) -> Iterator[Served]:
    """A server in a process, and its port; its log is `log` in the folder."""
    known = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=cwd or folder, env=known, stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert process.stdout is not None
    try:
        yield next(int(found[1]) for line in process.stdout if (found := re.search(r":(\d+)[/;]", line))), process
    finally:
        process.kill()
        process.communicate()


def request(
    body: str | bytes | dict[str, Any], path: str = "/predict", head: str = JSON, method: str = "POST"
) -> bytes:
    """A request as it goes over the wire."""
    content = (
        json.dumps(body).encode() if isinstance(body, dict) else body if isinstance(body, bytes) else body.encode()
    )
    host = "" if "Host:" in head else "Host: localhost\r\n"
    return f"{method} {path} HTTP/1.1\r\n{host}{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Status and JSON of the next answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    return int(head.split()[1]), json.loads(await reader.readexactly(length) or "{}")


def ask(port: int, *parts: bytes, pause: float = 0.0) -> Answer:
    """The answer to one request on a connection of its own; its parts are sent with pauses between them."""

    async def talk() -> Answer:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for part in parts:
            writer.write(part)
            await asyncio.sleep(pause)
        answer = await read_answer(reader)
        writer.close()
        return answer

    return asyncio.run(asyncio.wait_for(talk(), 30))


def main() -> None:
    params = ServeParams.model_validate(read_template_params()["serve"] | json.loads(sys.argv[2]))
    taken = listening(int(sys.argv[1]))
    token = sys.argv[3] if len(sys.argv) > 3 else None
    app = serve.make_app(predict, ["bad", "good"], MODEL, params, add_posted, "192.0.2.1" if token else HOST, token)
    print(f"fake at :{taken.getsockname()[1]}; ", flush=True)
    serve.serve(app, taken, params)


if __name__ == "__main__":
    main()
