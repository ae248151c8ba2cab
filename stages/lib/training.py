"""One training loop for every approach.

AdamW (Loshchilov & Hutter 2019), linear warm-up and decay, gradient clipping by global norm, and early stopping on
validation macro-F1; the best epoch's parameters are put back at the end.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stages.lib.batches import shuffled_batches
from stages.lib.errors import InputError
from stages.lib.progress import progress
from stages.lib.statistics import macro_f1


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
    """What happened in training; `best` is the epoch whose parameters the model now has."""

    steps: list[Step]
    epochs: list[Epoch]
    best: Epoch


def learning_rate_factor(step: int, warmup_steps: int, total_steps: int) -> float:
    """Share of the peak learning rate at `step` (from 0): linear from 0 to 1, then linear to 0."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))


def weight_decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Trainable parameters in two groups: matrices decay, biases and normalisation scales do not."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]


def validation_scores(epoch: int, logits: NDArray[np.float32], targets: NDArray[np.int64]) -> Epoch:
    """Loss, accuracy and macro-F1 of logits `(rows, k)` against targets `(rows,)`."""
    predicted = logits.argmax(axis=1)
    loss = nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(targets))
    return Epoch(
        epoch, float(loss), float((predicted == targets).mean()), macro_f1(targets, predicted, logits.shape[1])
    )


def training_epochs(
    module: nn.Module,
    train_logits: Callable[[NDArray[np.int64]], torch.Tensor],
    train_targets: NDArray[np.int64],
    train_lengths: NDArray[np.int64],
    *,
    max_epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    warmup_fraction: float,
    max_gradient_norm: float,
    random: np.random.Generator,
    row_weights: NDArray[np.float64] | None = None,
) -> Iterator[list[Step]]:
    """Train the trainable parameters of `module`, and pause after each pass over the train rows, in evaluation mode.

    Args:
        module: holds the parameters; those with `requires_grad` are trained.
        train_logits: from row numbers `(b,)` to logits `(b, k)`, with gradients.
        train_targets: class of each train row, `(rows,)`.
        train_lengths: tokens of each train row, for batches of like length, `(rows,)`.
        max_epochs: passes over the train rows; the learning rate decays over all of them.
        batch_size: rows of a step.
        learning_rate: peak of the schedule.
        weight_decay: decoupled decay of matrices.
        warmup_fraction: share of all steps in which the learning rate rises.
        max_gradient_norm: gradients are scaled down to this global norm.
        random: source of the row order.
        row_weights: how much the loss of each train row counts, `(rows,)`; the same for all where there are none.

    Yields:
        The steps of the epoch.

    Raises:
        InputError: the loss is not finite.
    """
    device = next(module.parameters()).device
    optimizer = torch.optim.AdamW(weight_decay_groups(module, weight_decay), lr=learning_rate, fused=True)
    steps_per_epoch = -(-len(train_targets) // batch_size)
    total_steps = steps_per_epoch * max_epochs
    warmup_steps = max(1, round(warmup_fraction * total_steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, warmup_steps, total_steps)
    )
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    targets = torch.from_numpy(train_targets).to(device)
    weights = None if row_weights is None else torch.from_numpy(row_weights).float().to(device)

    done = 0
    for epoch in range(1, max_epochs + 1):
        module.train()
        losses: list[torch.Tensor] = []
        rates: list[float] = []
        batches = shuffled_batches(train_lengths, batch_size, random)
        for rows in progress(batches, f"epoch {epoch}/{max_epochs}", total=len(batches), unit="step"):
            batch = torch.from_numpy(rows).to(device)
            if weights is None:
                loss = nn.functional.cross_entropy(train_logits(rows), targets[batch])
            else:
                # Not divided by the batch's weights: a batch of doubtful rows is to move the model less.
                loss = (
                    nn.functional.cross_entropy(train_logits(rows), targets[batch], reduction="none") * weights[batch]
                ).mean()
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(trainable, max_gradient_norm)
            rates.append(float(schedule.get_last_lr()[0]))
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        # One transfer an epoch: reading each loss as it comes would stall a GPU.
        values = torch.stack(losses).cpu().tolist()
        if not np.isfinite(values).all():
            raise InputError(f"training loss is not finite in epoch {epoch}; lower `learning_rate` = {learning_rate}")
        module.eval()
        yield [Step(done + i + 1, value, rate) for i, (value, rate) in enumerate(zip(values, rates, strict=True))]
        done += len(values)


def train(
    module: nn.Module,
    train_logits: Callable[[NDArray[np.int64]], torch.Tensor],
    validation_logits: Callable[[], NDArray[np.float32]],
    train_targets: NDArray[np.int64],
    validation_targets: NDArray[np.int64],
    train_lengths: NDArray[np.int64],
    *,
    max_epochs: int,
    patience_epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    warmup_fraction: float,
    max_gradient_norm: float,
    random: np.random.Generator,
    row_weights: NDArray[np.float64] | None = None,
) -> History:
    """Train the trainable parameters of `module`, and leave it with those of the best epoch.

    Args:
        module: as for `training_epochs`, as are the arguments that are not named here.
        train_logits: from row numbers `(b,)` to logits `(b, k)`, with gradients.
        validation_logits: logits of all validation rows, `(rows, k)`; called after each epoch in evaluation mode.
        train_targets: class of each train row, `(rows,)`.
        validation_targets: class of each validation row, `(rows,)`.
        train_lengths: tokens of each train row, `(rows,)`.
        max_epochs: passes over the train rows at most; the learning rate decays over all of them.
        patience_epochs: stop after this many epochs without a better validation macro-F1.
        batch_size: rows of a step.
        learning_rate: peak of the schedule.
        weight_decay: decoupled decay of matrices.
        warmup_fraction: share of all steps in which the learning rate rises.
        max_gradient_norm: gradients are scaled down to this global norm.
        random: source of the row order.
        row_weights: how much the loss of each train row counts, `(rows,)`.

    Raises:
        InputError: the loss is not finite.
    """
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    steps: list[Step] = []
    epochs: list[Epoch] = []
    best: Epoch | None = None
    best_parameters: list[torch.Tensor] = []
    for steps_of_epoch in training_epochs(
        module,
        train_logits,
        train_targets,
        train_lengths,
        max_epochs=max_epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        warmup_fraction=warmup_fraction,
        max_gradient_norm=max_gradient_norm,
        random=random,
        row_weights=row_weights,
    ):
        steps += steps_of_epoch
        scores = validation_scores(len(epochs) + 1, validation_logits(), validation_targets)
        epochs.append(scores)
        if best is None or scores.macro_f1 > best.macro_f1:
            best = scores
            best_parameters = [copy.deepcopy(parameter.detach()) for parameter in trainable]
        elif scores.epoch - best.epoch >= patience_epochs:
            break

    assert best is not None
    with torch.no_grad():
        for parameter, value in zip(trainable, best_parameters, strict=True):
            parameter.copy_(value)
    return History(steps, epochs, best)
