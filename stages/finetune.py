"""Fit one approach on the train rows, once for each seed: a baseline, or a fine-tuned classifier.

`python -m stages.finetune <approach>` reads its own block `finetune.<approach>` and no other, so that changing one
approach runs that one again.

Reads `data/augmented/train.parquet` (given labels, and how much each row counts; no reference label is in it) and
`data/split/validation.parquet` (given labels, for early stopping); writes `models/finetuned/<approach>/`, loaded by
`transformers` and `peft` alone, the loss per step and the validation scores per epoch. The model of the first seed lies
in that folder itself, those of others in `seed_<seed>/` there; plots are the first one's.

A run that is killed goes on where its last checkpoint was written, in `scratch/` under the hash of all that the model
depends on. Several processes train together under `accelerate launch`: each does its share of every batch, all of them
validate, the first one writes.

An approach that this machine cannot run (QLoRA, where bitsandbytes has no 4-bit arithmetic) is left out: the reason is
printed, and kept in the place of the model and of the metrics, so that the comparison of the others goes on.

Deviations from the usual recipe:
1. The linear probe computes the frozen encoder's features once, without dropout, and trains the head on them: the
   same result as passing every batch through the encoder in evaluation mode, in a fraction of the time.
2. It trains on features of mean 0 and deviation 1 over the train rows, so that one learning rate does for every encoder
   (as in He et al. 2022, appendix A.1), and moves both into the head afterwards, which is a plain linear layer again.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch
from accelerate import Accelerator, DistributedType
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.metrics import log_loss
from sklearn.pipeline import Pipeline
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from assay.classifiers import baselines
from assay.classifiers.checkpoint import new_classifier, predict_logits, save_classifier
from assay.classifiers.predict import SEEDS_FILE
from assay.classifiers.training_loop import Checkpoint, History, Step, train, validation_scores
from assay.compute.cost import folder_mib, peak_memory_mib
from assay.compute.device import Compute, Device, prepare_device
from assay.compute.token_batches import TokenRows, tokenise
from assay.core.errors import InputError, run_stage
from assay.core.outputs import file_sha256, folder_sha256, output_folder, write_json, write_text
from assay.core.params import load_params
from assay.core.progress import quiet_libraries
from assay.core.seeds import derived_seed, generator
from assay.core.skipped import leave_out
from assay.fine_tuning.adapters import head_of
from assay.fine_tuning.params import Approach, FineTuned, LinearProbe, Majority, Qlora, Tfidf, adapted
from assay.fine_tuning.quantization import why_no_4_bit

if TYPE_CHECKING:
    import peft

TRAIN = Path("data/augmented/train.parquet")
VALIDATION = Path("data/split/validation.parquet")
OUTPUT = Path("models/finetuned")
METRICS = Path("metrics/finetune")
PLOTS = Path("metrics/plots")
SCRATCH = Path("scratch/finetune")

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "scikit-learn")
"""Their versions stand beside the metrics."""


WHOLE_MODELS = (DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
"""Ways of several processes in which each of them holds the whole model."""


@dataclass(frozen=True)
class Rows:
    """Texts, their labels, and the classes those labels stand for, shape `(rows,)` each.

    `weights`: how much each row counts in training.
    """

    ids: list[str]
    texts: list[str]
    labels: list[str]
    targets: NDArray[np.int64]
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """A model that was fitted, and what it took.

    Attributes:
        history: of the training.
        trainable_parameters: their number.
        total_parameters: the number of all, those that were trained and the others.
        seconds: of training, validation included.
        tokens: that one pass over the train rows has; 0 where the model has none.
    """

    history: History
    trainable_parameters: int
    total_parameters: int
    seconds: float
    tokens: int


def read_rows(table: pl.DataFrame, classes: list[str], path: Path) -> Rows:
    """Rows of a table with `text` and `label`, with labels numbered by their place in `classes`.

    Raises:
        InputError: a label is not among the classes.
    """
    unknown = table.filter(~pl.col("label").is_in(classes))
    if unknown.height:
        row = unknown.row(0, named=True)
        raise InputError(f"{path}: row {row['id']} has the label {row['label']!r}, which no train row has")
    number = {label: index for index, label in enumerate(classes)}
    labels = table["label"].to_list()
    targets = np.array([number[label] for label in labels], dtype=np.int64)
    has_weights = "label_weight" in table.columns
    weights = table["label_weight"].to_numpy(writable=True) if has_weights else np.ones(table.height)
    return Rows(table["id"].to_list(), table["text"].to_list(), labels, targets, weights)


def balanced(targets: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Row weights under which every class counts the same in all, with the same sum as before, shape `(rows,)`."""
    of_class = np.bincount(targets, weights=weights)
    present = np.count_nonzero(of_class)
    of_row: NDArray[np.float64] = weights * (weights.sum() / present / of_class[targets])
    return of_row


def _last_step(model: DummyClassifier | Pipeline) -> str:
    """What comes before the name of an argument that is for the classifier, not for the steps before it."""
    return f"{model.steps[-1][0]}__" if isinstance(model, Pipeline) else ""


def new_baseline(params: Majority | Tfidf) -> DummyClassifier | Pipeline:
    """The baseline of a block, not fitted."""
    if isinstance(params, Majority):
        return baselines.majority()
    return baselines.tfidf(params.max_word_ngram, params.min_document_frequency, params.C)


def model_seed(seed: int, value: int) -> int:
    """The seed of one model: the project's, where `value` is 0, so that one seed more leaves the others as they are."""
    return derived_seed(seed, str(value)) if value else seed


def fit_baseline(model: DummyClassifier | Pipeline, train_rows: Rows, validation: Rows, classes: list[str]) -> Fit:
    """Fit a baseline in place; its history is one step and one epoch."""
    started = time.perf_counter()
    model.fit(train_rows.texts, train_rows.labels, **{f"{_last_step(model)}sample_weight": train_rows.weights})
    seconds = time.perf_counter() - started
    fitted = baselines.baseline_probabilities(model, train_rows.texts, classes)
    loss = log_loss(train_rows.targets, fitted, labels=range(len(classes)))
    probabilities = baselines.baseline_probabilities(model, validation.texts, classes)
    logits = np.log(np.maximum(probabilities, 1e-12)).astype(np.float32)
    scores = validation_scores(1, logits, validation.targets)
    parameters = baselines.trainable_parameters(model)
    history = History([Step(1, float(loss), 0.0)], [scores], scores, 1, 0)
    return Fit(history, parameters, parameters, seconds, 0)


def frozen_features(model: PreTrainedModel, rows: TokenRows, batch_size: int, device: Device) -> torch.Tensor:
    """What the frozen encoder hands to the head, shape `(rows, h)`, on the device.

    Raises:
        InputError: the head of this kind of model is more than one linear layer.
    """
    name, head = head_of(model)
    if not isinstance(head, nn.Linear):
        raise InputError(
            f"params.yaml: `method: linear_probe` needs a model with one linear layer as its head; "
            f"{model.config.model_type} has {type(head).__name__}; use `lora` or `full`"
        )
    # Without its head the model answers with the head's input.
    model.set_submodule(name, nn.Identity())
    model.train(False)
    features = predict_logits(model, rows, head.in_features, batch_size, device, "features")
    model.set_submodule(name, head)
    return torch.from_numpy(features).to(device.device)


def standard_scale(features: torch.Tensor, *, centred: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """What to take from the columns of `(rows, h)`, and what to divide them by then, shape `(h,)` each.

    Args:
        features: of the train rows.
        centred: the mean is taken; else nothing is, for a head without a bias that could take it back.
    """
    mean = features.mean(dim=0) if centred else torch.zeros_like(features[0])
    deviation = (features - mean).square().mean(dim=0).sqrt()
    return mean, torch.where(deviation > 0, deviation, 1.0)


@torch.no_grad()
def undo_scale(head: nn.Linear, mean: torch.Tensor, deviation: torch.Tensor) -> None:
    """Change a head for `(x - mean) / deviation` in place into one for `x`."""
    head.weight.div_(deviation)
    if head.bias is not None:
        head.bias.sub_(head.weight @ mean)


def fit_classifier(
    params: FineTuned,
    model: PreTrainedModel | peft.PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    train_rows: Rows,
    validation: Rows,
    classes: int,
    device: Device,
    random: np.random.Generator,
    checkpoint: Checkpoint | None,
    accelerator: Accelerator | None,
) -> Fit:
    """Train the trainable parameters of `model` in place.

    Args:
        params: the approach.
        model: what `adapted` returned, on the device.
        tokenizer: of the model.
        train_rows: to train on.
        validation: to stop by.
        classes: number of classes.
        device: where and in which precision to run.
        random: source of the row order.
        checkpoint: where to keep what is needed to go on after an interruption.
        accelerator: where several processes train.
    """
    tokens = tokenise(tokenizer, train_rows.texts, params.max_length_tokens)
    held_out = tokenise(tokenizer, validation.texts, params.max_length_tokens)
    started = time.perf_counter()
    _, head = head_of(model)
    module: nn.Module = model
    if isinstance(params, LinearProbe) and isinstance(model, PreTrainedModel):
        # In full precision: they are computed once.
        exact = Device(device.device, torch.float32)
        features = frozen_features(model, tokens, params.batch_size, exact)
        mean, deviation = standard_scale(features, centred=head.bias is not None)
        features = (features - mean) / deviation
        held_out_features = (frozen_features(model, held_out, params.batch_size, exact) - mean) / deviation
        module, accelerator = head, None  # it takes a second: each process does all of it

        def train_logits(rows: NDArray[np.int64]) -> torch.Tensor:
            logits: torch.Tensor = head(features[torch.from_numpy(rows).to(device.device)])
            return logits

        @torch.inference_mode()
        def validation_logits() -> NDArray[np.float32]:
            logits: NDArray[np.float32] = head(held_out_features).float().cpu().numpy()
            return logits
    else:
        if params.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if accelerator is not None:
            module = accelerator.prepare_model(model)
        called: nn.Module = torch.compile(module, dynamic=True) if params.compile else module  # type: ignore[assignment]

        def train_logits(rows: NDArray[np.int64]) -> torch.Tensor:
            ids, mask = (tensor.to(device.device) for tensor in tokens.padded(rows))
            with device.autocast():
                logits: torch.Tensor = called(input_ids=ids, attention_mask=mask).logits
            return logits.float()

        def validation_logits() -> NDArray[np.float32]:
            return predict_logits(called, held_out, classes, params.batch_size, device, "validation")

    weights = train_rows.weights
    history = train(
        module,
        train_logits,
        train_rows.targets,
        tokens.lengths,
        lambda epoch: validation_scores(epoch, validation_logits(), validation.targets),
        max_epochs=params.max_epochs,
        patience_epochs=params.patience_epochs,
        batch_size=params.batch_size,
        gradient_accumulation_steps=params.gradient_accumulation_steps,
        learning_rate=params.learning_rate,
        weight_decay=params.weight_decay,
        warmup_fraction=params.warmup_fraction,
        max_grad_norm=params.max_grad_norm,
        label_smoothing=params.label_smoothing,
        random=random,
        row_weights=balanced(train_rows.targets, weights) if params.class_weights == "balanced" else weights,
        row_ids=train_rows.ids,
        head=list(head.parameters()),
        head_learning_rate=params.head_learning_rate,
        paged=isinstance(params, Qlora),
        checkpoint=checkpoint,
        accelerator=accelerator,
    )
    if module is head and isinstance(head, nn.Linear):
        undo_scale(head, mean, deviation)
    return Fit(
        history,
        sum(p.numel() for p in model.parameters() if p.requires_grad),
        sum(p.numel() for p in model.parameters()),
        time.perf_counter() - started,
        int(tokens.lengths.sum()),
    )


def fit_seed(
    approach: str,
    params: FineTuned,
    train_rows: Rows,
    validation: Rows,
    classes: list[str],
    device: Device,
    seed: int,
    scratch: Checkpoint | None,
    accelerator: Accelerator | None,
    folder: Path | None,
) -> Fit:
    """Load the base model, fit the approach on it and save what came out.

    Args:
        approach: its name.
        params: its block.
        train_rows: to train on.
        validation: to stop by.
        classes: names of the classes.
        device: where and in which precision to run.
        seed: of this model.
        scratch: the checkpoint; None: there is none, and an interrupted run begins anew.
        accelerator: where several processes train.
        folder: gets the model; None in processes that do not write.
    """
    if device.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device.device)
    # Before the head and the adapters draw their first values.
    torch.manual_seed(derived_seed(seed, "finetune", approach))
    quantised = params.double_quantisation if isinstance(params, Qlora) else None
    base, tokenizer = new_classifier(params.model, classes, params.pooling, quantised, device.device)
    model = adapted(params, base, "SEQ_CLS")
    if not isinstance(params, Qlora):
        model.to(device.device)  # type: ignore[arg-type]  # a wrapper of transformers hides its signature
    random = generator(seed, "finetune", approach)
    fit = fit_classifier(
        params, model, tokenizer, train_rows, validation, len(classes), device, random, scratch, accelerator
    )
    if folder is not None:
        save_classifier(model, tokenizer, params.max_length_tokens, folder)
    return fit


def scratch_folder(approach: str, seed: int, parts: list[str]) -> Path:
    """Where the checkpoints of a model are: under the hash of all that it depends on, and its seed."""
    digest = hashlib.sha256("\x1f".join([approach, str(seed), *parts]).encode()).hexdigest()
    return SCRATCH / f"{approach}-{digest[:16]}"


def fit_metrics(fit: Fit, rows: int, device: Device) -> dict[str, float]:
    """What fitting one model took, and how well it does on validation."""
    history = fit.history
    assert history.best is not None
    passes = len(history.epochs)
    return {
        "train_seconds": fit.seconds,
        "samples_per_second": rows * passes / fit.seconds,
        "tokens_per_second": fit.tokens * passes / fit.seconds,
        "peak_memory_mib": peak_memory_mib(device.device),
        "epochs": passes,
        "best_epoch": history.best.epoch,
        "steps": len(history.steps),
        "gradient_accumulation_steps": history.parts,
        "resumed_at_step": history.resumed_at_step,
        "validation_macro_f1": history.best.macro_f1,
        "validation_accuracy": history.best.accuracy,
    }


def mean_metrics(of_seeds: list[dict[str, float]]) -> dict[str, float]:
    """Quantities in the mean over the seeds, counts as the first has them."""
    return {
        name: value if isinstance(value, int) else float(np.mean([one[name] for one in of_seeds]))
        for name, value in of_seeds[0].items()
    }


@contextmanager
def written_by_the_first(path: Path, accelerator: Accelerator | None) -> Iterator[Path | None]:
    """`output_folder` in the first process; None in others."""
    if accelerator is not None and not accelerator.is_main_process:
        yield None
    else:
        with output_folder(path) as folder:
            yield folder


def main() -> None:
    """Fit the approach named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.finetune", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("approach", help="name of a block under `finetune` in params.yaml, such as lora")
    approach = parser.parse_args().approach
    seed = load_params("seed", int)
    params: Approach = load_params(f"finetune.{approach}", Approach)  # type: ignore[arg-type]
    compute = load_params("compute", Compute)
    device = prepare_device(compute)
    if isinstance(params, Qlora) and (reason := why_no_4_bit(device.device)):
        leave_out(
            f"finetune@{approach}", reason, OUTPUT / approach, METRICS / f"{approach}.json",
            {
                PLOTS / "loss" / f"{approach}.csv": "step,loss,learning_rate",
                PLOTS / "validation" / f"{approach}.csv": "epoch,loss,accuracy,macro_f1",
            },
        )  # fmt: skip
        return

    accelerator = Accelerator(cpu=device.device.type == "cpu") if int(os.environ.get("WORLD_SIZE", "1")) > 1 else None
    if accelerator is not None and accelerator.distributed_type not in WHOLE_MODELS:
        raise InputError(
            f"{accelerator.distributed_type.value}: sharded weights cannot be saved here; start with "
            "`accelerate launch --multi_gpu` (each process holds the model), and for a model that does not fit take "
            "`qlora`, or set `gradient_checkpointing`"
        )
    train_table = pl.read_parquet(TRAIN)
    validation_table = pl.read_parquet(VALIDATION)
    classes = sorted(train_table["label"].unique())
    train_rows = read_rows(train_table, classes, TRAIN)
    validation_rows = read_rows(validation_table, classes, VALIDATION)
    depends_on = {"train_sha256": file_sha256(TRAIN), "validation_sha256": file_sha256(VALIDATION)}

    fits: dict[int, Fit] = {}
    measured: dict[int, dict[str, float]] = {}
    scratch: list[Path] = []
    with written_by_the_first(OUTPUT / approach, accelerator) as folder:
        if isinstance(params, Majority | Tfidf):
            seeds = [0]
            baseline = new_baseline(params)
            fits[0] = fit_baseline(baseline, train_rows, validation_rows, classes)
            measured[0] = fit_metrics(fits[0], train_table.height, device)
            if folder is not None:
                baselines.save_baseline(baseline, folder)
        else:
            quiet_libraries()
            seeds = params.seeds
            depends_on["base_model_sha256"] = folder_sha256(Path(params.model))
            key = [params.model_dump_json(), str(device), str(compute.threads), *depends_on.values()]
            for number, value in enumerate(seeds):
                scratch.append(scratch_folder(approach, derived_seed(seed, str(value)), key))
                process = 0 if accelerator is None else accelerator.process_index
                checkpoint = Checkpoint(scratch[-1] / f"process_{process}.pt", compute.checkpoint_seconds)
                own_folder = None if folder is None else folder / f"seed_{value}" if number else folder
                own_seed = model_seed(seed, value)
                fits[value] = fit_seed(
                    approach, params, train_rows, validation_rows, classes, device, own_seed, checkpoint, accelerator,
                    own_folder,
                )  # fmt: skip
                measured[value] = fit_metrics(fits[value], train_table.height, device)
        if folder is not None:
            write_json(folder / SEEDS_FILE, {"seeds": seeds})
            artefact_mib = folder_mib(folder) / len(seeds)
    if accelerator is not None:
        # A process that is still writing its last checkpoint needs the folder.
        accelerator.wait_for_everyone()
    for path in scratch:
        shutil.rmtree(path, ignore_errors=True)
    if folder is None:
        return

    first = fits[seeds[0]]
    steps = pl.DataFrame([asdict(step) for step in first.history.steps])
    epochs = pl.DataFrame([asdict(epoch) for epoch in first.history.epochs])
    write_text(PLOTS / "loss" / f"{approach}.csv", steps.write_csv(float_precision=6))
    write_text(PLOTS / "validation" / f"{approach}.csv", epochs.write_csv(float_precision=6))
    write_json(
        METRICS / f"{approach}.json",
        {
            "rows_train": train_table.height,
            "rows_validation": validation_table.height,
            "trainable_parameters": first.trainable_parameters,
            "total_parameters": first.total_parameters,
            "artefact_mib": artefact_mib,
            **mean_metrics(list(measured.values())),
            "per_seed": {str(value): of_seed for value, of_seed in measured.items()},
            "device": str(device.device),
            "precision": str(device.precision).removeprefix("torch."),
            "threads": compute.threads,
            "processes": 1 if accelerator is None else accelerator.num_processes,
            "versions": {name: version(name) for name in PACKAGES},
            **depends_on,
        },
    )


if __name__ == "__main__":
    run_stage(main)
