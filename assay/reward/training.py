"""A reward model in training: which pairs it sees in which order, what of it is trained, and the steps.

Legend: `n` pairs.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field
from transformers import PreTrainedTokenizerBase

from assay.compute.device import Device
from assay.compute.token_batches import shuffled_batches
from assay.core.errors import InputError
from assay.core.params import Params
from assay.fine_tuning.adapters import add_adapter
from assay.fine_tuning.trainer_params import TrainerParams
from assay.language_models.chat_template import add_answers
from assay.reward.model import RewardModel, tokenise_whole


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


class RewardParams(TrainerParams):
    """Section `reward` of `params.yaml`; a batch is so many pairs."""

    layers: int | None = Field(ge=1)
    lora: RewardLora | None
    source_weights: SourceWeights
    max_length_tokens: int = Field(ge=8, le=1_048_576)
    weight_decay: float = Field(ge=0, le=10)
    center_rewards_coefficient: float | None = Field(ge=0)
    evaluation_batch_size: int = Field(ge=1, le=65536)
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


def tokenise_sides(tokenizer: PreTrainedTokenizerBase, pairs: pl.DataFrame) -> PairTokens:
    """The chats of pairs as the reward model sees them."""
    sides = (add_answers(pairs["messages"], pairs[side]) for side in ("chosen", "rejected"))
    return PairTokens(*(tokenise_whole(tokenizer, side) for side in sides))


def order_pairs(
    sources: Sequence[str], lengths: NDArray[np.int64], params: RewardParams, random: np.random.Generator, path: Path
) -> NDArray[np.int64]:
    """Which pairs to train on, one batch after the other, shape `(max_steps * batch_size,)`.

    Each source that has pairs gets the share of its weight, by going through its pairs, shuffled anew each time. Pairs
    of similar length then share batches. Sources and lengths in tokens are those of each pair, shape `(n,)`. An
    `InputError` if no source with pairs has a weight.
    """
    weights, rows = params.source_weights.model_dump(), params.max_steps * params.batch_size
    of_source = {name: np.flatnonzero(np.array(sources) == name) for name in sorted(set(sources))}
    shares = {name: weights[name] for name, places in of_source.items() if len(places) and weights[name] > 0}
    total = sum(shares.values())
    if not total:
        raise InputError(
            f"params.yaml: `reward.source_weights` gives no weight to {', '.join(of_source)}, which {path} is made of"
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
    return np.concatenate([drawn[batch] for batch in shuffled_batches(lengths[drawn], params.batch_size, random)])


def add_lora(model: RewardModel, lora: RewardLora | None) -> RewardModel:
    """The model with low-rank updates of its last layers and its whole head to train; None: all of it is trained.

    Below the first layer that is trained nothing is kept for the backward pass, nor is there one: with half of the
    layers a step takes about half the time. An `InputError` if the model has fewer layers than are to be trained.
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
            return add_adapter(model, config)
    except ValueError as error:
        raise InputError(f"params.yaml: `reward.lora.target_modules` = {lora.target_modules}: {error}") from None


def train_reward(
    model: RewardModel,
    tokenizer: PreTrainedTokenizerBase,
    tokens: PairTokens,
    order: NDArray[np.int64],
    params: RewardParams,
    device: Device,
    seed: int,
    scratch: Path,
) -> pl.DataFrame:
    """Train a reward model in place with TRL's `RewardTrainer`, on the pairs in the given order.

    Returns of each step `step`, `loss`, `accuracy`, `margin`, `learning_rate` and `gradient_norm`. An `InputError` if a
    loss is not finite.
    """
    # Imported here: they take seconds, and importing a stage should not.
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    from assay.language_models.trl_trainer import run_trainer, trainer_arguments

    config = RewardConfig(
        **trainer_arguments(params, scratch, device, seed, params.weight_decay),
        max_length=None,
        disable_dropout=False,  # that of `lora` is asked for
        center_rewards_coefficient=params.center_rewards_coefficient,
        train_sampling_strategy="sequential",
    )
    sides = {"chosen_ids": tokens.chosen, "rejected_ids": tokens.rejected}
    rows = {name: [side[row] for row in order] for name, side in sides.items()}
    columns = {name: name for name in ("loss", "accuracy", "margin", "learning_rate")} | {"grad_norm": "gradient_norm"}
    return run_trainer(
        lambda callbacks: RewardTrainer(
            model, config, train_dataset=Dataset.from_dict(rows), processing_class=tokenizer, callbacks=callbacks
        ),
        "reward",
        {"loss": "loss", "accuracy": "accuracy"},
        columns,
    )
