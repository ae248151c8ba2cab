"""What all runs of TRL's trainers have in common: quiet, seeded, offline, with a line every few seconds."""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import torch
import yaml
from transformers import TrainerCallback, TrainerState

from assay.compute.cost import Spent
from assay.compute.device import Device
from assay.core.errors import InputError
from assay.core.outputs import read_json, write_json
from assay.core.progress import GOES_ON, SECONDS_BETWEEN_LINES, library_warnings_off, warn_once
from assay.core.seeds import derived_seed, seed_32
from assay.fine_tuning.trainer_params import TrainerParams
from assay.language_models.chat_template import TokenisedChat
from assay.language_models.checkpoint import CausalLM, answer_likelihood

VALIDATION_BATCH = 8
"""Chats in a forward pass of an evaluation."""

SPENT_FILE = "spent.json"
SPARE_BYTES = 32 << 20
"""Of a checkpoint, beside weights and the two moments of each: the tokenizer, and the state of the trainer."""
TRL_REFERENCE = "ref"
"""Under this name TRL's trainers keep a copy of an adapter that is trained further."""


def trainer_arguments(
    params: TrainerParams, scratch: Path, device: Device, seed: int, weight_decay: float = 0.0
) -> dict[str, Any]:
    """Arguments of every config of TRL's; an `InputError` if the batch cannot be divided evenly."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    parts = params.gradient_accumulation_steps
    parts = parts if parts % processes else parts // processes
    rows, left = divmod(params.batch_size, parts * processes)
    if left or not rows:
        raise InputError(
            f"params.yaml: `batch_size` = {params.batch_size} cannot be divided evenly among {processes} process(es) "
            f"in {parts} part(s) each; make it a multiple of {parts * processes}"
        )
    return {
        "output_dir": str(scratch),
        "seed": seed_32(derived_seed(seed, "trainer")),
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": parts,
        "max_steps": params.max_steps,
        "learning_rate": params.learning_rate,
        "warmup_steps": round(params.warmup_fraction * params.max_steps),
        "weight_decay": weight_decay,
        "max_grad_norm": params.max_grad_norm,
        "activation_checkpointing": params.gradient_checkpointing,
        "bf16": device.precision == torch.bfloat16,
        "use_cpu": device.device.type == "cpu",
        "dataloader_pin_memory": device.device.type == "cuda",
        **yaml.safe_load(Path(__file__).with_name("trl_settings.yaml").read_text(encoding="utf-8")),
    }


class StepLines(TrainerCallback):
    """Says how far a trainer is, a line every few seconds, and adds up what was spent and the tokens TRL counted.

    `shown` is what of the trainer's log is shown, with the name that it gets in the line. A run that is killed and
    resumes goes on from the sums of its checkpoint, which stand in it; TRL would begin at 0.
    """

    def __init__(self, what: str, shown: Mapping[str, str]) -> None:
        self.what, self.shown = what, shown
        self.began, self.earlier = Spent.now(), Spent()
        self.last = self.step_began = time.monotonic()
        self.step_seconds, self.tokens, self.earlier_tokens = 0.0, 0, 0

    @property
    def spent(self) -> Spent:
        """By all stretches of the run."""
        return self.earlier.plus(Spent.now().since(self.began))

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **rest: Any) -> None:
        """Take up what a run that was killed had spent."""
        if state.global_step:
            known = read_json(Path(args.output_dir, f"checkpoint-{state.global_step}", SPENT_FILE))
            self.step_seconds, self.tokens = known.pop("step_seconds"), known.pop("tokens")
            self.earlier_tokens = self.tokens
            self.earlier = Spent(**known)

    def on_save(self, args: Any, state: TrainerState, control: Any, **rest: Any) -> None:
        """Write down what was spent, as the last file of the checkpoint: without it, that is none."""
        if state.is_world_process_zero:
            sums = {"step_seconds": self.step_seconds, "tokens": self.tokens}
            file = Path(args.output_dir, f"checkpoint-{state.global_step}", SPENT_FILE)
            write_json(file, {**asdict(self.spent), **sums})

    def on_step_begin(self, *_: Any, **rest: Any) -> None:
        """Start the clock of the step."""
        self.step_began = time.monotonic()

    def on_optimizer_step(self, *_: Any, **rest: Any) -> None:
        """Stop it."""
        self.step_seconds += time.monotonic() - self.step_began

    def on_log(self, args: Any, state: TrainerState, control: Any, logs: Any = None, **rest: Any) -> None:
        """Count tokens, and print a line, if it is time."""
        self.tokens = self.earlier_tokens + int((logs or {}).get("num_tokens", self.tokens - self.earlier_tokens))
        now = time.monotonic()
        if not state.is_world_process_zero or logs is None or now - self.last < SECONDS_BETWEEN_LINES:
            return
        self.last = now
        left = self.spent.seconds / max(state.global_step, 1) * (state.max_steps - state.global_step)
        values = ", ".join(f"{name} {float(logs[key]):.3f}" for key, name in self.shown.items() if key in logs)
        line = f"{self.what}: {state.global_step}/{state.max_steps} step ({values}; {left:.0f} s left)"
        print(line, file=sys.stderr, flush=True)


def run_trainer(
    make: Callable[[list[TrainerCallback]], Any],
    what: str,
    shown: Mapping[str, str],
    columns: Mapping[str, str],
    also: str = "",
) -> pl.DataFrame:
    """Train with one of TRL's trainers, and delete its scratch folder; arguments as of `StepLines` and `read_steps`."""
    with library_warnings_off():
        trainer = make([StepLines(what, shown)])
        try:
            start_training(trainer)
        finally:
            shutil.rmtree(trainer.args.output_dir, ignore_errors=True)
    forget_trl_reference(trainer.model)
    return read_steps(trainer, what, columns, also)


def start_training(trainer: Any, checkpoint: str | None = None) -> None:
    """Train, or resume from a checkpoint."""
    from transformers.trainer_callback import PrinterCallback

    # Without a progress bar it prints every log as a dictionary.
    trainer.remove_callback(PrinterCallback)
    # TRL puts what is trained on a base in 4 bits into bfloat16, in which small steps vanish.
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    trainer.train(resume_from_checkpoint=checkpoint)


def forget_trl_reference(model: CausalLM) -> None:
    """Remove the copy that TRL keeps of an adapter from a model, so that it is not saved with it."""
    if TRL_REFERENCE in getattr(model, "peft_config", {}):
        model.delete_adapter(TRL_REFERENCE)
        model.set_adapter("default")


def read_steps(trainer: Any, what: str, columns: Mapping[str, str], also: str = "") -> pl.DataFrame:
    """What a trainer logged of its steps: `step`, and the columns as Float64, null where a step has no such value.

    The columns are keys of the log with the names that they get, `loss` and `learning_rate` among them; `what` is the
    stage, such as `sft@lora`, and `also` what else helps where a loss is not finite, for the `InputError`.
    """
    rows = [
        {"step": entry["step"], **{name: entry.get(key) for key, name in columns.items()}}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
    schema = {"step": pl.Int64, **dict.fromkeys(columns.values(), pl.Float64)}
    steps = pl.DataFrame(rows, schema=schema, strict=False)
    unsound = steps.filter(~pl.col("loss").is_finite())
    if unsound.height:
        (step, loss, rate), section = unsound.select("step", "loss", "learning_rate").row(0), what.replace("@", ".")
        raise InputError(
            f"{what}: the loss of step {step} is {loss} at a learning rate of {rate:.3g}; lower "
            f"`{section}.learning_rate` or `{section}.max_grad_norm`{also}"
        )
    return steps


def mean_loss(model: CausalLM, chats: list[TokenisedChat], padding_id: int, device: Device) -> float:
    """Mean negative log-likelihood of the answers' tokens, in nats."""
    was_training = model.training
    model.eval()
    likelihood = answer_likelihood(model, chats, padding_id, VALIDATION_BATCH, device, None)
    model.train(was_training)
    return float(-likelihood.log_probabilities.sum() / likelihood.tokens.sum())


class BestOnValidation(TrainerCallback):
    """Evaluates on validation chats before the first step, every so many and after the last; keeps the best weights.

    The folder gets the losses and those weights, so that a resumed run knows them; where they cannot be written, memory
    holds the weights. A checkpoint that the disk has no room for is left out, which Trainer would end with.
    """

    def __init__(
        self, chats: list[TokenisedChat], padding_id: int, device: Device, every: int, folder: Path, what: str
    ) -> None:
        self.chats, self.padding_id, self.device, self.every, self.what = chats, padding_id, device, every, what
        self.losses_file, self.weights_file = folder / "losses.json", folder / "best.pt"
        self.losses: dict[int, float] = {}
        self.unwritten: list[torch.Tensor] = []

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, model: Any = None, **rest: Any) -> None:
        """Take up the losses of a run that was killed, or evaluate for the first time."""
        if state.global_step and self.losses_file.is_file():
            known = read_json(self.losses_file)
            self.losses = {int(step): loss for step, loss in known.items() if int(step) <= state.global_step}
        else:
            self._evaluate(state, model)

    def on_step_end(self, args: Any, state: TrainerState, control: Any, model: Any = None, **rest: Any) -> None:
        """Evaluate, if it is time."""
        if state.global_step % self.every == 0 or state.global_step == state.max_steps:
            self._evaluate(state, model)
        if control.should_save:
            weights = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
            folder = self.weights_file.parent
            if self.unwritten or shutil.disk_usage(folder).free < 3 * weights + SPARE_BYTES:
                control.should_save = False
                warn_once(f"{folder}: no room for a checkpoint; {GOES_ON}")

    def _evaluate(self, state: TrainerState, model: Any) -> None:
        loss = mean_loss(model, self.chats, self.padding_id, self.device)
        is_best = loss < min(self.losses.values(), default=math.inf)
        self.losses[state.global_step] = loss
        if not state.is_world_process_zero:
            return
        if not math.isfinite(loss):
            seen = f"the validation loss after step {state.global_step} is {loss}"
            raise InputError(f"{seen}; lower `learning_rate` or `max_grad_norm`")
        print(f"{self.what}: step {state.global_step}/{state.max_steps}: validation loss {loss:.4f}", file=sys.stderr)
        weights = [p.detach() for p in model.parameters() if p.requires_grad]
        new = self.weights_file.with_suffix(".new")
        try:
            self.weights_file.parent.mkdir(parents=True, exist_ok=True)
            if is_best:
                torch.save(weights, new)
                new.replace(self.weights_file)
                self.unwritten = []
            write_json(self.losses_file, {str(step): value for step, value in self.losses.items()})
        except (OSError, RuntimeError):
            new.unlink(missing_ok=True)
            self.unwritten = [value.cpu().clone() for value in weights] if is_best else self.unwritten
            warn_once(f"{self.weights_file}: cannot be written; memory holds these weights, and {GOES_ON}")

    def restore(self, model: CausalLM) -> None:
        """Put the best weights back."""
        trained = [p for p in model.parameters() if p.requires_grad]
        with torch.no_grad():
            kept = self.unwritten or torch.load(self.weights_file, weights_only=True)
            for parameter, best in zip(trained, kept, strict=True):
                parameter.copy_(best)
