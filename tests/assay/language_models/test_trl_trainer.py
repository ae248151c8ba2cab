from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from assay.compute.device import Device
from assay.core.errors import InputError
from assay.fine_tuning.trainer_params import TrainerParams
from assay.language_models.trl_trainer import read_steps, trainer_arguments

CPU = Device(torch.device("cpu"), torch.float32)


def arguments(batch_size: int, gradient_accumulation_steps: int) -> dict[str, Any]:
    params = TrainerParams(
        max_steps=10, batch_size=batch_size, gradient_accumulation_steps=gradient_accumulation_steps,
        learning_rate=1e-3, warmup_fraction=0.1, max_grad_norm=1.0, gradient_checkpointing=False
    )  # fmt: skip
    return trainer_arguments(params, Path("scratch"), CPU, 1)


@pytest.mark.parametrize(
    ("processes", "batch_size", "gradient_accumulation_steps", "rows", "parts"),
    [(1, 8, 2, 4, 2), (2, 2, 2, 1, 1), (2, 8, 4, 2, 2), (2, 8, 1, 4, 1), (4, 24, 3, 2, 3)],
)
def test_a_step_has_the_same_rows_over_all_processes(
    processes: int,
    batch_size: int,
    gradient_accumulation_steps: int,
    rows: int,
    parts: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    found = arguments(batch_size, gradient_accumulation_steps)
    assert (found["per_device_train_batch_size"], found["gradient_accumulation_steps"]) == (rows, parts)
    assert rows * parts * processes == batch_size


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_batch_that_does_not_divide_into_its_parts_is_refused(batch_size: int) -> None:
    with pytest.raises(ValidationError, match=f"`batch_size` = {batch_size} cannot be divided into 2 parts"):
        arguments(batch_size, 2)


def test_a_batch_that_does_not_come_out_even_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(InputError, match=r"`batch_size` = 4 .* make it a multiple of 6$"):
        arguments(4, 2)


def test_steps_are_those_with_a_loss_and_a_loss_that_is_no_number_is_an_error() -> None:
    history = [
        {"step": 1, "loss": 0.7, "learning_rate": 0.1, "kl": 2.0},
        {"step": 2, "loss": 0.5, "learning_rate": 0.05},
        {"step": 2, "train_runtime": 3.0},
    ]
    trainer = SimpleNamespace(state=SimpleNamespace(log_history=history))
    columns = {"loss": "loss", "kl": "kl_per_token", "learning_rate": "learning_rate"}
    assert read_steps(trainer, "rloo", columns).rows() == [(1, 0.7, 2.0, 0.1), (2, 0.5, None, 0.05)]
    history[1]["loss"] = float("nan")
    message = r"sft@lora: the loss of step 2 is nan .*lower `sft\.lora\.learning_rate` or .*, or raise `x`"
    with pytest.raises(InputError, match=message):
        read_steps(trainer, "sft@lora", columns, ", or raise `x`")
