"""Where and in which precision models run."""

import os
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field

from stages.lib.errors import InputError
from stages.lib.params import Params


class Compute(Params):
    """The `compute` section of `params.yaml`, shared by every stage that runs a model."""

    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "float32", "bfloat16"]
    threads: int = Field(ge=1, le=1024)


@dataclass(frozen=True)
class Device:
    """A device and the precision of the forward pass on it; weights stay in float32."""

    device: torch.device
    precision: torch.dtype

    def autocast(self) -> torch.autocast:
        """Mixed precision where it is asked for, and nothing otherwise."""
        return torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision != torch.float32)


def prepare_device(compute: Compute) -> Device:
    """Choose device and precision, and make PyTorch deterministic on it.

    `auto` is CUDA where there is a device, and bfloat16 where that device has it; on a CPU, float32, since bfloat16
    without matrix instructions for it is slower.

    Raises:
        InputError: CUDA is asked for and not there.
    """
    has_cuda = torch.cuda.is_available()
    if compute.device == "cuda" and not has_cuda:
        raise InputError(
            "params.yaml: `compute.device` = 'cuda', but PyTorch sees no CUDA device; "
            "set it to 'auto' or 'cpu', or see `make doctor`"
        )
    device = torch.device("cuda" if has_cuda and compute.device != "cpu" else "cpu")
    if compute.precision == "auto":
        precision = torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    else:
        precision = {"float32": torch.float32, "bfloat16": torch.bfloat16}[compute.precision]
    torch.set_num_threads(compute.threads)
    # cuBLAS is deterministic only with a fixed workspace, set before its first call.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling new memory with NaN finds reads of it in a debugger; here it costs time only.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return Device(device, precision)
