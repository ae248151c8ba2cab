"""`make serve` beside `predict` on the same rows: texts a second, of 64 clients that send one or several at a time.

Both have one thread, and the clients the other core. Runs take turns, and medians are compared. What is printed with
the benchmark (`extra_info`) is the measurement; times are not asserted.
"""

import asyncio
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from assay.inference import load
from tests.http_load import read_answer, request, serving

CLIENTS, ROUNDS, ROWS = 64, 3, 3_000
MODEL = "models/finetuned/full"


async def ask_all(port: int, requests: Iterator[bytes]) -> None:
    """Send all requests, each client one after the other on one connection."""

    async def ask_often() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for one in requests:
            writer.write(one)
            assert (await read_answer(reader))[0] == 200
        writer.close()

    await asyncio.gather(*(ask_often() for _ in range(CLIENTS)))


def test_throughput(
    benchmark: BenchmarkFixture,
    repository: Path,
    base_texts: pl.Series,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not (repository / MODEL).is_dir():
        pytest.skip(f"no {MODEL}: run `make repro` first")
    monkeypatch.chdir(repository)
    texts = base_texts.sample(ROWS, seed=1).to_list()
    classifier = load(repository / MODEL)
    seconds: dict[str, list[float]] = {}

    def measure(port: int) -> None:
        for _ in range(ROUNDS):
            started = time.perf_counter()
            classifier.predict(texts)
            seconds.setdefault("predict", []).append(time.perf_counter() - started)
            for size in (1, 4, 16):
                bodies = [request({"texts": texts[start : start + size]}) for start in range(0, ROWS, size)]
                started = time.perf_counter()
                asyncio.run(ask_all(port, iter(bodies)))
                seconds.setdefault(f"serve, {size} at a time", []).append(time.perf_counter() - started)

    with serving(["-m", "tools.serve", MODEL, "--port", "0"], tmp_path, repository) as (port, _):
        benchmark.pedantic(measure, (port,), rounds=1)  # type: ignore[no-untyped-call]
    medians = {name: statistics.median(of) for name, of in seconds.items()}
    for name, median in medians.items():
        ratio = medians["predict"] / median
        benchmark.extra_info[name] = f"{ROWS / median:.0f} texts/s, {ratio:.2f} of predict"
