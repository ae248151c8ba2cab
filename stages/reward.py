"""Train a reward model on preference pairs, and measure on held-out pairs how far it can be trusted.

The model gives the answer of a chat one number; the loss of a pair is -log sigmoid(r(chosen) - r(rejected)), the
likelihood of Bradley & Terry (1952) as Ouyang et al. (2022) use it, equation 1. The trainer is TRL's; ours are the
order of the pairs (each source by its weight, pairs of like length together) and what is measured: accuracy by source,
calibration and length bias (`assay/reward/evaluation.py`).

Reads: data/preferences/{train,held_out}.parquet, the base model
Writes: models/reward/model/, metrics/optional/reward.json, metrics/plots/reward/{calibration,steps}.csv
"""

from __future__ import annotations

import math
import shutil
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import Field
from transformers import PreTrainedTokenizerBase

from assay.compute.cost import folder_mib, peak_memory_mib
from assay.compute.device import Compute, Device, prepare_device
from assay.compute.token_batches import shuffled_batches
from assay.core.errors import InputError, run_stage
from assay.core.outputs import file_sha256, folder_sha256, output_folder, write_json, write_text
from assay.core.params import Params, load_params
from assay.core.progress import quiet_libraries
from assay.core.seeds import derived_seed, generator
from assay.reward.evaluation import held_out_metrics, scored_pairs, with_side
from assay.reward.model import RewardModel, chat_ids, new_reward_model, save_reward_model

if TYPE_CHECKING:
    from trl import RewardConfig

TRAIN = Path("data/preferences/train.parquet")
HELD_OUT = Path("data/preferences/held_out.parquet")
OUTPUT = Path("models/reward/model")
METRICS = Path("metrics/optional/reward.json")
PLOTS = Path("metrics/plots/reward")
SCRATCH = Path("scratch/reward")
PACKAGES = ("torch", "transformers", "peft", "trl")


class RewardLora(Params):
    """Block `lora`: low-rank updates of the last layers (Hu et al. 2021)."""

    rank: int = Field(ge=1, le=4096)
    alpha: int = Field(ge=1, le=65536)
    dropout: float = Field(ge=0, lt=1)
    target_modules: list[str] = Field(min_length=1)
    last_layers: int | None = Field(ge=1)


class SourceWeights(Params):
    """Block `source_weights`: how much of the training each source of pairs gets, in proportion."""

    human: float = Field(ge=0)
    sibling_answer: float = Field(ge=0)
    base_answer: float = Field(ge=0)
    altered_answer: float = Field(ge=0)


class RewardParams(Params):
    """Section `reward` of `params.yaml`; a batch is so many pairs."""

    layers: int | None = Field(ge=1)
    lora: RewardLora | None
    source_weights: SourceWeights
    max_length_tokens: int = Field(ge=8, le=1_048_576)
    max_steps: int = Field(ge=1, le=10_000_000)
    batch_size: int = Field(ge=1, le=65536)
    gradient_accumulation_steps: int = Field(ge=1, le=65536)
    gradient_checkpointing: bool
    learning_rate: float = Field(gt=0, le=1)
    warmup_fraction: float = Field(ge=0, le=1)
    weight_decay: float = Field(ge=0, le=10)
    max_grad_norm: float = Field(gt=0)
    center_rewards_coefficient: float | None = Field(ge=0)
    evaluation_batch_size: int = Field(ge=1, le=65536)
    calibration_bins: int = Field(ge=1, le=1000)
    bootstrap_samples: int = Field(ge=10, le=1_000_000)


@dataclass(frozen=True)
class PairTokens:
    """Both whole chats of `n` pairs as token ids."""

    chosen: list[list[int]]
    rejected: list[list[int]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of the longer side of each pair, shape `(n,)`."""
        longest = [max(map(len, pair)) for pair in zip(self.chosen, self.rejected, strict=True)]
        return np.array(longest, dtype=np.int64)


def pair_tokens(tokenizer: PreTrainedTokenizerBase, pairs: pl.DataFrame) -> PairTokens:
    """The chats of pairs as the reward model sees them."""
    return PairTokens(
        chat_ids(tokenizer, with_side(pairs, "chosen")), chat_ids(tokenizer, with_side(pairs, "rejected"))
    )


def training_order(
    sources: Sequence[str],
    lengths: NDArray[np.int64],
    weights: dict[str, float],
    rows: int,
    batch_size: int,
    random: np.random.Generator,
) -> NDArray[np.int64]:
    """Which pairs to train on, one batch after the other, shape `(rows,)`.

    Each source that has pairs gets the share of its weight, by going through its pairs, shuffled anew each time. Pairs
    of like length then share batches.

    Args:
        sources: of each pair, shape `(n,)`.
        lengths: tokens of each pair, shape `(n,)`.
        weights: by source.
        rows: pairs to train on, counted as often as they come.
        batch_size: pairs of a batch; divides `rows`.
        random: source of the shuffles.

    Raises:
        InputError: no source with pairs has a weight.
    """
    of_source = {name: np.flatnonzero(np.array(sources) == name) for name in sorted(set(sources))}
    shares = {name: weights[name] for name, places in of_source.items() if len(places) and weights[name] > 0}
    total = sum(shares.values())
    if not total:
        raise InputError(
            f"params.yaml: `reward.source_weights` gives no weight to {', '.join(of_source)}, which {TRAIN} is made of"
        )
    # Rounded so that the parts add up: to the end of each share, counted from the start.
    ends = np.rint(np.cumsum([shares[name] / total for name in shares]) * rows).astype(np.int64)
    counts = np.diff(ends, prepend=0)
    chosen = []
    for name, count in zip(shares, counts, strict=True):
        places = of_source[name]
        passes = [random.permutation(places) for _ in range(math.ceil(count / len(places)))]
        chosen.append(np.concatenate([*passes, np.empty(0, dtype=np.int64)])[:count])
    drawn = np.concatenate(chosen)
    return np.concatenate([drawn[batch] for batch in shuffled_batches(lengths[drawn], batch_size, random)])


def adapted(model: RewardModel, lora: RewardLora | None) -> RewardModel:
    """The model with low-rank updates of its last layers and its whole head to train; None: all of it is trained.

    Below the first layer that is trained nothing is kept for the backward pass, nor is there one: with half of the
    layers a step takes about half the time.

    Raises:
        InputError: the model has fewer layers than are to be trained.
    """
    if lora is None:
        return model
    # Imported here: it takes seconds.
    import peft

    layers = int(model.config.num_hidden_layers)
    if lora.last_layers is not None and lora.last_layers > layers:
        raise InputError(
            f"params.yaml: `reward.lora.last_layers` = {lora.last_layers}, but the base has {layers}; null takes all"
        )
    config = peft.LoraConfig(
        task_type=peft.TaskType.SEQ_CLS,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=sorted(lora.target_modules),
        layers_to_transform=None if lora.last_layers is None else list(range(layers - lora.last_layers, layers)),
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of an attribute that peft reads and transformers renamed
            wrapped = peft.get_peft_model(model, config)
    except ValueError as error:
        raise InputError(f"params.yaml: `reward.lora.target_modules` = {lora.target_modules}: {error}") from None
    # A set by now, whose order in the saved file would follow the hash seed.
    config.target_modules = sorted(lora.target_modules)
    return wrapped


def trainer_config(params: RewardParams, device: Device, seed: int) -> RewardConfig:
    """The section as TRL's configuration."""
    from trl import RewardConfig

    from assay.language_models.trl_trainer import trainer_arguments

    arguments = trainer_arguments(
        SCRATCH, device, seed,
        batch_size=params.batch_size,
        gradient_accumulation_steps=params.gradient_accumulation_steps,
        max_steps=params.max_steps,
        learning_rate=params.learning_rate,
        weight_decay=params.weight_decay,
        warmup_fraction=params.warmup_fraction,
        max_grad_norm=params.max_grad_norm,
        gradient_checkpointing=params.gradient_checkpointing,
    )  # fmt: skip
    return RewardConfig(
        **arguments,
        max_length=None,
        disable_dropout=False,  # that of `lora` is asked for
        center_rewards_coefficient=params.center_rewards_coefficient,
        train_sampling_strategy="sequential",
    )


def fit(
    model: RewardModel,
    tokenizer: PreTrainedTokenizerBase,
    tokens: PairTokens,
    order: NDArray[np.int64],
    params: RewardParams,
    device: Device,
    seed: int,
) -> pl.DataFrame:
    """Train a reward model in place with TRL's `RewardTrainer`.

    Args:
        model: on the device.
        tokenizer: of the model.
        tokens: of the pairs.
        order: the pairs to train on, one batch after the other.
        params: of the stage.
        device: where and in which precision to run.
        seed: of the dropout.

    Returns:
        Of each step `step`, `loss`, `accuracy`, `margin`, `learning_rate` and `gradient_norm`.

    Raises:
        InputError: the loss is no number.
    """
    # Imported here: they take seconds, and importing a stage should not.
    from datasets import Dataset
    from trl import RewardTrainer

    from assay.language_models.trl_trainer import (
        StepLines,
        library_warnings_off,
        step_table,
        without_own_prints,
    )

    rows = {
        "chosen_ids": [tokens.chosen[row] for row in order],
        "rejected_ids": [tokens.rejected[row] for row in order],
    }
    lines = StepLines("reward", {"loss": "loss", "accuracy": "accuracy"})
    try:
        with library_warnings_off():
            trainer = RewardTrainer(
                model,
                trainer_config(params, device, seed),
                train_dataset=Dataset.from_dict(rows),
                processing_class=tokenizer,
                callbacks=[lines],
            )
            without_own_prints(trainer)
            trainer.train()
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)
    columns = {name: name for name in ("loss", "accuracy", "margin", "learning_rate")} | {"grad_norm": "gradient_norm"}
    steps = step_table([entry for entry in trainer.state.log_history if "loss" in entry], columns)
    unsound = steps.filter(~pl.col("loss").is_finite())
    if unsound.height:
        step, loss = unsound.row(0)[:2]
        raise InputError(
            f"reward: the loss of step {step} is {loss}; lower `reward.learning_rate` or `reward.max_grad_norm`"
        )
    return steps


def read_pairs(path: Path) -> pl.DataFrame:
    """Pairs of `preferences`.

    Raises:
        InputError: there are none.
    """
    pairs = pl.read_parquet(path)
    if pairs.is_empty():
        raise InputError(f"{path}: no pairs; run `dvc repro preferences`")
    return pairs


def rows_that_fit(tokens: PairTokens, max_length_tokens: int) -> NDArray[np.int64]:
    """Numbers of the pairs of which both sides fit.

    Raises:
        InputError: none does.
    """
    fits = np.flatnonzero(tokens.lengths <= max_length_tokens)
    if not len(fits):
        raise InputError(
            f"{TRAIN}: the shortest pair has {tokens.lengths.min()} tokens; raise `reward.max_length_tokens`"
            f" ({max_length_tokens})"
        )
    return fits


def rows_metrics(sources: Sequence[str], fits: NDArray[np.int64], order: NDArray[np.int64]) -> dict[str, Any]:
    """How many pairs there are, are too long and were trained on, and how often by source."""
    seen = [sources[row] for row in order]
    return {
        "rows_train": len(sources),
        "rows_train_too_long": len(sources) - len(fits),
        "rows_train_seen": len(set(order.tolist())),
        "train_by_source": {name: seen.count(name) for name in sorted(set(seen))},
    }


def measured(
    model: RewardModel,
    tokenizer: PreTrainedTokenizerBase,
    held_out: pl.DataFrame,
    params: RewardParams,
    device: Device,
    random: np.random.Generator,
) -> tuple[dict[str, Any], pl.DataFrame]:
    """`held_out_metrics` of a reward model in evaluation mode."""
    said = scored_pairs(model, tokenizer, held_out, params.evaluation_batch_size, device)
    answer_tokens = {
        side: np.array([len(ids) for ids in tokenizer(held_out[side].to_list(), add_special_tokens=False)["input_ids"]])
        for side in ("chosen", "rejected")
    }
    return held_out_metrics(
        held_out, said, answer_tokens, params.calibration_bins, params.bootstrap_samples, random
    )  # fmt: skip


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
    model, tokenizer = new_reward_model(base, device.device, params.layers)
    model = adapted(model, params.lora)
    tokens = pair_tokens(tokenizer, train)
    sources = train["pair_source"].to_list()
    fits = rows_that_fit(tokens, params.max_length_tokens)
    order = fits[
        training_order(
            [sources[row] for row in fits],
            tokens.lengths[fits],
            params.source_weights.model_dump(),
            params.max_steps * params.batch_size,
            params.batch_size,
            generator(seed, "reward", "order"),
        )
    ]
    started = time.perf_counter()
    steps = fit(model, tokenizer, tokens, order, params, device, derived_seed(seed, "reward", "fit"))
    train_seconds = time.perf_counter() - started

    started = time.perf_counter()
    model.eval()
    figures, table = measured(model, tokenizer, held_out, params, device, generator(seed, "reward", "bootstrap"))
    evaluation_seconds = time.perf_counter() - started

    with output_folder(OUTPUT) as folder:
        save_reward_model(model, tokenizer, params.max_length_tokens, folder)
        artefact_mib = folder_mib(folder)
    write_text(PLOTS / "calibration.csv", table.write_csv(float_precision=6))
    write_text(PLOTS / "steps.csv", steps.write_csv(float_precision=6))
    trained = sum(len(tokens.chosen[row]) + len(tokens.rejected[row]) for row in order)
    write_json(
        METRICS,
        {
            **figures,
            **rows_metrics(sources, fits, order),
            "steps": steps.height,
            "train_seconds": train_seconds,
            "tokens_per_second": trained / train_seconds,
            "evaluation_seconds": evaluation_seconds,
            "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "total_parameters": sum(p.numel() for p in model.parameters()),
            "peak_memory_mib": peak_memory_mib(device.device),
            "artefact_mib": artefact_mib,
            "device": str(device.device),
            "precision": str(device.precision).removeprefix("torch."),
            "threads": compute.threads,
            "versions": {name: version(name) for name in PACKAGES},
            "train_sha256": file_sha256(TRAIN),
            "base_model_sha256": folder_sha256(Path(base)),
        },
    )


if __name__ == "__main__":
    run_stage(main)
