"""Fine-tuning a language model on packed chats beside the same chats padded: tokens a second, padding not counted.

Real chats, SmolLM2 and LoRA: four packs of 512 tokens in a step, or as many chats as lie in them on average, drawn at
random and padded to the longest, or one after the other. Runs take turns, and medians are compared. What is printed
with the benchmark (`extra_info`) is the measurement; times are not asserted.
"""

import statistics
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import TypeAdapter
from pytest_benchmark.fixture import BenchmarkFixture

from assay.compute.device import Compute, prepare_device
from assay.core.progress import quiet_libraries
from assay.fine_tuning.params import adapted
from assay.language_models.chat_template import tokenised_chats
from assay.language_models.checkpoint import CausalLM, load_base
from stages import sft

ROUNDS = 3
STEPS = 3
PACKS, PACK_TOKENS = 4, 512


@pytest.mark.timeout(1800)
def test_bench_packing(benchmark: BenchmarkFixture, repository: Path, tmp_path: Path) -> None:
    model_folder, rows = repository / "models/base/smollm2", repository / sft.TRAIN
    if not model_folder.is_dir() or not rows.is_file():
        pytest.skip(f"{model_folder} or {rows} is not there: run `make repro` first")
    quiet_libraries()
    device = prepare_device(
        Compute(device="auto", precision="auto", threads=2, checkpoint_seconds=1e9, backend="processes")
    )
    base, tokenizer = load_base(str(model_folder), device.device)
    lengths = []
    chats = []
    for chat in tokenised_chats(tokenizer, pl.read_parquet(rows)["messages"].to_list()):
        if len(chat.input_ids) <= PACK_TOKENS:
            chats.append(chat)
            lengths.append(len(chat.input_ids))
    per_step = max(1, round(PACKS * PACK_TOKENS / float(np.mean(lengths))))
    block = {"method": "lora", "rank": 16, "alpha": 32, "dropout": 0.0, "target_modules": "all-linear"}
    block |= {"rank_stabilised": False, "dora": False, "initialisation": "default", "max_steps": STEPS}
    block |= {"num_evaluations": 1, "validation_rows": 1, "learning_rate": 1e-4, "weight_decay": 0.0}
    block |= {"warmup_fraction": 0.0, "max_grad_norm": 1.0, "gradient_checkpointing": False}
    sides = {
        "packed": {
            "packing": True,
            "max_length_tokens": PACK_TOKENS,
            "batch_size": PACKS,
            "gradient_accumulation_steps": 1,
        },
        "padded": {
            "packing": False,
            "max_length_tokens": PACK_TOKENS,
            "batch_size": per_step,
            "gradient_accumulation_steps": 1,
        },
    }
    sides["one_at_a_time"] = sides["padded"] | {"gradient_accumulation_steps": per_step}
    speeds: dict[str, list[float]] = {side: [] for side in sides}

    def one_round() -> None:
        for side, changes in sides.items():
            params = TypeAdapter(sft.Lora).validate_python(block | changes)
            torch.manual_seed(1)
            model: CausalLM = adapted(params, base, "CAUSAL_LM")
            number = len(speeds[side])
            done = sft.fit(
                params, model, tokenizer, chats, chats[:1], device, number, tmp_path / f"{side}{number}", side
            )
            speeds[side].append(done.tokens / done.step_seconds)
            model.unload()

    benchmark.pedantic(one_round, rounds=ROUNDS)  # type: ignore[no-untyped-call]
    medians = {side: statistics.median(values) for side, values in speeds.items()}
    benchmark.extra_info |= {f"{side}_tokens_per_second": round(value, 1) for side, value in medians.items()}
    for side in ("padded", "one_at_a_time"):
        benchmark.extra_info[f"times_as_fast_as_{side}"] = round(medians["packed"] / medians[side], 2)
