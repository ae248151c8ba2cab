"""Where and in which precision models run."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from assay.core.errors import InputError
from assay.core.params import Params

if TYPE_CHECKING:  # it takes seconds, and what names a `Device` alone needs none of it
    import torch


class Compute(Params):
    """The `compute` section of `params.yaml`, shared by every stage that runs a model."""

    device: Literal["cpu", "cuda"]
    precision: Literal["float32", "bfloat16"]
    threads: int = Field(ge=1, le=1024)
    processes: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)]
    checkpoint_seconds: float = Field(ge=0)
    backend: Literal["processes", "ray"]


@dataclass(frozen=True)
class Device:
    """A device and the precision of the forward pass on it; weights stay in float32."""

    device: torch.device
    precision: torch.dtype

    def autocast(self) -> torch.autocast:
        """Mixed precision if that is the precision, and nothing otherwise."""
        import torch

        return torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision != torch.float32)

    def names(self) -> dict[str, str]:
        """Device and precision, as metrics have them."""
        return {"device": str(self.device), "precision": str(self.precision).removeprefix("torch.")}


def prepare_device(compute: Compute, *, exact: bool = False) -> Device:
    """The device and precision of params, and PyTorch made deterministic on it.

    With `exact` the precision is float32: for numbers by which rows are chosen, so that the data are the same whatever
    models are trained in. If `device` is `cuda` and there is none, an `InputError` is raised; a line says so if it is
    `cpu` beside a CUDA device.
    """
    import torch

    has_cuda = torch.cuda.is_available()
    if compute.device == "cuda" and not has_cuda:
        raise InputError(
            "params.yaml: `compute.device` = 'cuda', but PyTorch sees no CUDA device; "
            "set it to 'cpu', or see `make doctor`"
        )
    if compute.device == "cpu" and has_cuda:
        name = torch.cuda.get_device_name()
        print(f"compute.device is cpu, but this machine has {name}: `make preset PRESET=gpu` uses it", file=sys.stderr)
    device = torch.device(compute.device)
    torch.set_num_threads(compute.threads)
    # Attention with dropout keeps its probabilities for the backward pass: in bfloat16, where that is the precision.
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)  # on CPU too, whatever its name
    precision = torch.float32 if exact or compute.precision == "float32" else torch.bfloat16
    # cuBLAS is deterministic only with a fixed workspace, set before its first call.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # As `use_deterministic_algorithms` but for `torch.compile`, whose compiler that imports: a second in every stage.
    torch.set_deterministic_debug_mode("warn")
    # Filling new memory with NaN finds reads of it in a debugger; here it costs time only.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return Device(device, precision)


# Of glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4


def keep_freed_memory() -> None:
    """Let glibc keep the memory that PyTorch frees on CPU, for the tensors that come next.

    By default every tensor of some MiB is new memory of the kernel's, zeroed page by page, up to half of the time of a
    training step of SmolLM2. Its peak memory rises by some 6%. Without glibc nothing happens.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # never
