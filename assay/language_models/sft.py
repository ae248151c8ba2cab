"""Supervised fine-tuning on chats with TRL's `SFTTrainer`: the chats that fit, the training, and what it reached."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from assay.compute.cost import Spent
from assay.compute.device import Device
from assay.core.errors import InputError
from assay.core.outputs import discard
from assay.core.progress import library_warnings_off
from assay.fine_tuning.sft_params import Training
from assay.language_models.chat_template import TokenisedChat, tokenise_chats
from assay.language_models.checkpoint import CausalLM

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

COLUMNS = {"loss": "loss", "learning_rate": "learning_rate", "grad_norm": "gradient_norm"}
"""From TRL's names of what it logs to those of the steps."""


def read_chats(
    path: Path, tokenizer: PreTrainedTokenizerBase, max_length_tokens: int
) -> tuple[list[TokenisedChat], int]:
    """The chats of a file that are short enough, and how many are not.

    An `InputError` if none is, or one has no token to learn.
    """
    table = pl.read_parquet(path, columns=["id", "messages", "without_loss"])
    chats = tokenise_chats(tokenizer, table["messages"].to_list(), table["without_loss"].to_list(), max_length_tokens)
    for name, chat in zip(table["id"], chats, strict=True):
        if not chat.answer_tokens and len(chat.input_ids) <= max_length_tokens:
            raise InputError(f"{path}: row {name} has no answer to learn; the last message must be the assistant's")
    kept = [chat for chat in chats if len(chat.input_ids) <= max_length_tokens]
    if not kept:
        raise InputError(
            f"{path}: none of {len(chats)} chats has at most {max_length_tokens} tokens; raise `max_length_tokens`"
        )
    return kept, len(chats) - len(kept)


def make_dataset(chats: list[TokenisedChat]) -> Dataset:
    """Chats in the form that TRL's trainers take as tokenised already."""
    # Imported here: it takes seconds, as TRL does.
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    return Dataset.from_dict(
        {"input_ids": [chat.input_ids for chat in chats], "labels": [chat.labels for chat in chats]}
    )


@dataclass(frozen=True)
class Fit:
    """What a training took.

    Attributes:
        steps: `step`, `loss` (mean over the answer tokens of its batch, in nats), `learning_rate`, `gradient_norm`.
        validation_losses: by the step that the evaluation followed.
        tokens: that the model learnt from or read before an answer, padding not counted.
        spent: by all stretches of the training, evaluations included; what came after a last checkpoint is lost.
        step_seconds: of the steps alone.
        resumed_at_step: where a run that was killed resumed; 0: it was not.
    """

    steps: pl.DataFrame
    validation_losses: dict[int, float]
    tokens: int
    spent: Spent
    step_seconds: float
    resumed_at_step: int


def train_sft(
    params: Training,
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    train: list[TokenisedChat],
    validation: list[TokenisedChat],
    device: Device,
    seed: int,
    scratch: Path,
    what: str,
) -> Fit:
    """Train the trainable parameters of `model` in place, and leave the best of them in it.

    Where there is a checkpoint in `scratch`, training resumes from it. An `InputError` if the loss is not finite, or
    there are too few chats for one batch.
    """
    # Imported here: they take seconds, and errors of the params come without them.
    from transformers.trainer_callback import TrainerState
    from transformers.trainer_utils import get_last_checkpoint
    from trl import SFTConfig, SFTTrainer

    from assay.language_models import trl_trainer

    every = -(-params.max_steps // params.num_evaluations)
    arguments = trl_trainer.trainer_arguments(params, scratch, device, seed, params.weight_decay)
    if params.packing and device.device.type == "cpu":
        # One at a time: TRL lays packs end to end, and the logits of all of them are many.
        packs = arguments["per_device_train_batch_size"] * arguments["gradient_accumulation_steps"]
        arguments |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": packs}
    checkpoints = {"save_strategy": "steps", "save_steps": every, "save_total_limit": 1}
    length = params.max_length_tokens if params.packing else None
    config = SFTConfig(**(arguments | checkpoints), packing=params.packing, max_length=length)
    best = trl_trainer.BestOnValidation(validation, tokenizer.pad_token_id, device, every, scratch, what)
    lines = trl_trainer.StepLines(what, {"loss": "loss"})
    with library_warnings_off():
        trainer = SFTTrainer(
            model, config, train_dataset=make_dataset(train), processing_class=tokenizer, callbacks=[best, lines]
        )
    rows = len(trainer.train_dataset)
    if rows < params.batch_size:
        kind = f"packs of {params.max_length_tokens} tokens" if params.packing else "chats"
        raise InputError(f"params.yaml: `batch_size` = {params.batch_size}, but there are only {rows} {kind}; lower it")
    for folder in scratch.glob("checkpoint-*"):
        if not (folder / trl_trainer.SPENT_FILE).is_file():  # written last: the run was killed while it saved
            discard(folder)
    checkpoint: str | None = get_last_checkpoint(str(scratch)) if scratch.is_dir() else None  # type: ignore[no-untyped-call]
    resumed = int(checkpoint.rsplit("-", 1)[1]) if checkpoint else 0
    if checkpoint:
        print(f"{what}: resumes after step {resumed} ({checkpoint})", file=sys.stderr)
    if checkpoint and resumed == params.max_steps:
        # All that was left was to save the model; the trainer would take one step more.
        trainer.state = TrainerState.load_from_json(f"{checkpoint}/trainer_state.json")
        for one in (best, lines):
            one.on_train_begin(trainer.args, trainer.state, trainer.control)
    else:
        with library_warnings_off():
            trl_trainer.start_training(trainer, checkpoint)
    steps = trl_trainer.read_steps(trainer, what, COLUMNS)
    if trainer.is_world_process_zero():
        best.restore(model)
    model.eval()
    return Fit(steps, best.losses, lines.tokens, lines.spent, lines.step_seconds, resumed)


def fit_metrics(done: Fit, model: CausalLM) -> dict[str, float]:
    """What a training reached, for the metrics."""
    losses = done.validation_losses
    best_step = min(losses, key=lambda step: (losses[step], step))
    return {
        "best_step": best_step,
        "validation_loss_before": losses[0],
        "validation_loss": losses[best_step],
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "total_parameters": sum(p.numel() for p in model.parameters()),
        "tokens": done.tokens,
    }
