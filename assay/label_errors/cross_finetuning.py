"""Out-of-fold probabilities from the base encoder itself, fine-tuned once for each fold, and its training dynamics.

Legend: `n` rows, `k` labels numbered from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from assay.compute.device import Device
from assay.core.seeds import SeedKey, derived_seed
from assay.fine_tuning.params import Optimization, OptimizerSteps, Pooling
from assay.probes import Fold, combine_probabilities

if TYPE_CHECKING:
    import torch


class CrossFinetuning(OptimizerSteps):
    """The block `label_errors.models.finetuned` of `params.yaml`."""

    model: str
    pooling: Pooling
    max_length_tokens: int = Field(ge=4, le=8192)
    epochs: int = Field(ge=1, le=1000)
    weight: float = Field(gt=0)


@dataclass(frozen=True)
class CrossFinetuned:
    """What fine-tuning tells of each row.

    Attributes:
        probabilities: out of fold, the geometric mean over the epochs, NaN for a row that no fold predicts, `(n, k)`.
        area_under_margin: how far the logit of the given label was above the best other one while the row was trained
            on, in the mean over epochs and folds (Pleiss et al. 2020, equation 1); a wrong label is learnt late, so low
            speaks for an error. NaN for a row that was never trained on, shape `(n,)`.
    """

    probabilities: NDArray[np.float64]
    area_under_margin: NDArray[np.float64]


def cross_finetune(
    texts: Sequence[str],
    labels: NDArray[np.int64],
    folds: Sequence[Fold],
    params: CrossFinetuning,
    device: Device,
    seed: SeedKey,
) -> CrossFinetuned:
    """Fine-tune on each fold's rows, for a fixed number of epochs, and predict the others; labels `(n,)`.

    No row is held out to choose an epoch by: the mean over the epochs was better than the best of them.
    """
    classes = int(labels.max()) + 1
    probabilities = np.full((len(labels), classes), np.nan)
    margins = np.zeros(len(labels))
    models = np.zeros(len(labels))
    for number, fold in enumerate(folds):
        of_fold = _finetune_fold(texts, labels, fold, classes, params, device, derived_seed(*seed, str(number)))
        probabilities[fold.predicted] = of_fold.probabilities
        margins[fold.fitted] += of_fold.area_under_margin
        models[fold.fitted] += 1
    return CrossFinetuned(probabilities, np.where(models > 0, margins / np.maximum(models, 1), np.nan))


def _finetune_fold(
    texts: Sequence[str],
    labels: NDArray[np.int64],
    fold: Fold,
    classes: int,
    params: CrossFinetuning,
    device: Device,
    seed: int,
) -> CrossFinetuned:
    """Probabilities of the held-out rows of a fold, and areas under the margin of those trained on."""
    # Imported here: they take seconds, and the frozen models alone need none of them.
    import torch

    from assay.classifiers.checkpoint import new_classifier, predict_logits, training_logits
    from assay.classifiers.training_loop import TrainingRows, train
    from assay.compute.token_batches import tokenise

    # Before the head draws its first values.
    torch.manual_seed(seed)
    model, tokenizer = new_classifier(params.model, [str(label) for label in range(classes)], params.pooling)
    model.to(device.device)  # type: ignore[arg-type]  # a wrapper of transformers hides its signature
    trained, held_out = (
        tokenise(tokenizer, [texts[row] for row in rows], params.max_length_tokens)
        for rows in (fold.fitted, fold.predicted)
    )
    targets = labels[fold.fitted]
    margins = np.zeros(len(targets))
    logits_of = training_logits(model, trained, device)

    def train_logits(rows: NDArray[np.int64]) -> torch.Tensor:
        logits = logits_of(rows)
        margins[rows] += _margins(logits.detach(), targets[rows])
        return logits

    by_epoch: list[NDArray[np.float64]] = []

    def predict_held_out(_epoch: int) -> None:
        logits = predict_logits(model, held_out, classes, params.batch_size, device, "held-out fold")
        by_epoch.append(torch.from_numpy(logits).double().softmax(dim=1).numpy())

    optimization = Optimization(
        **params.model_dump(include=set(OptimizerSteps.model_fields)),
        max_epochs=params.epochs,
        patience_epochs=None,
        gradient_accumulation_steps=1,
        head_learning_rate=None,
        label_smoothing=0.0,
    )
    rows = TrainingRows(targets, trained.lengths)
    train(model, train_logits, rows, predict_held_out, optimization, np.random.default_rng(seed))
    return CrossFinetuned(combine_probabilities(by_epoch, [1.0] * len(by_epoch)), margins / params.epochs)


def _margins(logits: torch.Tensor, targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Logit of the given label minus the largest other one, shape `(b,)`."""
    import torch

    own = torch.from_numpy(targets).to(logits.device).unsqueeze(1)
    others = logits.scatter(1, own, -torch.inf).max(dim=1).values
    margins: NDArray[np.float64] = (logits.gather(1, own).squeeze(1) - others).double().cpu().numpy()
    return margins
