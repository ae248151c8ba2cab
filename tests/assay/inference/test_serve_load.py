"""Many clients at once, some of them slow, broken or gone: every answer is that of its question, and memory stays."""

import asyncio
import random
import re
from pathlib import Path

import polars as pl
import pytest

from tests.http_load import Answer, label, read_answer, request, serving
from tools.review.feedback import COLUMNS

pytestmark = pytest.mark.slow
FAKE = ["-m", "tests.http_load", "0", '{"request_seconds": 2, "max_body_kib": 16}']
CLIENTS, REQUESTS = 64, 10_000
BAD = {b"nonsense\r\n\r\n": 400, request("[" * 200): 422, request("a" * 20_000): 413, request("", "/none"): 404}
GROWTH_MIB = 16


def memory_mib(process_id: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process_id}/status").read_text())
    assert found
    return int(found[1]) / 1024


async def send(port: int, *parts: bytes) -> Answer | int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await asyncio.sleep(0.2 * (len(parts) > 1))
    try:
        return int((await reader.readline()).split()[1]) if parts[0] in BAD else await read_answer(reader)
    finally:
        writer.close()


async def ask_often(port: int, client: int, done: list[str]) -> None:
    """The questions of one client, each on the connection of the last, beside what it does wrong on others."""
    chosen = random.Random(client)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in range(REQUESTS // CLIENTS):
        kind = chosen.choices(["good", "slow", "late", "bad", "gone"], [94, 1, 0.5, 4, 0.5])[0]
        texts = [f"{client} {number} {place}" for place in range(chosen.randint(1, 4))]
        sent = request({"texts": texts})
        if kind == "good":
            writer.write(sent)
            status, said = await read_answer(reader)
            assert (status, [row["label"] for row in said["predictions"]]) == (200, list(map(label, texts)))
        elif kind == "slow":
            status, said = await send(port, sent[:-5], sent[-5:])  # type: ignore[misc]
            assert (status, [row["label"] for row in said["predictions"]]) == (200, list(map(label, texts)))
        elif kind == "late":
            assert await send(port, *[sent[:-5], *[b""] * 12]) == (
                503,
                {"error": "the request took too long: send it faster, or fewer texts"},
            )
        elif kind == "bad":
            wrong, status = chosen.choice(list(BAD.items()))
            assert await send(port, wrong) == status
        else:
            _, gone = await asyncio.open_connection("127.0.0.1", port)
            gone.write(sent)
            gone.close()
        done.append(kind)
    writer.close()


def test_ten_thousand_requests(tmp_path: Path) -> None:
    done: list[str] = []

    async def all_clients(port: int, process_id: int) -> list[float]:
        clients = [asyncio.create_task(ask_often(port, client, done)) for client in range(CLIENTS)]
        memory = []
        while not all(client.done() for client in clients):
            await asyncio.sleep(0.05)
            if len(done) > min(2000, REQUESTS / 5):
                memory.append(memory_mib(process_id))
        await asyncio.gather(*clients)
        return memory

    with serving(FAKE, tmp_path) as (port, process):
        memory = asyncio.run(all_clients(port, process.pid))
        assert len(done) == REQUESTS // CLIENTS * CLIENTS
        assert set(done) == {"good", "slow", "late", "bad", "gone"}
        assert max(memory) - memory[0] < GROWTH_MIB
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_corrections_that_were_answered_outlive_a_kill(tmp_path: Path) -> None:
    answered: list[str] = []

    async def post_often(port: int, client: int) -> None:
        for number in range(1000):
            body = {"text": f"{client} {number}", "label": "good", "reviewer": "Ann"}
            _, said = await send(port, request(body, "/corrections"))  # type: ignore[misc]
            answered.append(said["id"])

    async def all_clients(port: int) -> None:
        clients = [asyncio.create_task(post_often(port, client)) for client in range(8)]
        await asyncio.sleep(1)
        process.kill()
        await asyncio.gather(*clients, return_exceptions=True)

    with serving(FAKE, tmp_path) as (port, process):
        asyncio.run(all_clients(port))
    kept = set(pl.read_csv(tmp_path / "data/feedback.csv", schema=dict.fromkeys(COLUMNS, pl.String))["id"])
    assert len(answered) > 8
    assert set(answered) <= kept
