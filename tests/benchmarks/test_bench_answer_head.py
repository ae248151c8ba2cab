"""A forward and a backward pass of a packed row with TRL's head over every position, and over those of answers alone.

Real chats, SmolLM2 and LoRA, on a processor: there TRL has no kernel that leaves positions out. Both sides take turns,
and medians are compared. What is printed with the benchmark (`extra_info`) is the measurement; times are not asserted.
"""

import statistics
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from trl.trainer import add_fused_lm_head

from assay.compute.device import Compute, prepare_device
from assay.core.params import load_params
from assay.fine_tuning.params import adapted
from assay.language_models.chat_template import IGNORED, tokenised_chats
from assay.language_models.checkpoint import load_base
from assay.language_models.cpu_lm_head import score_answers_alone
from stages import sft

ROUNDS = 10
PACK_TOKENS = 512


def test_bench_answer_head(benchmark: BenchmarkFixture, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model_folder, rows = repository / "models/base/smollm2", repository / sft.TRAIN
    if not model_folder.is_dir() or not rows.is_file():
        pytest.skip(f"{model_folder} or {rows} is not there: run `make repro` first")
    monkeypatch.chdir(repository)
    device = prepare_device(
        Compute(device="cpu", precision="auto", threads=2, checkpoint_seconds=1e9, backend="processes")
    )
    base, tokenizer = load_base(str(model_folder), device.device)
    model = adapted(load_params("sft.lora", sft.Lora), base, "CAUSAL_LM")
    add_fused_lm_head(base, outputs=("log_probs", "entropy", "is_top1"))
    whole = base.forward
    score_answers_alone(model)
    forwards = {"every_position": whole, "answers_alone": base.forward}
    chats = tokenised_chats(tokenizer, pl.read_parquet(rows)["messages"].to_list())
    order = np.random.default_rng(1).permutation(len(chats))
    ids, labels = (
        torch.tensor([[token for row in order[:8] for token in getattr(chats[row], name)][:PACK_TOKENS]])
        for name in ("input_ids", "labels")
    )
    seconds: dict[str, list[float]] = {side: [] for side in forwards}

    def one_round() -> None:
        for side, forward in forwards.items():
            base.forward = forward
            started = time.perf_counter()
            with device.autocast():
                output = model(input_ids=ids, labels=labels, fused_lm_head=True)
            (-output.log_probs.sum()).backward()
            seconds[side].append(time.perf_counter() - started)

    benchmark.pedantic(one_round, rounds=ROUNDS, warmup_rounds=1)  # type: ignore[no-untyped-call]
    medians = {side: statistics.median(values[1:]) for side, values in seconds.items()}
    benchmark.extra_info["share_of_tokens_with_loss"] = round(float((labels != IGNORED).float().mean()), 2)
    benchmark.extra_info["times_as_fast"] = round(medians["every_position"] / medians["answers_alone"], 2)
