"""One training loop for every approach.

AdamW (Loshchilov & Hutter 2019), linear warm-up and decay, gradient clipping by global norm, label smoothing (Szegedy
et al. 2016), and early stopping on validation macro-F1, if asked for: the best epoch's parameters are then put back.

What goes wrong in a long run, and what happens then:

- It is killed: what it needs to go on is in a checkpoint, and the same command goes on from there, to the same weights.
- Memory runs out: the batch is put through in twice as many parts, whose gradients are added up, and the run says so.
- The loss is not a number: the run stops, and names the step and the rows of its batch.
"""

import copy
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn

from assay.compute.token_batches import shuffled_batches
from assay.core.errors import InputError
from assay.core.progress import progress
from assay.statistics.classification import macro_f1

STEPS_BETWEEN_LOOKS = 50
"""The losses are read from the device every so many steps: to read each as it comes would stall a GPU."""


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
    """What happened in training.

    Attributes:
        steps: every optimizer step.
        epochs: the validation scores after each epoch; none where nothing was validated.
        best: the epoch whose parameters the model now has; None where nothing was validated.
        parts: how many parts a batch was put through in, at the end.
        resumed_at_step: the step after which a run went on that had been interrupted; 0 where it was not.
    """

    steps: list[Step]
    epochs: list[Epoch]
    best: Epoch | None
    parts: int
    resumed_at_step: int


@dataclass(frozen=True)
class Checkpoint:
    """Where a run keeps what it needs to go on, and how often it writes that down."""

    path: Path
    seconds_between: float


@dataclass
class _Run:
    """Where a run is: with the optimizer and the parameters, all that it takes to go on.

    Attributes:
        epoch: from 1, the one under way.
        done: steps of it that are done.
        order: state of the generator of the row order before this epoch.
        parts: in how many parts a batch is put through.
        steps: all that are done, of all epochs.
        epochs: validation scores.
        best: the best of them.
        best_parameters: the trainable ones after that epoch.
    """

    order: Mapping[str, Any]
    parts: int
    epoch: int = 1
    done: int = 0
    steps: list[Step] = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)
    best: Epoch | None = None
    best_parameters: list[torch.Tensor] = field(default_factory=list)


def learning_rate_factor(step: int, warmup_steps: int, total_steps: int) -> float:
    """Share of the peak learning rate at `step` (from 0): linear from 0 to 1, then linear to 0."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))


def parameter_groups(
    module: nn.Module, learning_rate: float, weight_decay: float, head: Sequence[nn.Parameter], head_rate: float
) -> list[dict[str, object]]:
    """Trainable parameters by learning rate and decay: matrices decay, biases and normalisation scales do not.

    Args:
        module: holds them all.
        learning_rate: of all but the head.
        weight_decay: of matrices.
        head: parameters that learn at `head_rate`.
        head_rate: their rate.
    """
    of_head = {id(parameter) for parameter in head}
    groups: list[dict[str, object]] = []
    for is_head, rate in ((False, learning_rate), (True, head_rate)):
        for is_matrix, decay in ((True, weight_decay), (False, 0.0)):
            chosen = [
                parameter
                for parameter in module.parameters()
                if parameter.requires_grad
                and (id(parameter) in of_head) == is_head
                and (parameter.ndim >= 2) == is_matrix
            ]
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
    return groups


def validation_scores(epoch: int, logits: NDArray[np.float32], targets: NDArray[np.int64]) -> Epoch:
    """Loss, accuracy and macro-F1 of logits `(rows, k)` against targets `(rows,)`."""
    predicted = logits.argmax(axis=1)
    loss = nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(targets))
    return Epoch(
        epoch, float(loss), float((predicted == targets).mean()), macro_f1(targets, predicted, logits.shape[1])
    )


def train(
    module: nn.Module,
    train_logits: Callable[[NDArray[np.int64]], torch.Tensor],
    train_targets: NDArray[np.int64],
    train_lengths: NDArray[np.int64],
    after_epoch: Callable[[int], Epoch | None],
    *,
    max_epochs: int,
    patience_epochs: int | None,
    batch_size: int,
    gradient_accumulation_steps: int,
    learning_rate: float,
    weight_decay: float,
    warmup_fraction: float,
    max_grad_norm: float,
    label_smoothing: float,
    random: np.random.Generator,
    row_weights: NDArray[np.float64] | None = None,
    row_ids: Sequence[str] | None = None,
    head: Sequence[nn.Parameter] = (),
    head_learning_rate: float | None = None,
    paged: bool = False,
    checkpoint: Checkpoint | None = None,
    accelerator: Accelerator | None = None,
) -> History:
    """Train the trainable parameters of `module`, and leave it with those of the best epoch.

    Args:
        module: holds the parameters; those with `requires_grad` are trained.
        train_logits: from row numbers `(b,)` to logits `(b, k)`, with gradients.
        train_targets: class of each train row, `(rows,)`.
        train_lengths: tokens of each train row, for batches of like length, `(rows,)`.
        after_epoch: called with the number of the epoch, from 1, in evaluation mode; gives the validation scores, or
            None: then nothing stops early, and the last epoch's parameters stay.
        max_epochs: passes over the train rows at most; the learning rate decays over all of them.
        patience_epochs: stop after this many epochs without a better validation macro-F1; None: the last epoch is the
            one that stays, since among many epochs a small validation split chooses by chance.
        batch_size: rows of a step.
        gradient_accumulation_steps: parts in which a batch is put through, to save memory; more, where memory runs out.
        learning_rate: peak of the schedule.
        weight_decay: decoupled decay of matrices.
        warmup_fraction: share of all steps in which the learning rate rises.
        max_grad_norm: gradients are scaled down to this global norm.
        label_smoothing: share of the target that is spread over all classes.
        random: source of the row order.
        row_weights: how much the loss of each train row counts, `(rows,)`; the same for all where there are none.
        row_ids: names of the train rows, for messages.
        head: parameters that learn at `head_learning_rate`, if that is given.
        head_learning_rate: peak of the schedule for the head.
        paged: on CUDA the optimizer's state moves to main memory where the device has none left (Dettmers et al. 2023).
        checkpoint: where to keep what is needed to go on after an interruption; gone once training is over.
        accelerator: of `accelerate launch`, where several processes train together; each does its share of a batch.

    Raises:
        InputError: the loss is not finite, or memory does not suffice for a single row.
    """
    device = next(module.parameters()).device
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = parameter_groups(
        module,
        learning_rate,
        weight_decay,
        head if head_learning_rate is not None else (),
        head_learning_rate or learning_rate,
    )
    optimizer: torch.optim.Optimizer
    if paged and device.type == "cuda":
        # Imported here: it takes a second, and QLoRA alone asks for it.
        import bitsandbytes

        optimizer = bitsandbytes.optim.PagedAdamW(groups)
    else:
        optimizer = torch.optim.AdamW(groups, fused=True)
    steps_per_epoch = -(-len(train_targets) // batch_size)
    total_steps = steps_per_epoch * max_epochs
    warmup_steps = max(1, round(warmup_fraction * total_steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, warmup_steps, total_steps)
    )
    targets = torch.from_numpy(train_targets).to(device)
    # Not divided by the batch's weights: a batch of doubtful rows is to move the model less.
    weights = torch.from_numpy(np.ones(len(train_targets)) if row_weights is None else row_weights).float().to(device)

    run = _Run(order=random.bit_generator.state, parts=gradient_accumulation_steps)
    resumed_at_step = 0
    if checkpoint is not None and checkpoint.path.is_file():
        run = _restored(checkpoint.path, trainable, optimizer, schedule, device)
        resumed_at_step = len(run.steps)
        print(f"training goes on after step {resumed_at_step} ({checkpoint.path})", file=sys.stderr)
    written = time.monotonic()

    def loss_of(rows: NDArray[np.int64], batch_rows: int) -> torch.Tensor:
        """The share of the batch's mean loss that these rows bring."""
        batch = torch.from_numpy(rows).to(device)
        loss = nn.functional.cross_entropy(
            train_logits(rows), targets[batch], reduction="none", label_smoothing=label_smoothing
        )
        return (loss * weights[batch]).sum() / batch_rows

    while run.epoch <= max_epochs:
        module.train()
        random.bit_generator.state = run.order
        batches = shuffled_batches(train_lengths, batch_size, random)
        losses: list[torch.Tensor] = []
        rates: list[float] = []
        first = run.done
        label = f"epoch {run.epoch}/{max_epochs}"
        for rows in progress(batches[first:], label, total=len(batches) - first, unit="step"):
            optimizer.zero_grad(set_to_none=True)
            loss, run.parts = _gradients(rows, loss_of, module, run.parts, accelerator)
            if accelerator is None:
                nn.utils.clip_grad_norm_(trainable, max_grad_norm)
            else:
                accelerator.clip_grad_norm_(trainable, max_grad_norm)
            rates.append(float(schedule.get_last_lr()[0]))
            optimizer.step()
            schedule.step()
            losses.append(loss)
            run.done += 1
            is_due = checkpoint is not None and time.monotonic() - written >= checkpoint.seconds_between
            if len(losses) == STEPS_BETWEEN_LOOKS or is_due or run.done == len(batches):
                run.steps += _looked_at(
                    losses, rates, len(run.steps), batches[run.done - len(losses) : run.done], row_ids, accelerator
                )
                losses, rates = [], []
            if is_due and checkpoint is not None:
                _write(checkpoint.path, run, trainable, optimizer, schedule)
                written = time.monotonic()

        module.eval()
        scores = after_epoch(run.epoch)
        is_over = False
        if scores is not None:
            run.epochs.append(scores)
            if run.best is None or patience_epochs is None or scores.macro_f1 > run.best.macro_f1:
                run.best = scores
                if patience_epochs is not None:
                    run.best_parameters = [copy.deepcopy(parameter.detach()) for parameter in trainable]
            elif scores.epoch - run.best.epoch >= patience_epochs:
                is_over = True
        run.epoch = max_epochs + 1 if is_over else run.epoch + 1
        run.done, run.order = 0, random.bit_generator.state
        if checkpoint is not None:
            _write(checkpoint.path, run, trainable, optimizer, schedule)
            written = time.monotonic()

    if run.best_parameters:
        with torch.no_grad():
            for parameter, value in zip(trainable, run.best_parameters, strict=True):
                parameter.copy_(value)
    module.eval()
    return History(run.steps, run.epochs, run.best, run.parts, resumed_at_step)


def _gradients(
    rows: NDArray[np.int64],
    loss_of: Callable[[NDArray[np.int64], int], torch.Tensor],
    module: nn.Module,
    parts: int,
    accelerator: Accelerator | None,
) -> tuple[torch.Tensor, int]:
    """Add up the gradients of a batch, part by part; in more parts, where memory runs out.

    Returns:
        The mean loss of the batch, and the parts that it took. With several processes the loss of this one's share,
        times their number: what is averaged over processes, as gradients are, is the batch's.
    """
    processes = 1 if accelerator is None else accelerator.num_processes
    own = rows if accelerator is None else rows[accelerator.process_index :: processes]
    # Processes wait for each other, so one without a row takes part too, with a loss that does not count.
    counts = float(processes) if len(own) else 0.0
    own = own if len(own) else rows[:1]
    while True:
        pieces = np.array_split(own, min(parts, len(own)))
        total = torch.zeros((), device=next(module.parameters()).device)
        try:
            for number, piece in enumerate(pieces, 1):
                waits = accelerator is not None and number < len(pieces)
                with accelerator.no_sync(module) if waits and accelerator is not None else nullcontext():
                    loss = loss_of(piece, len(rows)) * counts
                    torch.autograd.backward(loss)
                total += loss.detach()
            return total, parts
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            if len(pieces) == len(own) or processes > 1:
                raise InputError(
                    f"out of memory with {len(pieces[0])} row(s) at a time; lower `batch_size` or `max_length_tokens`, "
                    "raise `gradient_accumulation_steps`, set `gradient_checkpointing`, or take a smaller model"
                ) from error
        # Out here nothing holds the tensors of the attempt any more.
        module.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        parts = 2 * len(pieces)
        print(
            f"out of memory with {len(pieces[0])} rows at a time: "
            f"batches are put through in {parts} parts from here on, and their gradients added up",
            file=sys.stderr,
        )


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Of a device, which has its own error, or of the main memory, which has none."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _looked_at(
    losses: list[torch.Tensor],
    rates: list[float],
    done: int,
    batches: Sequence[NDArray[np.int64]],
    row_ids: Sequence[str] | None,
    accelerator: Accelerator | None,
) -> list[Step]:
    """The latest steps, their losses read from the device.

    Args:
        losses: of the steps.
        rates: the learning rate of each.
        done: steps before them.
        batches: row numbers of each.
        row_ids: names of the rows.
        accelerator: where several processes train.

    Raises:
        InputError: a loss is not finite.
    """
    stacked = torch.stack(losses)
    values = (stacked if accelerator is None else accelerator.reduce(stacked, "mean")).cpu().tolist()
    for number, (value, rate, rows) in enumerate(zip(values, rates, batches, strict=True), done + 1):
        if not np.isfinite(value):
            named = [str(row) if row_ids is None else row_ids[row] for row in rows.tolist()]
            raise InputError(
                f"the training loss of step {number} is {value} at a learning rate of {rate:.3g}; lower "
                f"`learning_rate` or `max_grad_norm`, or look at the rows of its batch: {', '.join(named)}"
            )
    return [Step(done + i, value, rate) for i, (value, rate) in enumerate(zip(values, rates, strict=True), 1)]


def _write(
    path: Path,
    run: _Run,
    trainable: Sequence[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
) -> None:
    """Replace the checkpoint, so that there is a whole one at every moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "run": {**asdict(run), "best_parameters": run.best_parameters},
        "parameters": [parameter.detach() for parameter in trainable],
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    new = path.with_suffix(".new")
    torch.save(state, new)
    new.replace(path)


def _restored(
    path: Path,
    trainable: Sequence[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    device: torch.device,
) -> _Run:
    """Put everything back that `_write` wrote."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    with torch.no_grad():
        for parameter, value in zip(trainable, state["parameters"], strict=True):
            parameter.copy_(value)
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    torch.set_rng_state(state["random"])
    if state["random_cuda"]:
        torch.cuda.set_rng_state_all(state["random_cuda"])
    run = state["run"]
    best = None if run["best"] is None else Epoch(**run["best"])
    return _Run(
        order=run["order"],
        parts=run["parts"],
        epoch=run["epoch"],
        done=run["done"],
        steps=[Step(**step) for step in run["steps"]],
        epochs=[Epoch(**epoch) for epoch in run["epochs"]],
        best=best,
        best_parameters=[value.to(device) for value in run["best_parameters"]],
    )
