"""Train a reward model on preference pairs, and measure on held-out pairs how far it can be trusted.

The model gives the answer of a chat one number; the loss of a pair is -log sigmoid(r(chosen) - r(rejected)), the
likelihood of Bradley & Terry (1952) as Ouyang et al. (2022) use it, equation 1. The trainer is TRL's; ours are the
order of the pairs (each source by its weight, pairs of similar length together) and what is measured: accuracy by
source, and length bias (`assay/reward/evaluation.py`).

Reads: data/preferences/{train,held_out}.parquet, the base model
Writes: models/reward/model/, metrics/optional/reward.json, metrics/cost/reward.json,
metrics/plots/reward/steps.csv
"""

import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
import torch

from assay.classifiers.checkpoint import save_classifier
from assay.compute.cost import folder_mib, peak_memory_mib
from assay.compute.device import Compute, prepare_device
from assay.compute.model_limits import require_positions
from assay.core.errors import InputError, run_stage
from assay.core.outputs import file_sha256, folder_sha256, output_folder, write_json, write_text
from assay.core.params import load_params
from assay.core.progress import quiet_libraries
from assay.core.results import write_metrics
from assay.core.seeds import derived_seed, generator
from assay.language_models.base_template import TemplateArguments
from assay.reward.evaluation import score_sides, summarise_held_out
from assay.reward.model import new_reward_model
from assay.reward.training import RewardParams, add_lora, order_pairs, tokenise_sides, train_reward

TRAIN = Path("data/preferences/train.parquet")
HELD_OUT = Path("data/preferences/held_out.parquet")
OUTPUT = Path("models/reward/model")
METRICS = Path("metrics/optional/reward.json")
COST = Path("metrics/cost/reward.json")
PLOTS = Path("metrics/plots/reward")
SCRATCH = Path("scratch/reward")
SIDES = ("chosen", "rejected")
PACKAGES = ("torch", "transformers", "peft", "trl")


def read_pairs(path: Path) -> pl.DataFrame:
    """Pairs of `preferences`; an `InputError` if there are none."""
    pairs = pl.read_parquet(path)
    if pairs.is_empty():
        raise InputError(f"{path}: no pairs; run `dvc repro preferences`")
    return pairs


def main() -> None:
    """Train and measure the reward model."""
    params = load_params("reward", RewardParams)
    base = load_params("language_model", str)
    seed = load_params("seed", int)
    compute = load_params("compute", Compute)
    device = prepare_device(compute)
    quiet_libraries()
    train, held_out = read_pairs(TRAIN), read_pairs(HELD_OUT)

    # Before the head and the adapter draw their first values.
    torch.manual_seed(derived_seed(seed, "reward"))
    arguments = load_params("template_arguments", TemplateArguments)
    model, tokenizer = new_reward_model(base, device.device, params.layers, arguments)
    require_positions(model.config, params, "reward")
    model = add_lora(model, params.lora)
    tokens = tokenise_sides(tokenizer, train)
    sources = train["pair_source"].to_list()
    fits = np.flatnonzero(tokens.lengths <= params.max_length_tokens)
    if not len(fits):
        raise InputError(
            f"{TRAIN}: the shortest pair has {tokens.lengths.min()} tokens; raise `reward.max_length_tokens`"
            f" ({params.max_length_tokens})"
        )
    random = generator(seed, "reward", "order")
    order = fits[order_pairs([sources[row] for row in fits], tokens.lengths[fits], params, random, TRAIN)]
    started = time.perf_counter()
    own_seed = derived_seed(seed, "reward", "fit")
    steps = train_reward(model, tokenizer, tokens, order, params, device, own_seed, SCRATCH)
    trained = time.perf_counter()
    random = generator(seed, "reward", "bootstrap")
    said = score_sides(model.eval(), tokenizer, held_out, params.evaluation_batch_size, device)
    ids = {side: tokenizer(held_out[side].to_list(), add_special_tokens=False)["input_ids"] for side in SIDES}
    lengths = {side: np.array([len(answer) for answer in answers]) for side, answers in ids.items()}
    figures = summarise_held_out(held_out, said, lengths, params.bootstrap_samples, random)
    evaluated = time.perf_counter()

    with output_folder(OUTPUT) as folder:
        save_classifier(model, tokenizer, params.max_length_tokens, folder)
        artefact_mib = folder_mib(folder)
    write_text(PLOTS / "steps.csv", steps.write_csv(float_precision=6))
    tokens_seen = sum(len(tokens.chosen[row]) + len(tokens.rejected[row]) for row in order)
    cost = {
        "train_seconds": trained - started,
        "tokens_per_second": tokens_seen / (trained - started),
        "evaluation_seconds": evaluated - trained,
        "peak_memory_mib": peak_memory_mib(device.device),
    }
    write_json(COST, cost)
    metrics = {
        **figures,
        "rows_train": len(sources),
        "rows_train_too_long": len(sources) - len(fits),
        "rows_train_seen": len(set(order.tolist())),
        "train_by_source": dict(sorted(Counter(sources[row] for row in order).items())),
        "steps": steps.height,
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "total_parameters": sum(p.numel() for p in model.parameters()),
        "artefact_mib": artefact_mib,
        **device.names(),
        "threads": compute.threads,
        "versions": {name: version(name) for name in PACKAGES},
        "train_sha256": file_sha256(TRAIN),
        "base_model_sha256": folder_sha256(Path(base)),
    }
    write_metrics(METRICS, metrics, "steps", "pairs", "accuracy")


if __name__ == "__main__":
    run_stage(main)
