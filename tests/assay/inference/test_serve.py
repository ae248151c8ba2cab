import asyncio
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assay.inference.serve import OPENAPI
from tests.http_load import JSON, MODEL, TOKEN, Answer, ask, label, read_answer, request, serving

FAKE = ["-m", "tests.http_load", "0"]
LIMITS = {"max_body_kib": 8, "max_texts": 5, "max_characters": 1000, "max_waiting_texts": 6, "batch_texts": 2}
LIMITS |= {"max_connections": 16, "request_seconds": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    with serving([*FAKE, json.dumps(LIMITS)], folder) as (port, _):
        yield port


def row(text: str) -> dict[str, Any]:
    return {"label": label(text), "probability": 0.5, "is_sure": True, "reason": None}


SCHEMAS = json.loads(OPENAPI.read_text())["components"]["schemas"]


@pytest.mark.parametrize("texts", ["one", ["one"], ["b", "a", "b\nö"]])
def test_each_text_has_its_prediction(port: int, texts: str | list[str]) -> None:
    status, said = ask(port, request({"texts": texts}))
    assert (status, said["predictions"]) == (200, [row(text) for text in ([texts] if texts == "one" else texts)])
    assert set(said) == set(SCHEMAS["Predictions"]["required"])


def test_health_and_openapi(port: int) -> None:
    state = {"is_ready": True, "labels": ["bad", "good"], "waiting_texts": 0} | MODEL
    assert ask(port, request("", "/health", "", "GET")) == (200, state)
    assert set(state) == set(SCHEMAS["Health"]["required"])
    assert ask(port, request("", "/openapi.json", "", "GET")) == (200, json.loads(OPENAPI.read_text()))


A = {"texts": "a"}
CORRECTION = {"id": "tweets:1", "label": "good", "reviewer": "Ann"}


@pytest.mark.parametrize(
    ("sent", "status", "sentence"),
    [
        (request({"texts": ["a"] * 6}), 413, "6 texts, and at most 5 may come at a time"),
        (request({"texts": "a" * 1001}), 413, "a text of 1001 characters, and it may have 1000 at most"),
        (request("a" * 10_000), 413, "the body has more than 8 KiB; send fewer texts at a time"),
        (request("a" * 100_000), 413, "the body has more than 8 KiB; send fewer texts at a time"),
        (request({"texts": []}), 422, "texts: List should have at least 1 item after validation, not 0"),
        (request({"texts": ["a", None]}), 422, "texts: 1: Input should be a valid string"),
        (request({"text": "a"}), 422, "texts: Field required"),
        (request('{"texts": '), 422, "Invalid JSON: EOF while parsing a value at line 1 column 10"),
        (request(A, head="Content-Type: text/plain\r\n"), 415, "send JSON, with Content-Type: application/json"),
        (request("", "/nowhere"), 404, "Not Found"),
        (request({"texts": "broken"}), 500, "the server failed; its log names the kind of error"),
        (request(CORRECTION | {"text": "a"}, "/corrections"), 422, "give the id of a row, or a text"),
        (request(CORRECTION | {"label": "else"}, "/corrections"), 422, "label: it is none of bad, good"),
        (request(CORRECTION | {"label": 3}, "/corrections"), 422, "label: Input should be a valid string"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_refused_is_said_in_a_sentence(port: int, sent: bytes, status: int, sentence: str) -> None:
    assert ask(port, sent) == (status, {"error": sentence})


def test_another_host_name_is_refused_and_nothing_invites_another_origin(port: int) -> None:
    assert b"400 Bad Request" in ask_raw(port, request(A, head=JSON + "Host: elsewhere\r\n"))
    head = "Origin: http://elsewhere\r\nAccess-Control-Request-Method: POST\r\n"
    answer = ask_raw(port, request("", "/predict", head, "OPTIONS"))
    assert (answer.split()[1], b"access-control" in answer.lower()) == (b"405", False)


def test_a_request_that_comes_or_is_answered_too_slowly(port: int) -> None:
    late = 503, {"error": "the request took too long: send it faster, or fewer texts"}
    sent = request(A)
    assert ask(port, sent[:-3], b"", pause=2.1) == late
    assert ask(port, sent[:-3], sent[-3:], pause=0.1)[0] == 200
    assert ask(port, request({"texts": "never"})) == late
    time.sleep(1.5)  # until the model is free again


def ask_raw(port: int, sent: bytes) -> bytes:
    """The head of an answer that need not be JSON."""

    async def talk() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        return head

    return asyncio.run(talk())


def ask_at_once(port: int, *sent: bytes, pause: float = 0.1) -> list[Answer]:
    """The answers to requests on connections of their own, a pause after each."""

    async def talk() -> list[Answer]:
        connections = [await asyncio.open_connection("127.0.0.1", port) for _ in sent]
        for number, (_, writer) in enumerate(connections):
            writer.write(sent[number])
            await asyncio.sleep(pause)
        return [await read_answer(one) for one, _ in connections]

    return asyncio.run(talk())


def test_too_many_texts_wait(port: int) -> None:
    slow, three, four = (request({"texts": texts}) for texts in (["slow"], ["a"] * 3, ["b"] * 4))
    come_again = 429, {"error": "3 texts wait for the model already; come again"}
    first, second = ({"predictions": rows} | MODEL for rows in ([row("slow")], [row("a")] * 3))
    assert ask_at_once(port, slow, three, four) == [(200, first), (200, second), come_again]


def test_a_text_that_fails_takes_no_other_with_it(port: int) -> None:
    answers = ask_at_once(port, *(request({"texts": text}) for text in ("slow", "a", "broken", "c")))
    assert [status for status, _ in answers] == [200, 200, 500, 200]


def test_no_text_is_in_the_log(port: int, folder: Path) -> None:
    for body in ({"texts": "Zebra"}, {"texts": "broken"}, {"texts": ["Zebra", 3]}, {"texts": "Zebra" * 300}):
        ask(port, request(body, "/predict?of=Zebra"))
    ask(port, request("", "/Zebra"))
    ask(port, request("", "/health", JSON, "GET"))  # its turn comes when the line of the one before is written
    log = (folder / "log").read_text()
    assert "Zebra" not in log
    assert "broken" not in log
    assert re.search(r" 500 /predict 1 rows \d+ ms ValueError$", log, re.M)
    assert re.search(r"^20[-0-9]+T[:0-9]+Z 200 /predict 1 rows \d+ ms$", log, re.M)
    assert " 404 elsewhere 0 rows" in log


def test_on_another_address_every_request_needs_the_token(tmp_path: Path) -> None:
    with serving([*FAKE, "{}", TOKEN], tmp_path) as (port, _):
        for given, status in (("", 401), (f"{TOKEN}x", 401), (TOKEN, 200)):
            head = f"Host: elsewhere\r\nAuthorization: Bearer {given}\r\n"
            assert ask(port, request("", "/health", head, "GET"))[0] == status
