from pathlib import Path

import pytest
import torch
import yaml

from assay.compute.device import Compute, prepare_device
from assay.core.errors import InputError
from assay.core.params import load_params
from tests.own_params import COMPUTE


def test_params_decide_and_exact_numbers_are_always_in_float32() -> None:
    for name, precision in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        compute = Compute.model_validate(COMPUTE | {"precision": name})
        assert prepare_device(compute).precision == precision
        assert prepare_device(compute, exact=True).precision == torch.float32


@pytest.mark.parametrize("key", ["device", "precision"])
def test_auto_of_earlier_versions_is_an_error_that_names_the_fix(tmp_path: Path, key: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump({"compute": COMPUTE | {key: "auto"}}))
    with pytest.raises(InputError, match=f"`compute.{key}` = 'auto'.*write cpu or cuda.*`make calibrate`"):
        load_params("compute", Compute, file)


def test_a_gpu_that_is_not_used_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA X")
    assert prepare_device(Compute.model_validate(COMPUTE)).device.type == "cpu"
    assert "this machine has NVIDIA X: `make preset PRESET=gpu` uses it" in capsys.readouterr().err
