"""What a model cost: peak memory, parameters and size on disk."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MEBIBYTE = 2**20


def peak_memory_mib(device: torch.device | None) -> float:
    """Most memory held so far: of the device on CUDA, of this process (resident set) on a CPU or without a device."""
    if device is not None and device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / MEBIBYTE
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MEBIBYTE


def folder_mib(folder: Path) -> float:
    """Size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / MEBIBYTE


def training_cost(seconds: float, steps: int, device: torch.device) -> dict[str, float]:
    """What so many optimizer steps took, for `metrics/cost`."""
    return {
        "train_seconds": seconds,
        "seconds_per_step": seconds / max(1, steps),
        "peak_memory_mib": peak_memory_mib(device),
    }
