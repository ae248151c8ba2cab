import pytest
import torch

from assay.compute import device
from assay.compute.device import Compute, bfloat16_is_faster, prepare_device


def compute(precision: str) -> Compute:
    return Compute(device="cpu", precision=precision, threads=1, checkpoint_seconds=1.0, backend="processes")  # type: ignore[arg-type]


@pytest.mark.parametrize("is_faster", [True, False])
def test_bfloat16_is_taken_where_it_is_faster_but_never_for_exact_numbers(
    monkeypatch: pytest.MonkeyPatch, is_faster: bool
) -> None:
    monkeypatch.setattr(device, "bfloat16_is_faster", lambda: is_faster)
    expected = torch.bfloat16 if is_faster else torch.float32
    assert prepare_device(compute("auto")).precision == expected
    assert prepare_device(compute("auto"), exact=True).precision == torch.float32
    assert prepare_device(compute("float32")).precision == torch.float32
    assert prepare_device(compute("bfloat16"), exact=True).precision == torch.bfloat16


@pytest.mark.parametrize(
    ("capabilities", "is_faster"),
    [
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_f": True, "avx512_bf16": True, "amx_bf16": False}, True),
        ({"amx_bf16": True}, True),
        ({"neon": True, "bf16": True}, True),
        ({}, False),
    ],
)
def test_the_instructions_decide(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], is_faster: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert bfloat16_is_faster() == is_faster


def test_pytorch_says_what_instructions_there_are() -> None:
    known = torch.cpu.get_capabilities()
    assert any(name in known for name in device.BFLOAT16_INSTRUCTIONS)
