"""The rows that a classifier is fitted on, and what fitting it took. Without PyTorch, which baselines do not need."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import logsumexp

from assay.compute.cost import Spent
from assay.core.errors import InputError
from assay.core.seeds import derived_seed
from assay.statistics.classification import macro_f1


@dataclass(frozen=True)
class Rows:
    """`n` texts, their labels, the classes those labels stand for, and how much each row counts; shape `(n,)` each."""

    ids: list[str]
    texts: list[str]
    labels: list[str]
    targets: NDArray[np.int64]
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class Data:
    """What a model is trained on, what training stops by, and the names of the classes."""

    train: Rows
    validation: Rows
    classes: list[str]


@dataclass(frozen=True)
class Step:
    """One optimizer step: its number from 1, the mean loss of the batch, and the learning rate."""

    step: int
    loss: float
    learning_rate: float


@dataclass(frozen=True)
class Epoch:
    """Validation after one pass over the train rows, counted from 1."""

    epoch: int
    loss: float
    accuracy: float
    macro_f1: float


@dataclass(frozen=True)
class History:
    """What happened in training: the steps, the validation scores of each epoch, and the best, if any were validated.

    Attributes:
        best: the epoch whose parameters the model now has.
        parts: how many parts a batch was computed in, at the end.
        resumed_at_step: the step after which an interrupted run resumed; 0 where there was no interruption.
        spent: by all its stretches, validation included; what came after the last checkpoint of one is lost.
    """

    steps: list[Step]
    epochs: list[Epoch]
    best: Epoch | None
    parts: int
    resumed_at_step: int
    spent: Spent


@dataclass(frozen=True)
class Fit:
    """What fitting a model took.

    Attributes:
        tokens: that one pass over the train rows has; 0 where the model has none.
        peak_memory_mib: None where the system cannot tell it from that of another fit before.
        validation_logits: of the finished model, shape `(validation rows, k)`.
    """

    history: History
    trainable_parameters: int
    total_parameters: int
    tokens: int
    peak_memory_mib: float | None
    validation_logits: NDArray[np.float32]


def read_rows(table: pl.DataFrame, classes: list[str], path: Path) -> Rows:
    """Rows of a table with `id`, `text`, `label`, perhaps `label_weight`; an `InputError` for a label of no class."""
    unknown = table.filter(~pl.col("label").is_in(classes))
    if unknown.height:
        row = unknown.row(0, named=True)
        raise InputError(f"{path}: row {row['id']} has the label {row['label']!r}, which no train row has")
    number = {label: index for index, label in enumerate(classes)}
    targets = np.array([number[label] for label in table["label"]], dtype=np.int64)
    has_weights = "label_weight" in table.columns
    weights = table["label_weight"].to_numpy(writable=True) if has_weights else np.ones(table.height)
    ids, texts, labels = (table[name].to_list() for name in ("id", "text", "label"))
    return Rows(ids, texts, labels, targets, weights)


def model_seed(seed: int, value: int) -> int:
    """The seed of one model: the project's, where `value` is 0, so that one seed more leaves the others as they are."""
    return derived_seed(seed, str(value)) if value else seed


def score_validation(epoch: int, logits: NDArray[np.float32], targets: NDArray[np.int64]) -> Epoch:
    """Loss, accuracy and macro-F1 of logits `(rows, k)` against targets `(rows,)`."""
    predicted = logits.argmax(axis=1)
    loss = (logsumexp(logits, axis=1) - logits[np.arange(len(targets)), targets]).mean()
    return Epoch(epoch, float(loss), float((predicted == targets).mean()), macro_f1(targets, predicted))


def summarise_fit(fit: Fit) -> dict[str, float]:
    """How training one model went, and how well it does on validation.

    `last_epoch_gain`: validation macro-F1 after the last epoch, less the highest before; of one epoch 0.
    """
    history = fit.history
    assert history.best is not None
    scores = [epoch.macro_f1 for epoch in history.epochs]
    return {
        "epochs": len(history.epochs),
        "best_epoch": history.best.epoch,
        "steps": len(history.steps),
        "gradient_accumulation_steps": history.parts,
        "validation_macro_f1": history.best.macro_f1,
        "validation_accuracy": history.best.accuracy,
        "last_epoch_gain": scores[-1] - max(scores[:-1]) if len(scores) > 1 else 0.0,
    }


def summarise_cost(fit: Fit, rows: int) -> dict[str, float]:
    """What fitting one model on so many rows took: what differs from run to run."""
    passes, spent = len(fit.history.epochs) * bool(fit.trainable_parameters), fit.history.spent
    return {
        "train_seconds": spent.seconds,
        "train_cpu_seconds": spent.cpu_seconds,
        "samples_per_second": rows * passes / spent.seconds,
        "tokens_per_second": fit.tokens * passes / spent.seconds,
        **({} if fit.peak_memory_mib is None else {"peak_memory_mib": fit.peak_memory_mib}),
        "resumed_at_step": fit.history.resumed_at_step,
    }


def average_seeds(of_seeds: list[dict[str, float]]) -> dict[str, float]:
    """Quantities in the mean over the seeds that have them, counts as the first has them."""
    return {
        name: value if isinstance(value, int) else float(np.mean([one[name] for one in of_seeds if name in one]))
        for name, value in of_seeds[0].items()
    }
