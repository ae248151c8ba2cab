"""Where and in which precision models run."""

import ctypes
import os
import platform
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field

from assay.core.errors import InputError
from assay.core.params import Params


class Compute(Params):
    """The `compute` section of `params.yaml`, shared by every stage that runs a model."""

    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "float32", "bfloat16"]
    threads: int = Field(ge=1, le=1024)
    checkpoint_seconds: float = Field(ge=0)
    backend: Literal["processes", "ray"]


BFLOAT16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")
"""Of x86 and Arm, as `torch.cpu.get_capabilities` names them: with one of them a CPU multiplies matrices 2 to 4
times as fast in bfloat16, without slower."""


@dataclass(frozen=True)
class Device:
    """A device and the precision of the forward pass on it; weights stay in float32."""

    device: torch.device
    precision: torch.dtype

    def autocast(self) -> torch.autocast:
        """Mixed precision if that is the precision, and nothing otherwise."""
        return torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision != torch.float32)

    def names(self) -> dict[str, str]:
        """Device and precision, as metrics have them."""
        return {"device": str(self.device), "precision": str(self.precision).removeprefix("torch.")}


def bfloat16_is_faster() -> bool:
    """Whether this CPU multiplies matrices clearly faster in bfloat16.

    By what instructions it has: a measurement can go either way on a busy machine, and then one model of a comparison
    would run in another precision than the others.
    """
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in BFLOAT16_INSTRUCTIONS)


def prepare_device(compute: Compute, *, exact: bool = False) -> Device:
    """Choose device and precision, and make PyTorch deterministic on it.

    `auto` is CUDA where there is a device, and bfloat16 where the device has it and, on CPU, where it is clearly
    faster. With `exact` it is float32: for numbers by which rows are chosen, so that the data are the same on any
    machine. If `device` is `cuda` and there is none, an `InputError` is raised.
    """
    has_cuda = torch.cuda.is_available()
    if compute.device == "cuda" and not has_cuda:
        raise InputError(
            "params.yaml: `compute.device` = 'cuda', but PyTorch sees no CUDA device; "
            "set it to 'auto' or 'cpu', or see `make doctor`"
        )
    device = torch.device("cuda" if has_cuda and compute.device != "cpu" else "cpu")
    torch.set_num_threads(compute.threads)
    # Attention with dropout keeps its probabilities for the backward pass: in bfloat16, where that is the precision,
    # which is 100 MiB less of 1,930 for MiniLM on 32 texts of 128 tokens, and no slower.
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)  # on CPU too, whatever its name
    if compute.precision != "auto":
        precision = {"float32": torch.float32, "bfloat16": torch.bfloat16}[compute.precision]
    elif exact:
        precision = torch.float32
    else:
        has_bfloat16 = torch.cuda.is_bf16_supported() if device.type == "cuda" else bfloat16_is_faster()
        precision = torch.bfloat16 if has_bfloat16 else torch.float32
    # cuBLAS is deterministic only with a fixed workspace, set before its first call.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling new memory with NaN finds reads of it in a debugger; here it costs time only.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return Device(device, precision)


# Of glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4


def keep_freed_memory() -> None:
    """Let glibc keep the memory that PyTorch frees on CPU, for the tensors that come next.

    By default every tensor of some MiB is new memory of the kernel's, zeroed page by page. A step of training SmolLM2
    on rows of 512 tokens spent a third to a half of its time on that; the peak rises by some 6%. Without glibc nothing
    happens.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # never
