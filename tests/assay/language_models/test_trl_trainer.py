from pathlib import Path
from typing import Any

import pytest
import torch

from assay.compute.device import Device
from assay.core.errors import InputError
from assay.language_models.trl_trainer import trainer_arguments

CPU = Device(torch.device("cpu"), torch.float32)


def arguments(batch_size: int, gradient_accumulation_steps: int) -> dict[str, Any]:
    return trainer_arguments(
        Path("scratch"),
        CPU,
        1,
        batch_size=batch_size,
        gradient_accumulation_steps=gradient_accumulation_steps,
        max_steps=10,
        learning_rate=1e-3, weight_decay=0.0, warmup_fraction=0.1, max_grad_norm=1.0, gradient_checkpointing=False,
    )  # fmt: skip


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


@pytest.mark.parametrize(("processes", "batch_size", "multiple"), [(1, 3, 2), (2, 1, 2), (3, 4, 6)])
def test_a_batch_that_does_not_come_out_even_is_an_error(
    processes: int, batch_size: int, multiple: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    with pytest.raises(InputError, match=f"`batch_size` = {batch_size} .* make it a multiple of {multiple}$"):
        arguments(batch_size, 2)
