import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from assay.classifiers.fits import Epoch, History
from assay.classifiers.training_loop import (
    Checkpoint,
    Logits,
    TrainingRows,
    learning_rate_factor,
    parameter_groups,
    train,
)
from assay.compute.cost import Spent
from assay.core.errors import InputError
from assay.fine_tuning.params import Optimization

ROWS, WIDTH, CLASSES = 44, 6, 3
FEATURES = torch.from_numpy(np.random.default_rng(1).normal(size=(ROWS, WIDTH)).astype(np.float32))
TARGETS = np.random.default_rng(2).integers(0, CLASSES, ROWS)


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, CLASSES))


OPTIMIZATION = Optimization(
    max_epochs=3,
    patience_epochs=1,
    batch_size=8,
    gradient_accumulation_steps=1,
    learning_rate=0.05,
    head_learning_rate=None,
    weight_decay=0.01,
    warmup_fraction=0.1,
    max_grad_norm=1.0,
    label_smoothing=0.0,
)


def fitted(
    model: nn.Sequential,
    logits: Logits | None = None,
    *,
    row_weights: NDArray[np.float64] | None = None,
    checkpoint: Checkpoint | None = None,
    scores: Callable[[int], Epoch | None] = lambda _: None,
    **changes: float | None,
) -> History:
    """Train; `changes` are of the params."""
    return train(
        model,
        logits or (lambda rows: model(FEATURES[rows])),
        TrainingRows(TARGETS, np.ones(ROWS, dtype=np.int64), row_weights, [f"row:{row}" for row in range(ROWS)]),
        scores,
        OPTIMIZATION.model_copy(update=changes),
        np.random.default_rng(4),
        checkpoint=checkpoint,
    )


def logits_of(model: nn.Module, rows: NDArray[np.int64]) -> torch.Tensor:
    logits: torch.Tensor = model(FEATURES[rows])
    return logits


def parameters(model: nn.Module) -> list[NDArray[np.float32]]:
    return [parameter.detach().numpy().copy() for parameter in model.parameters()]


def close(one: nn.Module, other: nn.Module) -> bool:
    return all(np.allclose(a, b, atol=1e-5) for a, b in zip(parameters(one), parameters(other), strict=True))


def without_dropout() -> nn.Sequential:
    model = network()
    model[2] = nn.Identity()
    return model


def test_the_loss_falls_and_every_row_is_seen_each_epoch() -> None:
    seen: list[int] = []
    model = network()

    def logits(rows: NDArray[np.int64]) -> torch.Tensor:
        seen.extend(rows.tolist())
        return logits_of(model, rows)

    history = fitted(model, logits, max_epochs=20)
    assert sorted(seen) == sorted(list(range(ROWS)) * 20)
    assert [step.step for step in history.steps] == list(range(1, 121))
    assert history.steps[-1].loss < history.steps[0].loss
    assert history.best is None


def test_parts_of_a_batch_add_up_to_it() -> None:
    whole, parts = without_dropout(), without_dropout()
    steps = fitted(whole).steps
    assert [step.loss for step in fitted(parts, gradient_accumulation_steps=3).steps] == pytest.approx(
        [s.loss for s in steps]
    )
    assert close(whole, parts)


def test_when_memory_runs_out_the_batch_is_halved_until_it_fits(capsys: pytest.CaptureFixture[str]) -> None:
    whole, halved = without_dropout(), without_dropout()
    fitted(whole)
    refused: list[int] = []

    def logits(rows: NDArray[np.int64]) -> torch.Tensor:
        if len(rows) > 2:
            refused.append(len(rows))
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return logits_of(halved, rows)

    assert fitted(halved, logits).parts == 4
    assert refused == [8, 4]
    assert close(whole, halved)
    assert "batches are computed in 4 parts" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("message", "error", "said"),
    [
        ("DefaultCPUAllocator: can't allocate memory", InputError, r"1 row\(s\) at a time; lower `batch_size`"),
        ("mat1 and mat2 shapes cannot be multiplied", RuntimeError, "shapes"),
    ],
)
def test_what_to_change_is_said_where_memory_does_not_suffice_for_a_row_and_nowhere_else(
    message: str, error: type[Exception], said: str
) -> None:
    def logits(rows: NDArray[np.int64]) -> torch.Tensor:
        raise RuntimeError(message)

    with pytest.raises(error, match=said):
        fitted(network(), logits)


def test_a_loss_that_is_no_number_names_the_step_and_the_rows_of_its_batch() -> None:
    model = network()
    batches: list[NDArray[np.int64]] = []

    def logits(rows: NDArray[np.int64]) -> torch.Tensor:
        batches.append(rows)
        return logits_of(model, rows) * (torch.nan if len(batches) == 9 else 1)

    with pytest.raises(InputError) as error:
        fitted(model, logits)
    assert "step 9 is nan" in str(error.value)
    assert str(error.value).endswith(", ".join(f"row:{row}" for row in batches[8].tolist()))


class KilledError(Exception):
    pass


@pytest.mark.parametrize("last", [1, 6, 9, 17])
def test_a_run_that_was_killed_resumes_and_ends_the_same(
    tmp_path: Path, last: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the middle of an epoch and at its end, with the best epoch's parameters kept, and dropout's draws too."""

    def scores(epoch: int) -> Epoch:
        return Epoch(epoch, 1.0, 0.5, 0.1 if epoch == 3 else epoch / 10)

    uninterrupted = network()
    expected = fitted(uninterrupted, scores=scores)
    killed = network()
    checkpoint = Checkpoint(tmp_path / "scratch/checkpoint.pt", 0.0)
    calls = 0

    def logits(rows: NDArray[np.int64]) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls > last:
            raise KilledError
        return logits_of(killed, rows)

    with pytest.raises(KilledError):
        fitted(killed, logits, checkpoint=checkpoint, scores=scores)
    resumed = network()
    torch.manual_seed(99)
    history = fitted(resumed, checkpoint=checkpoint, scores=scores)
    assert history.resumed_at_step == last
    assert (history.steps, history.epochs, history.best) == (expected.steps, expected.epochs, expected.best)
    for one, other in zip(parameters(resumed), parameters(uninterrupted), strict=True):
        assert np.array_equal(one, other)
    assert f"training resumes after step {last}" in capsys.readouterr().err


def test_a_checkpoint_that_cannot_be_written_warns_once_and_training_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uninterrupted = network()
    expected = fitted(uninterrupted)
    other = network()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # As where the disk is full: files get no longer.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        history = fitted(other, checkpoint=Checkpoint(tmp_path / "scratch/checkpoint.pt", 0.0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert history.steps == expected.steps
    for one, another in zip(parameters(other), parameters(uninterrupted), strict=True):
        assert np.array_equal(one, another)
    assert capsys.readouterr().err.count("checkpoint.pt: cannot be written; training goes on") == 1
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_was_spent_adds_up_over_the_stretches_of_a_killed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By clocks that only steps move: 10 s each, half of it CPU. The step that the checkpoint lacks is lost."""
    steps, model = 0, network()
    monkeypatch.setattr(Spent, "now", lambda: Spent(10.0 * steps, 5.0 * steps))

    def logits(rows: NDArray[np.int64]) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps in (4, 9):
            raise KilledError
        return logits_of(model, rows)

    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", 0.0)
    for _ in range(2):
        with pytest.raises(KilledError):
            fitted(model, logits, checkpoint=checkpoint)
    history = fitted(model, logits, checkpoint=checkpoint)
    assert (history.resumed_at_step, len(history.steps)) == (7, 18)
    assert history.spent == Spent(180.0, 90.0)


@pytest.mark.parametrize(("patience", "epochs", "kept"), [(1, 2, 0), (None, 4, 3)])
def test_the_best_epoch_is_put_back_and_patience_ends_it_or_the_last_one_stays(
    patience: int | None, epochs: int, kept: int
) -> None:
    model = network()
    after: list[list[NDArray[np.float32]]] = []

    def scores(epoch: int) -> Epoch:
        after.append(parameters(model))
        return Epoch(epoch, 1.0, 0.5, 0.9 if epoch == 1 else 0.5)

    history = fitted(model, max_epochs=4, patience_epochs=patience, scores=scores)
    assert (len(history.epochs), history.best) == (epochs, history.epochs[kept])
    for one, other in zip(parameters(model), after[kept], strict=True):
        assert np.array_equal(one, other)


def test_rows_count_as_far_as_their_weight_and_targets_are_smoothed() -> None:
    model = without_dropout()
    weights = np.zeros(ROWS)
    weights[0] = 2.0
    first = fitted(without_dropout(), row_weights=weights, label_smoothing=0.1, max_epochs=1).steps
    losses = [step.loss for step in first if step.loss != 0]
    logits = model(FEATURES[:1])
    smoothed = nn.functional.cross_entropy(logits, torch.from_numpy(TARGETS[:1]), label_smoothing=0.1)
    # Rows of no weight move nothing; weight decay alone does, by less than a hundredth.
    assert losses == pytest.approx([2 * float(smoothed.detach()) / 8], rel=0.01)


def test_the_head_has_its_own_learning_rate() -> None:
    model = network()
    params = OPTIMIZATION.model_copy(update={"learning_rate": 0.01, "weight_decay": 0.1, "head_learning_rate": 0.5})
    groups = parameter_groups(model, params, list(model[3].parameters()))
    found = [([tuple(p.shape) for p in group["params"]], group["lr"], group["weight_decay"]) for group in groups]  # type: ignore[attr-defined]
    assert found == [
        ([(8, WIDTH)], 0.01, 0.1),
        ([(8,)], 0.01, 0.0),
        ([(CLASSES, 8)], 0.5, 0.1),
        ([(CLASSES,)], 0.5, 0.0),
    ]


def test_the_schedule_rises_then_falls_to_nothing() -> None:
    rates = [learning_rate_factor(step, 4, 10) for step in range(11)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0.0])
