"""Fit one approach on the train rows: a baseline, or a fine-tuned classifier.

`python -m stages.finetune <approach>` reads its own block `finetune.<approach>` and no other, so that changing one
approach runs that one again.

Reads `data/augmented/train.parquet` (given labels, and how much each row counts; no reference label is in it) and
`data/split/validation.parquet` (given labels, for early stopping); writes `models/finetuned/<approach>/`, loaded by
`transformers` and `peft` alone, the loss per step and the validation scores per epoch.

Deviations from the usual recipe:
1. The linear probe computes the frozen encoder's features once, without dropout, and trains the head on them: the
   same result as passing every batch through the encoder in evaluation mode, in a fraction of the time.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import Field
from sklearn.dummy import DummyClassifier
from sklearn.metrics import log_loss
from sklearn.pipeline import Pipeline
from torch import nn
from transformers import PreTrainedModel

from stages.lib import adapters, baselines
from stages.lib.artifacts import output_folder, write_json, write_text
from stages.lib.batches import TokenRows, tokenise
from stages.lib.classifier import new_classifier, predict_logits, save_classifier
from stages.lib.cost import folder_mib, peak_memory_mib
from stages.lib.device import Compute, Device, prepare_device
from stages.lib.errors import InputError, run_stage
from stages.lib.params import Params, load_params
from stages.lib.progress import quiet_libraries
from stages.lib.randomness import derived_seed, generator
from stages.lib.training import History, Step, train, validation_scores

if TYPE_CHECKING:
    import peft

TRAIN = Path("data/augmented/train.parquet")
VALIDATION = Path("data/split/validation.parquet")
OUTPUT = Path("models/finetuned")
METRICS = Path("metrics/finetune")
PLOTS = Path("metrics/plots")


class Majority(Params):
    """The most frequent label, always."""

    method: Literal["majority"]


class Tfidf(Params):
    """TF-IDF and logistic regression."""

    method: Literal["tfidf"]
    max_word_ngram: int = Field(ge=1, le=5)
    min_document_frequency: int = Field(ge=1)
    l2_strength: float = Field(gt=0)


class Training(Params):
    """What every fine-tuned approach needs."""

    model: str
    max_length_tokens: int = Field(ge=4, le=131072)
    max_epochs: int = Field(ge=1, le=1000)
    patience_epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1, le=65536)
    learning_rate: float = Field(gt=0, le=1)
    weight_decay: float = Field(ge=0, le=1)
    warmup_fraction: float = Field(ge=0, lt=1)
    max_gradient_norm: float = Field(gt=0)


class LinearProbe(Training):
    """A linear head on the frozen encoder."""

    method: Literal["linear_probe"]


class Lora(Training):
    """Low-rank adapters."""

    method: Literal["lora"]
    rank: int = Field(ge=1, le=1024)
    alpha: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)
    target_modules: str | list[str]


class Full(Training):
    """Every parameter."""

    method: Literal["full"]


Approach = Annotated[Majority | Tfidf | LinearProbe | Lora | Full, Field(discriminator="method")]


@dataclass(frozen=True)
class Rows:
    """Texts, their labels, and the classes those labels stand for, shape `(rows,)` each.

    `weights`: how much each row counts in training; None where all count the same.
    """

    texts: list[str]
    labels: list[str]
    targets: NDArray[np.int64]
    weights: NDArray[np.float64] | None


@dataclass(frozen=True)
class Cost:
    """Parameters of a fit, and its wall-clock time."""

    trainable_parameters: int
    total_parameters: int
    train_seconds: float


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
    weights = table["label_weight"].to_numpy() if "label_weight" in table.columns else np.ones(table.height)
    return Rows(table["text"].to_list(), labels, targets, None if (weights == 1).all() else weights)


def _last_step(model: DummyClassifier | Pipeline) -> str:
    """What comes before the name of an argument that is for the classifier, not for the steps before it."""
    return f"{model.steps[-1][0]}__" if isinstance(model, Pipeline) else ""


def fit_baseline(
    model: DummyClassifier | Pipeline, train_rows: Rows, validation: Rows, classes: list[str]
) -> tuple[History, Cost]:
    """Fit a baseline in place; its history is one step and one epoch."""
    started = time.perf_counter()
    weights = {} if train_rows.weights is None else {f"{_last_step(model)}sample_weight": train_rows.weights}
    model.fit(train_rows.texts, train_rows.labels, **weights)
    seconds = time.perf_counter() - started
    fitted = baselines.baseline_probabilities(model, train_rows.texts, classes)
    loss = log_loss(train_rows.targets, fitted, labels=range(len(classes)))
    probabilities = baselines.baseline_probabilities(model, validation.texts, classes)
    logits = np.log(np.maximum(probabilities, 1e-12)).astype(np.float32)
    scores = validation_scores(1, logits, validation.targets)
    parameters = baselines.trainable_parameters(model)
    return History([Step(1, float(loss), 0.0)], [scores], scores), Cost(parameters, parameters, seconds)


def frozen_features(model: PreTrainedModel, rows: TokenRows, batch_size: int, device: Device) -> torch.Tensor:
    """What the frozen encoder hands to the head, shape `(rows, h)`, on the device.

    Raises:
        InputError: the head of this kind of model is more than one linear layer.
    """
    name, head = adapters.head_of(model)
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


def adapted(params: Lora | Full | LinearProbe, model: PreTrainedModel) -> PreTrainedModel | peft.PeftModel:
    """The classifier with the trainable parameters of the approach."""
    match params:
        case Full():
            return adapters.full(model)
        case LinearProbe():
            return adapters.linear_probe(model)
        case Lora():
            return adapters.lora(model, params.rank, params.alpha, params.dropout, params.target_modules)


def fit_classifier(
    params: LinearProbe | Lora | Full,
    model: PreTrainedModel | peft.PeftModel,
    train_rows: TokenRows,
    train_targets: NDArray[np.int64],
    train_weights: NDArray[np.float64] | None,
    validation: TokenRows,
    validation_targets: NDArray[np.int64],
    classes: int,
    device: Device,
    random: np.random.Generator,
) -> History:
    """Train the trainable parameters of `model` in place.

    Args:
        params: the approach.
        model: what `adapted` returned, on the device.
        train_rows: tokenised train texts, `n` rows.
        train_targets: their classes, shape `(n,)`.
        train_weights: how much each counts, shape `(n,)`; None where all count the same.
        validation: tokenised validation texts, `m` rows.
        validation_targets: their classes, shape `(m,)`.
        classes: number of classes.
        device: where and in which precision to run.
        random: source of the row order.
    """
    module: nn.Module = model
    if isinstance(params, LinearProbe) and isinstance(model, PreTrainedModel):
        features = frozen_features(model, train_rows, params.batch_size, device)
        held_out = frozen_features(model, validation, params.batch_size, device)
        _, module = adapters.head_of(model)

        def train_logits(rows: NDArray[np.int64]) -> torch.Tensor:
            logits: torch.Tensor = module(features[torch.from_numpy(rows).to(device.device)])
            return logits

        @torch.inference_mode()
        def validation_logits() -> NDArray[np.float32]:
            logits: NDArray[np.float32] = module(held_out).cpu().numpy()
            return logits
    else:

        def train_logits(rows: NDArray[np.int64]) -> torch.Tensor:
            ids, mask = (tensor.to(device.device) for tensor in train_rows.padded(rows))
            with device.autocast():
                logits: torch.Tensor = model(input_ids=ids, attention_mask=mask).logits
            return logits.float()

        def validation_logits() -> NDArray[np.float32]:
            return predict_logits(model, validation, classes, params.batch_size, device, "validation")

    return train(
        module,
        train_logits,
        validation_logits,
        train_targets,
        validation_targets,
        train_rows.lengths,
        max_epochs=params.max_epochs,
        patience_epochs=params.patience_epochs,
        batch_size=params.batch_size,
        learning_rate=params.learning_rate,
        weight_decay=params.weight_decay,
        warmup_fraction=params.warmup_fraction,
        max_gradient_norm=params.max_gradient_norm,
        random=random,
        row_weights=train_weights,
    )


def main() -> None:
    """Fit the approach named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m stages.finetune", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("approach", help="name of a block under `finetune` in params.yaml, such as lora")
    approach = parser.parse_args().approach
    seed = load_params("seed", int)
    params: Approach = load_params(f"finetune.{approach}", Approach)  # type: ignore[arg-type]
    device = prepare_device(load_params("compute", Compute))

    train_table = pl.read_parquet(TRAIN)
    validation_table = pl.read_parquet(VALIDATION)
    classes = sorted(train_table["label"].unique())
    train_rows = read_rows(train_table, classes, TRAIN)
    validation_rows = read_rows(validation_table, classes, VALIDATION)

    with output_folder(OUTPUT / approach) as folder:
        if isinstance(params, Majority | Tfidf):
            baseline = (
                baselines.majority()
                if isinstance(params, Majority)
                else baselines.tfidf(params.max_word_ngram, params.min_document_frequency, params.l2_strength)
            )
            history, cost = fit_baseline(baseline, train_rows, validation_rows, classes)
            baselines.save_baseline(baseline, folder)
        else:
            quiet_libraries()
            # Before the head and the adapters draw their first values.
            torch.manual_seed(derived_seed(seed, "finetune", approach))
            base, tokenizer = new_classifier(params.model, classes)
            model = adapted(params, base)
            model.to(device.device)  # type: ignore[arg-type]  # a wrapper of transformers hides its signature
            started = time.perf_counter()
            history = fit_classifier(
                params,
                model,
                tokenise(tokenizer, train_rows.texts, params.max_length_tokens),
                train_rows.targets,
                train_rows.weights,
                tokenise(tokenizer, validation_rows.texts, params.max_length_tokens),
                validation_rows.targets,
                len(classes),
                device,
                generator(seed, "finetune", approach),
            )
            cost = Cost(
                sum(p.numel() for p in model.parameters() if p.requires_grad),
                sum(p.numel() for p in model.parameters()),
                time.perf_counter() - started,
            )
            save_classifier(model, tokenizer, params.max_length_tokens, folder)
        artefact_mib = folder_mib(folder)

    steps = pl.DataFrame([asdict(step) for step in history.steps])
    epochs = pl.DataFrame([asdict(epoch) for epoch in history.epochs])
    write_text(PLOTS / "loss" / f"{approach}.csv", steps.write_csv(float_precision=6))
    write_text(PLOTS / "validation" / f"{approach}.csv", epochs.write_csv(float_precision=6))
    write_json(
        METRICS / f"{approach}.json",
        {
            "rows_train": train_table.height,
            "rows_validation": validation_table.height,
            "train_seconds": cost.train_seconds,
            "samples_per_second": train_table.height * len(history.epochs) / cost.train_seconds,
            "peak_memory_mib": peak_memory_mib(device.device),
            "trainable_parameters": cost.trainable_parameters,
            "total_parameters": cost.total_parameters,
            "artefact_mib": artefact_mib,
            "epochs": len(history.epochs),
            "best_epoch": history.best.epoch,
            "steps": len(history.steps),
            "validation_macro_f1": history.best.macro_f1,
            "validation_accuracy": history.best.accuracy,
        },
    )


if __name__ == "__main__":
    run_stage(main)
