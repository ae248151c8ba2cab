"""Weights in 4 bits (NF4; Dettmers et al. 2023), by bitsandbytes: what is kept of how they were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

ADAPTER_FILE = "adapter_config.json"
QUANTISATION_FILE = "quantisation.json"
"""Stands beside an adapter whose base was in 4 bits: the arguments of `BitsAndBytesConfig`."""


def four_bit_settings(
    double_quantisation: bool, device: torch.device | None, exact_modules: Sequence[str]
) -> dict[str, Any]:
    """Arguments of `BitsAndBytesConfig`; the layers named `exact_modules` stay in full precision."""
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": double_quantisation,
        "bnb_4bit_compute_dtype": "bfloat16" if device is not None and device.type == "cuda" else "float32",
        "llm_int8_skip_modules": list(exact_modules),
    }


def why_no_4_bit(device: torch.device) -> str | None:
    """Why bitsandbytes cannot train on weights in 4 bits here, in one line; None where it can."""
    try:
        import bitsandbytes
        import torch

        layer = bitsandbytes.nn.Linear4bit(64, 64, compute_dtype=torch.float32, quant_type="nf4").to(device)
        layer(torch.ones(2, 64, device=device, requires_grad=True)).sum().backward()
    except Exception as error:  # whatever it is, there is no 4-bit arithmetic here
        message = str(error).strip().splitlines()
        return f"bitsandbytes cannot compute in 4 bits on this {device.type}: {message[0] if message else repr(error)}"
    return None
