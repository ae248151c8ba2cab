import pytest
import torch

from assay.compute.device import Compute, prepare_device
from tests.own_params import COMPUTE


def test_params_decide_and_exact_numbers_are_always_in_float32() -> None:
    for name, precision in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        compute = Compute.model_validate(COMPUTE | {"precision": name})
        assert prepare_device(compute).precision == precision
        assert prepare_device(compute, exact=True).precision == torch.float32


def test_a_gpu_that_is_not_used_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA X")
    assert prepare_device(Compute.model_validate(COMPUTE)).device.type == "cpu"
    assert "this machine has NVIDIA X: `make preset PRESET=gpu` uses it" in capsys.readouterr().err
