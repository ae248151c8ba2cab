"""Answers to real prompts by transformers' `generate` as it is, and with a cache that has room and casts that are kept.

SmolLM2 with LoRA on a processor, greedy, the same number of tokens on both sides, which take turns; medians are
compared, and the tokens must be the same. What is printed with the benchmark (`extra_info`) is the measurement; times
are not asserted.
"""

import statistics
import time
from pathlib import Path

import polars as pl
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from assay.compute.device import Compute, prepare_device
from assay.core.params import load_params
from assay.fine_tuning.params import adapted
from assay.language_models.chat_template import tokenised_prompts
from assay.language_models.checkpoint import load_base
from assay.language_models.cpu_generation import end_tokens, generate_tokens
from stages import instruct_data, sft

ROUNDS = 3
PROMPTS = 32
NEW_TOKENS = 48


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_bench_generation(
    benchmark: BenchmarkFixture, precision: str, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_folder, rows = repository / "models/base/smollm2", repository / instruct_data.OUTPUT / "test.parquet"
    if not model_folder.is_dir() or not rows.is_file():
        pytest.skip(f"{model_folder} or {rows} is not there: run `make repro` first")
    monkeypatch.chdir(repository)
    compute = {"device": "cpu", "precision": precision, "threads": 2, "checkpoint_seconds": 1e9, "backend": "processes"}
    device = prepare_device(Compute.model_validate(compute))
    base, tokenizer = load_base(str(model_folder), device.device)
    model = adapted(load_params("sft.lora", sft.Lora), base, "CAUSAL_LM").eval()
    model.requires_grad_(False)  # as an adapter is that was loaded to be asked
    chats = pl.read_parquet(rows).filter(pl.col("task") == "answer")["messages"].to_list()[:PROMPTS]
    prompts = tokenised_prompts(tokenizer, [messages[:-1] for messages in chats])
    batch = tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
    choice = {"do_sample": False, "min_new_tokens": NEW_TOKENS, "pad_token_id": tokenizer.pad_token_id}
    choice["eos_token_id"] = end_tokens(model, tokenizer)

    def transformers() -> torch.Tensor:
        with torch.inference_mode(), device.autocast():
            tokens: torch.Tensor = model.generate(**batch, max_new_tokens=NEW_TOKENS, **choice)
        return tokens

    def ours() -> torch.Tensor:
        return generate_tokens(model, batch, NEW_TOKENS, device, **choice)

    sides = {"transformers": transformers, "ours": ours}
    seconds: dict[str, list[float]] = {name: [] for name in sides}

    def one_round() -> None:
        said = []
        for name, side in sides.items():
            started = time.perf_counter()
            said.append(side())
            seconds[name].append(time.perf_counter() - started)
        assert torch.equal(*said)

    benchmark.pedantic(one_round, rounds=ROUNDS, warmup_rounds=1)  # type: ignore[no-untyped-call]
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    benchmark.extra_info["precision"] = str(device.precision).removeprefix("torch.")
    benchmark.extra_info["tokens_per_second"] = round(PROMPTS * NEW_TOKENS / medians["ours"], 1)
    benchmark.extra_info["times_as_fast"] = round(medians["transformers"] / medians["ours"], 2)
