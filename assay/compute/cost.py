"""What a model cost: time, peak memory and size on disk."""

from __future__ import annotations

import ctypes
import gc
import platform
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MEBIBYTE = 2**20
RESET_PEAK = "5"
"""Written to Linux's `clear_refs`, it takes the peak of the resident set back to what is held now (proc(5))."""


@dataclass(frozen=True)
class Spent:
    """Seconds: by the clock, and of CPU in all threads of this process."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @staticmethod
    def now() -> Spent:
        """What the clocks show; differences of two readings were spent."""
        return Spent(time.perf_counter(), time.process_time())

    def since(self, began: Spent) -> Spent:
        """What was spent between two readings."""
        return Spent(self.seconds - began.seconds, self.cpu_seconds - began.cpu_seconds)

    def plus(self, other: Spent) -> Spent:
        """The sum of two stretches of work."""
        return Spent(self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds)


def reset_peak_memory(device: torch.device | None) -> bool:
    """Let `peak_memory_mib` start anew, so that a fit does not report the peak of a larger one before it.

    What earlier fits freed goes back to the system first, else it would count. False where the system cannot do this
    (main memory, if not on Linux).
    """
    gc.collect()
    if device is not None and device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return True
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text(RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def peak_memory_mib(device: torch.device | None) -> float:
    """Most memory held since `reset_peak_memory`: of the device on CUDA, else of this process (resident set)."""
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
