"""What all runs of TRL's trainers have in common: quiet, seeded, offline, with a line every few seconds."""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from assay.compute.device import Device
from assay.core.errors import InputError
from assay.core.outputs import read_json, write_json
from assay.core.progress import SECONDS_BETWEEN_LINES
from assay.core.seeds import derived_seed
from assay.language_models.chat_template import TokenisedChat
from assay.language_models.checkpoint import CausalLM, answer_likelihood

VALIDATION_BATCH = 8
"""Chats in a forward pass of a look at validation."""


def trainer_arguments(
    scratch: Path,
    device: Device,
    seed: int,
    *,
    batch_size: int,
    gradient_accumulation_steps: int,
    max_steps: int,
    learning_rate: float,
    weight_decay: float,
    warmup_fraction: float,
    max_grad_norm: float,
    gradient_checkpointing: bool,
) -> dict[str, Any]:
    """Arguments of transformers' `TrainingArguments`, and so of every config of TRL's.

    Args:
        scratch: for the trainer's own files.
        device: where and in which precision to run.
        seed: of the run.
        batch_size: rows of one step, over all processes.
        gradient_accumulation_steps: parts of a step, one after the other; several processes share them out,
            and where that does not come out even, each puts its own share through in so many.
        max_steps: of the optimiser.
        learning_rate: the highest; it rises in a line over the warm-up, and falls along a cosine to 0.
        weight_decay: decoupled, as AdamW has it.
        warmup_fraction: share of the steps.
        max_grad_norm: longer gradients are shortened to it.
        gradient_checkpointing: activations are computed again in the backward pass, which takes time and saves memory.

    Raises:
        InputError: the batch cannot be dealt out evenly.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    parts = (
        gradient_accumulation_steps
        if gradient_accumulation_steps % processes
        else gradient_accumulation_steps // processes
    )
    rows, left = divmod(batch_size, parts * processes)
    if left or not rows:
        raise InputError(
            f"params.yaml: `batch_size` = {batch_size} cannot be dealt out evenly to {processes} process(es) in "
            f"{parts} part(s) each; make it a multiple of {parts * processes}"
        )
    return {
        "output_dir": str(scratch),
        "seed": derived_seed(seed, "trainer") % 2**32,
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": parts,
        "max_steps": max_steps,
        "learning_rate": learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": round(warmup_fraction * max_steps),
        "weight_decay": weight_decay,
        "max_grad_norm": max_grad_norm,
        "activation_checkpointing": gradient_checkpointing,
        "activation_checkpointing_kwargs": {"use_reentrant": False},
        "bf16": device.precision == torch.bfloat16,
        "use_cpu": device.device.type == "cpu",
        "dataloader_pin_memory": device.device.type == "cuda",
        "dataloader_drop_last": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "log_level": "error",
    }


class StepLines(TrainerCallback):
    """Says how far a trainer is, a line every few seconds, and adds up the seconds of its steps (`step_seconds`).

    Args:
        what: name of the work.
        shown: what of the trainer's log is shown, with the name that it gets in the line.
    """

    def __init__(self, what: str, shown: Mapping[str, str]) -> None:
        self.what = what
        self.shown = shown
        self.started = self.last = time.monotonic()
        self.step_seconds = 0.0
        self.step_began = self.started

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        """Start the clock of the step."""
        self.step_began = time.monotonic()

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any
    ) -> None:
        """Stop it."""
        self.step_seconds += time.monotonic() - self.step_began

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **rest: Any,
    ) -> None:
        """Print a line, if it is time."""
        now = time.monotonic()
        if not state.is_world_process_zero or logs is None or now - self.last < SECONDS_BETWEEN_LINES:
            return
        self.last = now
        left = (now - self.started) / max(state.global_step, 1) * (state.max_steps - state.global_step)
        values = ", ".join(f"{name} {float(logs[key]):.3f}" for key, name in self.shown.items() if key in logs)
        print(
            f"{self.what}: {state.global_step}/{state.max_steps} step ({values}; {left:.0f} s left)",
            file=sys.stderr,
            flush=True,
        )


@contextmanager
def library_warnings_off() -> Iterator[None]:
    """Leave the terminal to the stage: trainers warn of much that is as it is on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def without_own_prints(trainer: Any) -> None:
    """Take the callback out by which a trainer without a progress bar prints every log as a dictionary."""
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)


def step_table(history: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> pl.DataFrame:
    """What a trainer logged of its steps.

    Args:
        history: `trainer.state.log_history`.
        columns: keys of the log, with the names that they get.

    Returns:
        `step`, and the columns as Float64; null where a step has no such value.
    """
    rows = [
        {"step": entry["step"], **{name: entry.get(key) for key, name in columns.items()}}
        for entry in history
        if any(key in entry for key in columns)
    ]
    return pl.DataFrame(rows, schema={"step": pl.Int64, **dict.fromkeys(columns.values(), pl.Float64)}, strict=False)


def mean_loss(model: CausalLM, chats: list[TokenisedChat], padding_id: int, device: Device) -> float:
    """Mean negative log-likelihood of the answers' tokens, in nats."""
    was_training = model.training
    model.eval()
    likelihood = answer_likelihood(model, chats, padding_id, VALIDATION_BATCH, device, None)
    model.train(was_training)
    return float(-likelihood.log_probabilities.sum() / likelihood.tokens.sum())


class BestOnValidation(TrainerCallback):
    """Looks at validation now and then, and keeps the weights that did best.

    Args:
        chats: of the validation split.
        padding_id: fills short chats up.
        device: where and in which precision to run.
        every: steps between two looks; there is one before the first step and one after the last.
        folder: gets the looks and the best weights, so that a run that goes on knows them.
        what: name of the work.
    """

    def __init__(
        self, chats: list[TokenisedChat], padding_id: int, device: Device, every: int, folder: Path, what: str
    ) -> None:
        self.what = what
        self.chats, self.padding_id, self.device, self.every = chats, padding_id, device, every
        self.looks_file, self.weights_file = folder / "looks.json", folder / "best.pt"
        self.looks: dict[int, float] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **rest: Any
    ) -> None:
        """Take up the looks of a run that was killed, or take the first."""
        if state.global_step and self.looks_file.is_file():
            known = read_json(self.looks_file)
            self.looks = {int(step): loss for step, loss in known.items() if int(step) <= state.global_step}
        else:
            self._look(state, model)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **rest: Any
    ) -> None:
        """Look, if it is time."""
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self._look(state, model)

    def _look(self, state: TrainerState, model: Any) -> None:
        loss = mean_loss(model, self.chats, self.padding_id, self.device)
        is_best = loss < min(self.looks.values(), default=math.inf)
        self.looks[state.global_step] = loss
        if not state.is_world_process_zero:
            return
        if not math.isfinite(loss):
            raise InputError(
                f"the validation loss after step {state.global_step} is {loss}; lower `learning_rate` or "
                "`max_grad_norm`"
            )
        print(f"{self.what}: step {state.global_step}/{state.max_steps}: validation loss {loss:.4f}", file=sys.stderr)
        self.weights_file.parent.mkdir(parents=True, exist_ok=True)
        if is_best:
            torch.save([p.detach() for p in model.parameters() if p.requires_grad], self.weights_file)
        write_json(self.looks_file, {str(step): value for step, value in self.looks.items()})

    def restore(self, model: CausalLM) -> None:
        """Put the best weights back."""
        trained = [p for p in model.parameters() if p.requires_grad]
        with torch.no_grad():
            for parameter, best in zip(trained, torch.load(self.weights_file, weights_only=True), strict=True):
                parameter.copy_(best)
