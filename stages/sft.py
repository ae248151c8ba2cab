"""Fine-tune a language model on chats, by one approach: `python -m stages.sft <approach>`.

Reads its own block `sft.<approach>` and no other, the base `language_model`, `data/instruct/train.parquet`, and
`validation.parquet` to see how the loss on held-out answers goes; writes `models/sft/<approach>/`, loaded by
`transformers` and `peft` alone, and the loss of each step and of each look at validation. The work is done by TRL's
`SFTTrainer`.

The loss is taken on the tokens of answers alone, each of them counting the same. With `packing` several chats share a
row of `max_length_tokens`, which saves the padding; positions start anew with each, and attention does not cross from
one to the next. A learnt prompt or prefix stands before a row, not before each chat in it, so these do without.

Of the looks at validation the one with the lowest loss says which weights are kept. A run that is killed goes on from
the last look, in `scratch/` under the hash of all that the model depends on. Several processes train together under
`accelerate launch`: each does its share of every batch, the first one writes.

An approach that this machine cannot run (QLoRA, where bitsandbytes has no 4-bit arithmetic) is left out: the reason is
printed, and kept in the place of the model and of the metrics, so that the comparison of the others goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import shutil
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import polars as pl
import torch
from pydantic import Field, model_validator

from assay.compute.cost import folder_mib, peak_memory_mib
from assay.compute.device import Compute, Device, prepare_device
from assay.core.errors import InputError, run_stage
from assay.core.outputs import file_sha256, folder_sha256, output_folder, write_json, write_text
from assay.core.params import Params, load_params
from assay.core.progress import quiet_libraries
from assay.core.seeds import derived_seed, generator
from assay.core.skipped import leave_out
from assay.fine_tuning.params import (
    Ia3Adapter,
    LearntPrefix,
    LearntPrompt,
    LoraAdapter,
    QloraAdapter,
    WholeModel,
    adapted,
)
from assay.fine_tuning.quantization import why_no_4_bit
from assay.language_models.chat_template import TokenisedChat, tokenised_chats
from assay.language_models.checkpoint import CausalLM, load_base, save_causal_lm

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase
    from trl import SFTConfig

TRAIN = Path("data/instruct/train.parquet")
VALIDATION = Path("data/instruct/validation.parquet")
OUTPUT = Path("models/sft")
METRICS = Path("metrics/sft")
PLOTS = Path("metrics/plots/sft_loss")
SCRATCH = Path("scratch/sft")

PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes")
"""Their versions stand beside the metrics."""


class Training(Params):
    """What every approach needs."""

    max_length_tokens: int = Field(ge=16, le=131072)
    packing: bool
    batch_size: int = Field(ge=1, le=65536)
    gradient_accumulation_steps: int = Field(ge=1, le=65536)
    max_steps: int = Field(ge=1)
    num_evaluations: int = Field(ge=1)
    validation_rows: int = Field(ge=1)
    learning_rate: float = Field(gt=0, le=1)
    weight_decay: float = Field(ge=0, le=1)
    warmup_fraction: float = Field(ge=0, lt=1)
    max_grad_norm: float = Field(gt=0)
    gradient_checkpointing: bool

    @model_validator(mode="after")
    def _looks_fit(self) -> Training:
        if self.num_evaluations > self.max_steps:
            raise ValueError(f"`num_evaluations` {self.num_evaluations} is more than `max_steps` has room for")
        return self


class Unpacked(Training):
    """What an approach needs whose learnt vectors stand before a row."""

    @model_validator(mode="after")
    def _not_packed(self) -> Unpacked:
        if self.packing:
            raise ValueError(
                "`packing` must be false: what is learnt stands before a row, and only its first chat would see it"
            )
        return self


class Lora(Training, LoraAdapter):
    """Low-rank adapters."""


class Qlora(Training, QloraAdapter):
    """Low-rank adapters on a base in 4 bits."""


class PromptTuning(Unpacked, LearntPrompt):
    """A learnt prompt."""


class PrefixTuning(Unpacked, LearntPrefix):
    """A learnt prefix in every layer."""


class Ia3(Training, Ia3Adapter):
    """Learnt scales."""


class Full(Training, WholeModel):
    """Every parameter."""


Approach = Annotated[Lora | Qlora | PromptTuning | PrefixTuning | Ia3 | Full, Field(discriminator="method")]


@dataclass(frozen=True)
class Chats:
    """Chats that fit, tokenised, and how many did not.

    Attributes:
        kept: with labels on answers.
        too_long: number of chats of more tokens than allowed.
    """

    kept: list[TokenisedChat]
    too_long: int


def read_chats(path: Path, tokenizer: PreTrainedTokenizerBase, max_length_tokens: int) -> Chats:
    """The chats of a file that are short enough.

    Raises:
        InputError: no chat fits, or one has no token to learn.
    """
    table = pl.read_parquet(path, columns=["id", "messages"])
    chats = tokenised_chats(tokenizer, table["messages"].to_list())
    for name, chat in zip(table["id"], chats, strict=True):
        if not chat.answer_tokens:
            raise InputError(f"{path}: row {name} has no answer to learn; the last message must be the assistant's")
    kept = [chat for chat in chats if len(chat.input_ids) <= max_length_tokens]
    if not kept:
        raise InputError(
            f"{path}: none of {len(chats)} chats has at most {max_length_tokens} tokens; raise `max_length_tokens`"
        )
    return Chats(kept, len(chats) - len(kept))


def dataset_of(chats: list[TokenisedChat]) -> Dataset:
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
        looks: validation loss by step.
        tokens: that the model learnt from or read before an answer, padding not counted.
        seconds: of training, looks included.
        step_seconds: of the steps alone.
        resumed_at_step: where a run that was killed went on; 0: it was not.
    """

    steps: pl.DataFrame
    looks: dict[int, float]
    tokens: int
    seconds: float
    step_seconds: float
    resumed_at_step: int


def trainer_config(params: Training, device: Device, seed: int, scratch: Path, every: int) -> SFTConfig:
    """The params as TRL's configuration, with a checkpoint in `scratch` every so many steps."""
    from trl import SFTConfig

    from assay.language_models.trl_trainer import trainer_arguments

    arguments = trainer_arguments(
        scratch, device, seed,
        batch_size=params.batch_size,
        gradient_accumulation_steps=params.gradient_accumulation_steps,
        max_steps=params.max_steps,
        learning_rate=params.learning_rate,
        weight_decay=params.weight_decay,
        warmup_fraction=params.warmup_fraction,
        max_grad_norm=params.max_grad_norm,
        gradient_checkpointing=params.gradient_checkpointing,
    )  # fmt: skip
    checkpoints = {"save_strategy": "steps", "save_steps": every, "save_total_limit": 1}
    length = params.max_length_tokens if params.packing else None
    return SFTConfig(**(arguments | checkpoints), packing=params.packing, max_length=length)


def fit(
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

    Args:
        params: the approach.
        model: of `adapted`, on the device.
        tokenizer: of the model.
        train: chats to learn.
        validation: chats to choose weights by.
        device: where and in which precision to run.
        seed: of the order of chats and of dropout.
        scratch: for checkpoints; where there is one, training goes on from it.
        what: name of the work, for the progress report.

    Raises:
        InputError: the loss is not finite, or there are too few chats for one batch.
    """
    # Imported here: they take seconds, and errors of the params come without them.
    from transformers.trainer_utils import get_last_checkpoint
    from trl import SFTTrainer

    from assay.language_models.trl_trainer import (
        BestOnValidation,
        StepLines,
        library_warnings_off,
        step_table,
        without_own_prints,
    )

    started = time.perf_counter()
    every = -(-params.max_steps // params.num_evaluations)
    config = trainer_config(params, device, seed, scratch, every)
    best = BestOnValidation(validation, tokenizer.pad_token_id, device, every, scratch, what)
    lines = StepLines(what, {"loss": "loss"})
    with library_warnings_off():
        trainer = SFTTrainer(
            model, config, train_dataset=dataset_of(train), processing_class=tokenizer, callbacks=[best, lines]
        )
    rows = len(trainer.train_dataset)
    if rows < params.batch_size:
        kind = f"packs of {params.max_length_tokens} tokens" if params.packing else "chats"
        raise InputError(f"params.yaml: `batch_size` = {params.batch_size}, but there are only {rows} {kind}; lower it")
    without_own_prints(trainer)
    # TRL puts what is trained on a base in 4 bits into bfloat16, in which small steps vanish.
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    checkpoint: str | None = get_last_checkpoint(str(scratch)) if scratch.is_dir() else None  # type: ignore[no-untyped-call]
    resumed = int(checkpoint.rsplit("-", 1)[1]) if checkpoint else 0
    if checkpoint:
        print(f"{what}: goes on after step {resumed} ({checkpoint})", file=sys.stderr)
    with library_warnings_off():
        trainer.train(resume_from_checkpoint=checkpoint)
    columns = {"loss": "loss", "learning_rate": "learning_rate", "grad_norm": "gradient_norm"}
    steps = step_table(trainer.state.log_history, columns)
    unsound = steps.filter(~pl.col("loss").is_finite())
    if unsound.height:
        step, loss = unsound.row(0)[:2]
        raise InputError(f"{what}: the loss of step {step} is {loss}; lower `learning_rate` or `max_grad_norm`")
    if trainer.is_world_process_zero():
        best.restore(model)
    model.eval()
    tokens = max((int(entry.get("num_tokens", 0)) for entry in trainer.state.log_history), default=0)
    return Fit(steps, best.looks, tokens, time.perf_counter() - started, lines.step_seconds, resumed)


def loss_curve(done: Fit) -> pl.DataFrame:
    """`step`, `loss` and `validation_loss`, null where a step has none."""
    looks = pl.DataFrame({"step": list(done.looks), "validation_loss": list(done.looks.values())})
    curve = looks.join(done.steps, on="step", how="full", coalesce=True).sort("step")
    return curve.select("step", "loss", "validation_loss")


def fit_metrics(done: Fit, model: CausalLM, artefact_mib: float) -> dict[str, float]:
    """What a training reached and what it took, for the metrics."""
    best_step = min(done.looks, key=lambda step: (done.looks[step], step))
    return {
        "best_step": best_step,
        "resumed_at_step": done.resumed_at_step,
        "validation_loss_before": done.looks[0],
        "validation_loss": done.looks[best_step],
        "validation_perplexity_before": math.exp(done.looks[0]),
        "validation_perplexity": math.exp(done.looks[best_step]),
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "total_parameters": sum(p.numel() for p in model.parameters()),
        "artefact_mib": artefact_mib,
        "train_seconds": done.seconds,
        "tokens": done.tokens,
        "tokens_per_second": done.tokens / done.step_seconds,
    }


def machine(device: Device, compute: Compute) -> dict[str, float | str]:
    """Where a training ran, for the metrics."""
    return {
        "peak_memory_mib": peak_memory_mib(device.device),
        "device": str(device.device),
        "precision": str(device.precision).removeprefix("torch."),
        "threads": compute.threads,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
    }


def input_hashes(base_model: str) -> dict[str, str]:
    """SHA-256 of all that a training reads."""
    return {
        "train_sha256": file_sha256(TRAIN),
        "validation_sha256": file_sha256(VALIDATION),
        "base_model_sha256": folder_sha256(Path(base_model)),
    }


def scratch_folder(approach: str, parts: list[str]) -> Path:
    """Where the checkpoints of a run are: under the hash of all that it depends on."""
    digest = hashlib.sha256("\x1f".join([approach, *parts]).encode()).hexdigest()
    return SCRATCH / f"{approach}-{digest[:16]}"


def main() -> None:
    """Fine-tune by the approach named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.sft", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("approach", help="name of a block under `sft` in params.yaml, such as lora")
    approach = parser.parse_args().approach
    seed = load_params("seed", int)
    params: Approach = load_params(f"sft.{approach}", Approach)  # type: ignore[arg-type]
    base_model = load_params("language_model", str)
    compute = load_params("compute", Compute)
    device = prepare_device(compute)
    if isinstance(params, Qlora) and (reason := why_no_4_bit(device.device)):
        leave_out(
            f"sft@{approach}", reason, OUTPUT / approach, METRICS / f"{approach}.json",
            {PLOTS / f"{approach}.csv": "step,loss,validation_loss"},
        )  # fmt: skip
        return
    quiet_libraries()
    # Asked for before training: where a package is missing, no run is lost.
    versions = {name: version(name) for name in PACKAGES}

    # Before the adapters draw their first values.
    own_seed = derived_seed(seed, "sft", approach)
    torch.manual_seed(own_seed)
    quantised = params.double_quantisation if isinstance(params, Qlora) else None
    base, tokenizer = load_base(base_model, device.device, quantised)
    train = read_chats(TRAIN, tokenizer, params.max_length_tokens)
    validation = read_chats(VALIDATION, tokenizer, params.max_length_tokens)
    model: CausalLM = adapted(params, base, "CAUSAL_LM")
    if not isinstance(params, Qlora):
        model.to(device.device)
    looked_at = generator(seed, "sft", "validation").permutation(len(validation.kept))[: params.validation_rows]
    depends_on = input_hashes(base_model)
    key = [params.model_dump_json(), str(own_seed), str(device), str(compute.threads), *depends_on.values()]
    scratch = scratch_folder(approach, key)
    done = fit(
        params, model, tokenizer, train.kept, [validation.kept[row] for row in sorted(looked_at)], device, own_seed,
        scratch, f"sft@{approach}",
    )  # fmt: skip
    if int(os.environ.get("RANK", "0")):
        return
    with output_folder(OUTPUT / approach) as folder:
        save_causal_lm(model, tokenizer, folder)
        artefact_mib = folder_mib(folder)
    shutil.rmtree(scratch, ignore_errors=True)

    write_text(PLOTS / f"{approach}.csv", loss_curve(done).write_csv(float_precision=6))
    write_json(
        METRICS / f"{approach}.json",
        {
            "chats_train": len(train.kept),
            "chats_too_long": train.too_long,
            "chats_validation": len(looked_at),
            "steps": params.max_steps,
            **fit_metrics(done, model, artefact_mib),
            **machine(device, compute),
            "versions": versions,
            **depends_on,
        },
    )


if __name__ == "__main__":
    run_stage(main)
