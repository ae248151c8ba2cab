"""One training loop for every approach.

AdamW (Loshchilov & Hutter 2019), linear warm-up and decay, gradient clipping by global norm, label smoothing (Szegedy
et al. 2016), and early stopping on validation macro-F1, if asked for: the best epoch's parameters are then put back.
What happens when a run is killed, memory runs out or the loss is not a number: docs/approaches.md.
"""

from __future__ import annotations

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
from torch.optim.lr_scheduler import LambdaLR

from assay.classifiers.fits import Epoch, History, Step
from assay.compute.cost import Spent
from assay.compute.token_batches import shuffled_batches
from assay.core.errors import InputError
from assay.core.progress import GOES_ON, progress, warn_once
from assay.fine_tuning.params import Optimization

Logits = Callable[[NDArray[np.int64]], torch.Tensor]
"""From row numbers `(b,)` to logits `(b, k)`."""

STEPS_BETWEEN_READS = 50
"""The losses are read from the device every so many steps: to read each as it comes would stall a GPU."""


@dataclass(frozen=True)
class Checkpoint:
    """Where a run keeps what it needs to resume, and how often it writes that."""

    path: Path
    seconds_between: float


@dataclass
class _Run:
    """Where a run is: with the optimizer and the parameters, all that it takes to resume.

    Attributes:
        order: state of the generator of the row order before this epoch.
        parts: in how many parts a batch is computed.
        epoch: from 1, the one under way.
        done: steps of it that are done; those of all epochs are `steps`.
        best_parameters: the trainable ones after the best epoch.
        spent: by earlier stretches of an interrupted run, up to the checkpoint that it resumed from.
    """

    order: Mapping[str, Any]
    parts: int
    epoch: int = 1
    done: int = 0
    steps: list[Step] = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)
    best: Epoch | None = None
    best_parameters: list[torch.Tensor] = field(default_factory=list)
    spent: Spent = field(default_factory=Spent)


@dataclass(frozen=True)
class TrainingRows:
    """The `n` train rows.

    Attributes:
        targets: class of each row, shape `(n,)`.
        lengths: tokens of each row, for length-bucketed batches, shape `(n,)`.
        weights: how much the loss of each row counts, shape `(n,)`; None: all the same.
        ids: names of the rows, for messages; None: their numbers.
    """

    targets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    weights: NDArray[np.float64] | None = None
    ids: Sequence[str] | None = None


@dataclass(frozen=True)
class _Loop:
    """What every step of a run needs.

    These are arguments of `train`, the optimizer and its schedule, the trainable parameters, and on their device the
    class of each row and how much its loss counts, shape `(n,)` each.
    """

    module: nn.Module
    train_logits: Logits
    rows: TrainingRows
    params: Optimization
    random: np.random.Generator
    optimizer: torch.optim.Optimizer
    schedule: LambdaLR
    checkpoint: Checkpoint | None
    accelerator: Accelerator | None
    began: Spent
    trainable: list[nn.Parameter]
    device: torch.device
    targets: torch.Tensor
    weights: torch.Tensor


def learning_rate_factor(step: int, warmup_steps: int, total_steps: int) -> float:
    """Share of the peak learning rate at `step` (from 0): linear from 0 to 1, then linear to 0."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))


def parameter_groups(module: nn.Module, params: Optimization, head: Sequence[nn.Parameter]) -> list[dict[str, object]]:
    """Trainable parameters of `module` by learning rate (that of the `head` may differ) and decay.

    Matrices decay, biases and normalisation scales do not.
    """
    head_rate = params.head_learning_rate or params.learning_rate
    head = head if params.head_learning_rate is not None else ()
    of_head = {id(parameter) for parameter in head}
    groups: list[dict[str, object]] = []
    for is_head, rate in ((False, params.learning_rate), (True, head_rate)):
        for is_matrix, decay in ((True, params.weight_decay), (False, 0.0)):
            kind = (True, is_head, is_matrix)
            chosen = [p for p in module.parameters() if (p.requires_grad, id(p) in of_head, p.ndim >= 2) == kind]
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
    return groups


def train(
    module: nn.Module,
    train_logits: Logits,
    rows: TrainingRows,
    after_epoch: Callable[[int], Epoch | None],
    params: Optimization,
    random: np.random.Generator,
    *,
    head: Sequence[nn.Parameter] = (),
    paged: bool = False,
    checkpoint: Checkpoint | None = None,
    accelerator: Accelerator | None = None,
    began: Spent | None = None,
) -> History:
    """Train the trainable parameters of `module`, and leave it with those of the best epoch.

    Args:
        module: holds the parameters; those with `requires_grad` are trained.
        after_epoch: called with the number of the epoch, from 1, in evaluation mode; gives the validation scores, or
            None: then nothing stops early, and the last epoch's parameters stay.
        head: parameters that learn at `head_learning_rate`, if that is given.
        paged: on CUDA the optimizer's state moves to main memory where the device has none left (Dettmers et al. 2023).
        accelerator: connects processes that train together; each does its share of a batch.
        began: the clocks when this stretch began, if there was work before the call that is to count; None: now.

    Raises:
        InputError: the loss is not finite, or memory does not suffice for a single row.
    """
    device = next(module.parameters()).device
    groups = parameter_groups(module, params, head)
    optimizer: torch.optim.Optimizer
    if paged and device.type == "cuda":
        # Imported here: it takes a second, and QLoRA alone asks for it.
        import bitsandbytes

        optimizer = bitsandbytes.optim.PagedAdamW(groups)
    else:
        optimizer = torch.optim.AdamW(groups, fused=True)
    total_steps = -(-len(rows.targets) // params.batch_size) * params.max_epochs
    warmup_steps = max(1, round(params.warmup_fraction * total_steps))
    schedule = LambdaLR(optimizer, lambda step: learning_rate_factor(step, warmup_steps, total_steps))
    began = began or Spent.now()
    arguments = (module, train_logits, rows, params, random, optimizer, schedule, checkpoint, accelerator, began)
    weights = np.ones(len(rows.targets)) if rows.weights is None else rows.weights
    on_device = torch.from_numpy(rows.targets).to(device), torch.from_numpy(weights).float().to(device)
    loop = _Loop(*arguments, [p for p in module.parameters() if p.requires_grad], device, *on_device)
    run = _Run(order=random.bit_generator.state, parts=params.gradient_accumulation_steps)
    if checkpoint is not None and checkpoint.path.is_file():
        run = _restore(checkpoint.path, loop)
        print(f"training resumes after step {len(run.steps)} ({checkpoint.path})", file=sys.stderr)
    resumed_at_step = len(run.steps)
    written = time.monotonic()
    while run.epoch <= params.max_epochs:
        written = _train_epoch(loop, run, written)
        module.eval()
        _finish_epoch(loop, run, after_epoch(run.epoch))
        if checkpoint is not None:
            _write(checkpoint.path, loop, run)
            written = time.monotonic()
    if run.best_parameters:
        _set_parameters(loop.trainable, run.best_parameters)
    module.eval()
    spent = run.spent.plus(Spent.now().since(began))
    return History(run.steps, run.epochs, run.best, run.parts, resumed_at_step, spent)


def _train_epoch(loop: _Loop, run: _Run, written: float) -> float:
    """Do the steps of the epoch that are not done yet; takes and gives the time of the last checkpoint."""
    loop.module.train()
    loop.random.bit_generator.state = run.order
    batches = shuffled_batches(loop.rows.lengths, loop.params.batch_size, loop.random)
    losses: list[torch.Tensor] = []
    rates: list[float] = []
    first = run.done
    label = f"epoch {run.epoch}/{loop.params.max_epochs}"
    for rows in progress(batches[first:], label, total=len(batches) - first, unit="step"):
        loop.optimizer.zero_grad(set_to_none=True)
        loss, run.parts = _accumulate_gradients(loop, rows, run.parts)
        clip = nn.utils.clip_grad_norm_ if loop.accelerator is None else loop.accelerator.clip_grad_norm_
        clip(loop.trainable, loop.params.max_grad_norm)
        rates.append(float(loop.schedule.get_last_lr()[0]))
        loop.optimizer.step()
        loop.schedule.step()
        losses.append(loss)
        run.done += 1
        is_due = loop.checkpoint is not None and time.monotonic() - written >= loop.checkpoint.seconds_between
        if len(losses) == STEPS_BETWEEN_READS or is_due or run.done == len(batches):
            run.steps += _read_losses(loop, losses, rates, len(run.steps), batches[run.done - len(losses) : run.done])
            losses, rates = [], []
        if is_due and loop.checkpoint is not None:
            _write(loop.checkpoint.path, loop, run)
            written = time.monotonic()
    return written


def _finish_epoch(loop: _Loop, run: _Run, scores: Epoch | None) -> None:
    """Note the validation scores, keep the parameters if they are the best, and go to the next epoch or the end."""
    patience = loop.params.patience_epochs
    is_over = False
    if scores is not None:
        run.epochs.append(scores)
        if run.best is None or patience is None or scores.macro_f1 > run.best.macro_f1:
            run.best = scores
            if patience is not None:
                run.best_parameters = [copy.deepcopy(parameter.detach()) for parameter in loop.trainable]
        else:
            is_over = scores.epoch - run.best.epoch >= patience
    run.epoch = loop.params.max_epochs + 1 if is_over else run.epoch + 1
    run.done, run.order = 0, loop.random.bit_generator.state


@torch.no_grad()
def _set_parameters(parameters: Sequence[nn.Parameter], values: Sequence[torch.Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


def _batch_loss(loop: _Loop, rows: NDArray[np.int64], batch_rows: int) -> torch.Tensor:
    """The share of the mean loss of a batch of `batch_rows` that these rows bring."""
    batch = torch.from_numpy(rows).to(loop.device)
    loss = nn.functional.cross_entropy(
        loop.train_logits(rows), loop.targets[batch], reduction="none", label_smoothing=loop.params.label_smoothing
    )
    # Not divided by the batch's weights: a batch of doubtful rows is to move the model less.
    return (loss * loop.weights[batch]).sum() / batch_rows


def _accumulate_gradients(loop: _Loop, rows: NDArray[np.int64], parts: int) -> tuple[torch.Tensor, int]:
    """Accumulate the gradients of a batch, part by part; in more parts, where memory runs out.

    Returns the mean loss of the batch, and the parts that it took. With several processes it is the loss of this one's
    share, times their number: what is averaged over processes, as gradients are, is the batch's.
    """
    accelerator = loop.accelerator
    processes = 1 if accelerator is None else accelerator.num_processes
    own = rows if accelerator is None else rows[accelerator.process_index :: processes]
    # Processes wait for each other, so one without a row takes part too, with a loss that does not count.
    counts = float(processes) if len(own) else 0.0
    own = own if len(own) else rows[:1]
    while True:
        pieces = np.array_split(own, min(parts, len(own)))
        total = torch.zeros((), device=loop.device)
        try:
            for number, piece in enumerate(pieces, 1):
                waits = accelerator is not None and number < len(pieces)
                with accelerator.no_sync(loop.module) if waits and accelerator is not None else nullcontext():
                    loss = _batch_loss(loop, piece, len(rows)) * counts
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
        loop.module.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        parts = 2 * len(pieces)
        print(
            f"out of memory with {len(pieces[0])} rows at a time: "
            f"from here on batches are computed in {parts} parts, and their gradients accumulated",
            file=sys.stderr,
        )


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Of a device, which has its own error, or of the main memory, which has none."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _read_losses(
    loop: _Loop, losses: list[torch.Tensor], rates: list[float], done: int, batches: Sequence[NDArray[np.int64]]
) -> list[Step]:
    """The steps after the first `done`, their losses read from the device; an `InputError` if one is not finite."""
    stacked = torch.stack(losses)
    values = (stacked if loop.accelerator is None else loop.accelerator.reduce(stacked, "mean")).cpu().tolist()
    for number, (value, rate, rows) in enumerate(zip(values, rates, batches, strict=True), done + 1):
        if not np.isfinite(value):
            named = [str(row) if loop.rows.ids is None else loop.rows.ids[row] for row in rows.tolist()]
            raise InputError(
                f"the training loss of step {number} is {value} at a learning rate of {rate:.3g}; lower "
                f"`learning_rate` or `max_grad_norm`, or check the rows of its batch: {', '.join(named)}"
            )
    return [Step(done + i, value, rate) for i, (value, rate) in enumerate(zip(values, rates, strict=True), 1)]


def _write(path: Path, loop: _Loop, run: _Run) -> None:
    """Replace the checkpoint, so that there is a whole one at every moment; warns where it cannot be written.

    Of processes that train together the first one writes, and all read it.
    """
    if loop.accelerator is not None and not loop.accelerator.is_main_process:
        return
    spent = asdict(run.spent.plus(Spent.now().since(loop.began)))
    state = {
        "run": {**asdict(run), "best_parameters": run.best_parameters, "spent": spent},
        "parameters": [parameter.detach() for parameter in loop.trainable],
        "optimizer": loop.optimizer.state_dict(),
        "schedule": loop.schedule.state_dict(),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    new = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, new)
        new.replace(path)
    except (OSError, RuntimeError):
        # PyTorch hides the error of the system. What is written of it would keep the disk full.
        new.unlink(missing_ok=True)
        warn_once(f"{path}: cannot be written; {GOES_ON}")


def _restore(path: Path, loop: _Loop) -> _Run:
    """Put everything back that `_write` wrote."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    _set_parameters(loop.trainable, state["parameters"])
    loop.optimizer.load_state_dict(state["optimizer"])
    loop.schedule.load_state_dict(state["schedule"])
    torch.set_rng_state(state["random"])
    if state["random_cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["random_cuda"][: torch.cuda.device_count()])
    run = state["run"]
    return _Run(
        **run
        | {
            "steps": [Step(**step) for step in run["steps"]],
            "epochs": [Epoch(**epoch) for epoch in run["epochs"]],
            "best": None if run["best"] is None else Epoch(**run["best"]),
            "spent": Spent(**run["spent"]),
            "best_parameters": [value.to(loop.device) for value in run["best_parameters"]],
        }
    )
